"""What a kind may show is read off its annotations, and what cannot be told is refused by name."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from msgspec import Meta

from shared.errors import ConfigurationError
from shared.objects.handler import DurableObject, public, public_as, readonly
from shared.objects.published import published, shown_names


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input as it should be."""

    id: int


class Open(msgspec.Struct, frozen=True):
    """Passes over what it does not know: fine as an answer, not as input."""

    id: int


class Shelf(DurableObject):
    kind = "shelf"

    @public
    async def put(self, item: Closed, count: Annotated[int, Meta(ge=1)] = 1) -> Open:
        return Open(item.id + count)

    @public
    @readonly
    def look(self, /) -> list[Open]:
        return []

    def hidden(self, anything):
        """Not public, so it may be typed as its author likes."""

    def on_alarm(self, alarm: Any) -> None:
        """A hook."""


class Narrower(Shelf):
    kind = "narrower"

    @readonly
    def look(self, /) -> list[Open]:
        """Overridden and not marked again."""
        return []


def test_public_methods_are_typed_by_their_annotations() -> None:
    """Arguments are fields in the order of the parameters; what is not marked is not there."""
    kind = published(Shelf)
    look, put = kind.methods
    put_fields = [(field.name, field.type, field.required) for field in msgspec.structs.fields(put.parameters)]

    assert ("shelf", Shelf) == (kind.name, kind.cls)
    assert ("look", list[Open], True, ()) == (look.name, look.reply, look.readonly, look.parameters.__struct_fields__)
    assert ("put", Open, False, Shelf.put) == (put.name, put.reply, put.readonly, put.function)
    assert [("item", Closed, True), ("count", Annotated[int, Meta(ge=1)], False)] == put_fields
    assert (Closed(1), 1) == msgspec.structs.astuple(msgspec.json.decode(b'{"item":{"id":1}}', type=put.parameters))


def test_an_override_that_is_not_marked_hides_the_method() -> None:
    """A subclass shows what it says itself, and inherits the rest."""
    assert ["put"] == [method.name for method in published(Narrower).methods]


class NoAnnotation:
    @public
    def bad(self, amount) -> int:
        return 1


class NoReturn:
    @public
    def bad(self, amount: int):
        return amount


class Several:
    @public
    def bad(self, *amounts: int) -> int:
        return sum(amounts)


class ByName:
    @public
    def bad(self, *, amount: int) -> int:
        return amount


class Keywords:
    @public
    def bad(self, **amounts: int) -> int:
        return len(amounts)


class NoSelf:
    @public
    def bad() -> int:  # type: ignore[misc]  # The mistake that is refused.
        return 1


class Untellable:
    @public
    def bad(self, amount: complex) -> int:
        return 1


class UntellableReply:
    @public
    def bad(self) -> DurableObject:
        return Shelf.__new__(Shelf)


class OpenInput:
    @public
    def bad(self, items: list[Open]) -> int:
        return len(items)


class TwoStructs:
    @public
    def bad(self, item: Closed | Open) -> int:
        return 1


