"""What is wrong with a definition: all of it, each with its place, so that an author mends it in one go."""

from collections.abc import Iterator

import msgspec

from services.workflows.bounds import PROBLEMS_MAX
from shared.errors import InvalidInputError


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `at` is a JSON pointer (RFC 6901); the empty one is the whole text."""

    at: str
    message: str
    line: int = 0
    """Counted from 1, for YAML; 0 where it is not known."""


class DefinitionError(InvalidInputError):
    """A definition cannot be taken. `problems` has every one that was found, in the order of the text."""

    code = "definition.invalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.message}{others}", first.at)
        self.problems = problems


class Place(msgspec.Struct, frozen=True):
    """Where in the tree something stands."""

    parts: tuple[str, ...] = ()

    def __truediv__(self, part: str | int) -> "Place":
        """The place of a member or an item."""
        return Place((*self.parts, str(part)))

    @property
    def pointer(self) -> str:
        """As a JSON pointer."""
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in self.parts)


class Problems:
    """Collects them, 200 at most."""

    def __init__(self, lines: dict[str, int] | None = None) -> None:
        self._lines = {} if lines is None else lines  # The reader goes on filling its own.
        self._found: dict[tuple[str, str], Problem] = {}

    def add(self, at: Place, message: str) -> None:
        """Note a problem. The same one at the same place counts once."""
        pointer = at.pointer
        if len(self._found) < PROBLEMS_MAX:
            self._found.setdefault((pointer, message), Problem(at=pointer, message=message, line=self._line(at)))

    def __iter__(self) -> Iterator[Problem]:
        """In the order of the text where lines are known, else as they were found."""
        return iter(sorted(self._found.values(), key=lambda problem: problem.line))

    def __len__(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        """End here if anything is wrong.

        Raises:
            DefinitionError: with all that was found.
        """
        if self._found:
            raise DefinitionError(tuple(self))

    def _line(self, at: Place) -> int:
        """The line of the place, or of the nearest thing around it: what is missing has none."""
        while at.parts and at.pointer not in self._lines:
            at = Place(at.parts[:-1])
        return self._lines.get(at.pointer, 0)
