"""JSON merge patch: a null removes a member, an object is merged member by member, all else replaces. Pure.

What it cannot say is part of the contract: a null is never stored, and an array is replaced whole.

Source: RFC 7396.
"""

from typing import Any

DEPTH_MAX = 32  # Of objects in each other: deeper than any state of a page, and far from every recursion limit.


def merged(target: Any, patch: Any, *, depth: int = 0) -> Any:
    """The value that `patch` makes of `target`; neither is changed.

    Raises:
        ValueError: the patch has more than 32 objects in each other.
    """
    if not isinstance(patch, dict):
        return patch
    if depth >= DEPTH_MAX:
        raise ValueError(f"At most {DEPTH_MAX} objects may stand in each other")
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value, depth=depth + 1)
    return result
