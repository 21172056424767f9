"""Text into a tree of plain values, with the line of each. What YAML and JSON can do beyond that is refused.

A definition comes from outside. So its size is bounded before it is parsed; anchors and aliases are refused (a few
lines of them grow without bound), tags too (they name types of programs), and a key that stands twice is an error and
not a guess. Scalars are those of YAML 1.2: `no`, `on` and `12:30` are text, only `true` and `false` are flags.

The text is read as a stream of events and never by recursion, so depth is a bound and no crash.
"""

import json
import re
from typing import Any

import yaml

from services.workflows.bounds import DEFINITION_BYTES_MAX, DEFINITION_DEPTH_MAX
from services.workflows.problems import Place, Problems

_SCALARS: tuple[
    tuple[re.Pattern[str], Any], ...
] = (  # The core schema of YAML 1.2 (10.3.2), less octal, hexadecimal, infinity.
    (re.compile(r"|~|null|Null|NULL"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]{1,300}"), int),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?"), float),
)


class _Unreadable(Exception):  # noqa: N818  # Only a way out of a loop; it never leaves this file.
    """The rest of the text means nothing."""


class _Open:
    """A list or a mapping that has begun and not ended."""

    def __init__(self, value: dict[str, Any] | list[Any], at: Place) -> None:
        self.value = value
        self.at = at
        self.key: str | None = None
        self.keys: set[str] = set()


class _YamlReader:
    """Builds the tree from events."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.problems = Problems(self.lines)
        self.root: Any = None
        self._stack: list[_Open] = []
        self._documents = 0

    def read(self, text: str) -> None:
        """Take every event of the text."""
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.YAMLError as error:
            self._refuse(_where(error), f"This is no YAML: {_reason(error)}")
        except _Unreadable:
            return

    def _take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._refuse(line, "The text has more than one document")
                raise _Unreadable
        if isinstance(event, yaml.AliasEvent):
            self._refuse(line, f"Aliases are not taken: *{event.anchor}")
            self._put(None, line)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            self._refuse_extras(event, line)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin({}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin([], line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()

    def _refuse_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.anchor is not None:
            self._refuse(line, f"Anchors are not taken: &{event.anchor}")
        if event.tag is not None and event.tag != "!":
            self._refuse(line, f"Tags are not taken: {event.tag}")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        top = self._stack[-1] if self._stack else None
        if top and isinstance(top.value, dict) and top.key is None:
            self._key(top, event.value, line)
        else:
            self._put(_plain(event.value) if event.implicit[0] else event.value, line)

    def _key(self, top: _Open, key: str, line: int) -> None:
        if key in top.keys:
            self.lines[(top.at / key).pointer] = line
            self.problems.add(top.at / key, f"The key {key!r} stands twice")
        top.keys.add(key)
        top.key = key

    def _begin(self, value: dict[str, Any] | list[Any], line: int) -> None:
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            self._refuse(line, "A key is text, no list and no mapping")
            raise _Unreadable
        if len(self._stack) >= DEFINITION_DEPTH_MAX:
            self._refuse(line, f"Lists and mappings are nested more than {DEFINITION_DEPTH_MAX} deep")
            raise _Unreadable
        self._stack.append(_Open(value, self._put(value, line)))

    def _put(self, value: Any, line: int) -> Place:
        """Hang the value into what is open; its place."""
        if not self._stack:
            self.root = value
            self.lines[""] = line
            return Place()
        top = self._stack[-1]
        if isinstance(top.value, list):
            at = top.at / len(top.value)
            top.value.append(value)
        else:
            assert top.key is not None, "a value follows its key"
            at = top.at / top.key
            top.value[top.key] = value
            top.key = None
        self.lines[at.pointer] = line
        return at

    def _refuse(self, line: int, message: str) -> None:
        at = self._stack[-1].at if self._stack else Place()
        self.lines.setdefault(at.pointer, line)
        self.problems.add(at, f"{message} (line {line})")


class Source:
    """A text as a tree, and what was wrong with it so far."""

    def __init__(self, tree: Any, problems: Problems) -> None:
        self.tree = tree
        self.problems = problems


def read_yaml(text: str) -> Source:
    """The tree of a YAML text. What could not be read is left out of it and stands in `problems`."""
    reader = _YamlReader()
    if _fits(text, reader.problems):
        reader.read(text)
    return Source(reader.root, reader.problems)


def read_json(text: str) -> Source:
    """The tree of a JSON text. What could not be read is left out of it and stands in `problems`."""
    problems = Problems()
    if not _fits(text, problems):
        return Source(None, problems)
    doubled: list[str] = []
    try:
        tree = json.loads(text, object_pairs_hook=lambda pairs: _members(pairs, doubled), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        problems.add(Place(), f"This is no JSON: {error.msg} (line {error.lineno}, column {error.colno})")
        return Source(None, problems)
    except (RecursionError, ValueError) as error:
        problems.add(Place(), f"This is no JSON that can be read: {error}")
        return Source(None, problems)
    for key in doubled:
        problems.add(Place(), f"The key {key!r} stands twice in one object")
    if _depth(tree) > DEFINITION_DEPTH_MAX:
        problems.add(Place(), f"Arrays and objects are nested more than {DEFINITION_DEPTH_MAX} deep")
        return Source(None, problems)
    return Source(tree, problems)


def _fits(text: str, problems: Problems) -> bool:
    size = len(text.encode(errors="replace"))
    if size > DEFINITION_BYTES_MAX:
        problems.add(Place(), f"A definition has at most {DEFINITION_BYTES_MAX} bytes; this has {size}")
        return False
    return True


def _plain(text: str) -> Any:
    """What an unquoted scalar means."""
    for pattern, make in _SCALARS:
        if pattern.fullmatch(text):
            return make(text)
    return text


def _members(pairs: list[tuple[str, Any]], doubled: list[str]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        doubled.extend(sorted({key for key in keys if keys.count(key) > 1}))
    return members


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _depth(tree: Any) -> int:
    depth, level = 0, [tree]
    while level := [child for value in level for child in _children(value)]:
        depth += 1
    return depth


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _where(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else 1


def _reason(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
