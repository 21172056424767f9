"""JSON bodies, taken at their word: no type is coerced, no field ignored, no byte guessed.

Litestar asks msgspec to be lenient, so that "1" and 1.0 pass for an integer, and lets two errors
of the decoder through as faults of the server. Here a body is decoded once, straight into the
type that the handler declares, and everything that is wrong with it is an `InvalidInputError` that
says where. A rule that the type writes as a pattern is told in the words of its description.

msgspec cannot see a repeated key: the last value counts. So a body that is kept is read a second
time for that alone (20 us for a policy of eight limits). A check is not: two readings of it would cost
more than the check. Its routes say `REPEATED_KEYS`.

Sources: RFC 8259 4 (repeated names), OWASP ASVS 5.0 V1.5.3 and V15.3.5.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from litestar import Request

from shared.bounds import NESTING_MAX
from shared.errors import InvalidInputError

REPEATED_KEYS = "repeated_keys"
"""Option of a route handler: of a key that its body has twice, the last value counts."""

T = TypeVar("T")
_TRUNCATED = "Input data was truncated"
_NO_SUCH_VALUE = "Invalid enum value"
_TOO_DEEP = f"The body is nested too deeply: at most {NESTING_MAX} arrays and objects may be in each other"
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))
_STEP = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


def strict_decoder(type_: type[T]) -> Callable[[bytes], T]:
    """A function that decodes JSON into `type_`.

    Raises:
        InvalidInputError (the function): what came is not JSON, not UTF-8, nested too deeply, or not
            a `type_`; `where` is the JSON path.
    """
    decode_bytes = msgspec.json.Decoder(type_).decode

    @cache
    def schema() -> dict[str, Any]:
        return msgspec.json.schema(type_)

    @cache
    def words() -> dict[str, str]:
        return dict(_rules_in_words(schema()))

    def decode(body: bytes) -> T:
        try:
            value = decode_bytes(body)
        except msgspec.ValidationError as exc:
            detail, _, place = str(exc).partition(" - at ")
            where = place.replace("`", "") or "$"
            if detail.startswith(_NO_SUCH_VALUE) and (values := _values_at(schema(), where)):
                detail = f"{detail}; there are {', '.join(map(str, values))}"
            raise InvalidInputError(words().get(detail, detail), where) from exc
        except msgspec.DecodeError as exc:
            raise InvalidInputError(_what_is_broken(str(exc), body), "$") from exc
        except UnicodeDecodeError as exc:
            raise InvalidInputError("The body is not UTF-8", "$") from exc
        except RecursionError as exc:
            raise InvalidInputError(_TOO_DEEP, "$") from exc
        if is_too_deep(body):
            raise InvalidInputError(_TOO_DEEP, "$")
        return value

    return decode


def is_too_deep(json: bytes) -> bool:
    """Whether JSON has more than 128 arrays and objects in each other; what few of them there are is not looked at.

    A decoder takes up to a thousand, less what stands on the stack: so one that took them once fails another time.
    """
    if json.count(b"[") + json.count(b"{") <= NESTING_MAX:
        return False
    brackets = _TEXT.sub(b"", json).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > NESTING_MAX


def check_keys(body: bytes) -> None:
    """Refuse JSON in which one object has a key twice.

    Raises:
        InvalidInputError: it names the first such key, and `where` is its path.
    """
    try:
        # Numbers are left as they are written: only keys are looked at.
        _check_keys(json.loads(body, object_pairs_hook=_Members, parse_int=str, parse_float=str), "$")
    except RecursionError as exc:
        raise InvalidInputError(_TOO_DEEP, "$") from exc


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is decoded into the annotation of the handler's `data`, strictly."""

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            InvalidInputError: it is not what the handler declares, or has a key twice.
        """
        field = self.route_handler.parsed_data_field
        body = await self.body()
        decoded = _decoder(Any if field is None else field.annotation)(body)
        if not self.route_handler.opt.get(REPEATED_KEYS):
            check_keys(body)
        return decoded


class _Members(list[tuple[str, Any]]):
    """An object of JSON as it was written: its members in their order, the repeated ones too."""


def _values_at(schema: dict[str, Any], where: str) -> list[Any]:
    """The values that may stand at a place of what `schema` describes; none if there it says of no such list."""
    nodes = [schema]
    for step in _STEP.finditer(where):
        below = [_resolved(schema, node) for node in nodes]
        members = (node.get("items", node.get("additionalProperties")) for node in below)
        inner = (node.get("properties", {}).get(step[1]) for node in below) if step[1] else members
        nodes = [one for node in inner if isinstance(node, dict) for one in node.get("anyOf", [node])]
    return [value for node in nodes for value in _resolved(schema, node).get("enum", ())]


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def _what_is_broken(said: str, body: bytes) -> str:
    """What the decoder says; but it also calls a body truncated that has half of a surrogate pair in a text."""
    if not body.strip():
        return "The body is empty"
    if said != _TRUNCATED:
        return said
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "The body ends before its JSON does"
    return "A text has one half of a surrogate pair (\\ud800 to \\udfff), which is no character"


def _check_keys(value: Any, where: str) -> None:
    if isinstance(value, _Members):
        seen = set()
        for key, member in value:
            if key in seen:
                raise InvalidInputError(f"The key {key!r} stands here twice", f"{where}.{key}")
            seen.add(key)
            _check_keys(member, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_keys(item, f"{where}[{index}]")


def _rules_in_words(schema: Any) -> Iterator[tuple[str, str]]:
    """For each pattern of a schema that has a description: what msgspec says of it, and what we say."""
    if isinstance(schema, dict):
        pattern, description = schema.get("pattern"), schema.get("description")
        if isinstance(pattern, str) and isinstance(description, str):
            yield f"Expected `str` matching regex {pattern!r}", f"Expected {description}"
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _rules_in_words(inner)


@cache
def _decoder(annotation: Any) -> Callable[[bytes], Any]:
    return strict_decoder(annotation)