class UnknownName:
    @public
    def bad(self, item: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821  # The mistake that is refused.
        return 1


class MutableDefault:
    @public
    def bad(self, items: list[int] = [1]) -> int:  # noqa: B006  # The mistake that is refused.
        return len(items)


class Generator:
    @public
    def bad(self) -> Iterator[int]:
        yield 1


class Static:
    @staticmethod
    @public
    def bad(amount: int) -> int:
        return amount


class ClassWide:
    @public
    @classmethod
    def bad(cls, amount: int) -> int:
        return amount


class Alias:
    @public
    def good(self) -> int:
        return 1

    bad = good


class Constant:
    bad: ClassVar[Any] = type("Marked", (), {"__tenure_public__": True})()


@pytest.mark.parametrize(
    ("mistake", "why"),
    [
        (NoAnnotation, "its parameter 'amount' has no annotation"),
        (NoReturn, "what it returns has no annotation"),
        (Several, "its parameter 'amounts' cannot be given by position"),
        (ByName, "its parameter 'amount' cannot be given by position"),
        (Keywords, "its parameter 'amounts' cannot be given by position"),
        (NoSelf, "it has no parameter `self`"),
        (Untellable, "its parameter 'amount' cannot be told in JSON"),
        (UntellableReply, "its return type cannot be told in JSON"),
        (
            OpenInput,
            "its parameter 'items' takes a Open, which must be a msgspec.Struct with forbid_unknown_fields=True",
        ),
        (TwoStructs, "its parameter 'item' cannot be told in JSON"),
        (UnknownName, "its annotations cannot be read (NameError: name 'Nowhere' is not defined)"),
        (MutableDefault, "its parameters cannot be read from JSON"),
        (Generator, "only a plain method, `def` or `async def`, can be a turn"),
        (Static, "only a plain method, `def` or `async def`, can be a turn"),
        (ClassWide, "only a plain method, `def` or `async def`, can be a turn"),
        (Alias, "it is another name for 'good'"),
        (Constant, "only a plain method, `def` or `async def`, can be a turn"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_what_cannot_be_told_is_refused_by_class_and_method(mistake: type, why: str) -> None:
    """One sentence that says where it stands and what is wrong with it."""
    cls = type("Wrong", (mistake, DurableObject), {"kind": "wrong"})
    with pytest.raises(ConfigurationError) as raised:
        published(cls)

    assert str(raised.value).startswith(f"{__name__}.Wrong.bad cannot be public: {why}")


@pytest.mark.parametrize("name", ["on_alarm", "commit", "storage", "_add", "__call__", "zähle"])
def test_names_that_cannot_stand_are_refused(name: str) -> None:
    """The core's own, private ones, and those that a path would have to encode."""

    def method(self: Any) -> int:
        return 1

    method.__name__ = name
    cls = type("Wrong", (DurableObject,), {"kind": "wrong", name: public(method)})
    with pytest.raises(ConfigurationError, match=rf"\.Wrong\.{name} cannot be public: "):
        published(cls)


def test_a_method_can_be_reached_by_a_name_that_is_taken() -> None:
    """As `commit`, which every object has for itself."""

    class Deal(DurableObject):
        kind = "deal"

        @public_as("commit")
        def seal(self, count: int) -> int:
            return count

    (method,) = published(Deal).methods
    assert ["commit"] == shown_names(Deal)
    assert ("commit", Deal.seal) == (method.name, method.function)


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("", "'' is no name"),
        ("a/b", "'a/b' is no name"),
        ("_a", "'_a' is no name"),
        ("other", "another method is reached"),
    ],
)
def test_a_name_that_cannot_be_reached_is_refused(shown: str, why: str) -> None:
    """It stands in a path as it is, and stands for one method."""

    class Wrong(DurableObject):
        kind = "wrong"

        @public_as(shown)
        def method(self) -> int:
            return 1

        @public
        def other(self) -> int:
            return 2

    with pytest.raises(ConfigurationError, match=rf"Wrong\.method cannot be public: {why}"):
        published(Wrong)


@pytest.mark.parametrize("kind", ["", "a" * 65, "a/b", "a b", "ä", "..", "-a", None, 7])
def test_a_kind_must_fit_into_a_path_and_an_address(kind: Any) -> None:
    """1 to 64 letters, digits, dashes and underscores; a class without one is no kind."""
    with pytest.raises(ConfigurationError, match=r"\.Wrong has the kind .*, but a kind is 1 to 64 letters"):
        published(type("Wrong", (DurableObject,), {} if kind is None else {"kind": kind}))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"durability": "sometimes"}, "has the durability 'sometimes'"),
        ({"native": True, "indexed": False}, "is native, so it must be 'checkpointed'"),
        ({"native": True, "durability": "checkpointed"}, "is native, so it must be 'checkpointed' and not indexed"),
    ],
)
def test_a_kind_that_could_not_be_stored_is_refused(members: dict[str, Any], why: str) -> None:
    """What the host would trip over is said at the start."""
    with pytest.raises(ConfigurationError, match=why):
        published(type("Wrong", (DurableObject,), {"kind": "wrong", **members}))
