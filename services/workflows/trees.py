"""Looking into a tree that may have the wrong form: what is not of the expected type counts as not there."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from services.workflows.problems import Place


class Found(NamedTuple):
    """A value and where it stands."""

    at: Place
    value: Any


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """The value if it is text, else none."""
    return value if isinstance(value, str) else ""


def items_of(tree: dict[str, Any], key: str, at: Place) -> Iterator[Found]:
    """The items of the list under `key`."""
    items = tree.get(key)
    if isinstance(items, list):
        for number, item in enumerate(items):
            yield Found(at / key / number, item)


def mappings_of(tree: dict[str, Any], key: str, at: Place) -> list[Found]:
    """Those of them that are mappings."""
    return [found for found in items_of(tree, key, at) if isinstance(found.value, dict)]
