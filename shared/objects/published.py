"""What a kind shows to callers outside: its `@public` methods, typed by their annotations.

The annotations of a method are the whole of its contract: arguments are decoded by them, the reply is
encoded by them, and the OpenAPI document is made of them. So what cannot be told in JSON, or told in
two ways, is refused when the kind is registered, with a sentence that names the class and the method,
and never at a call. A parameter that is an object must refuse fields that it does not know, as all
input does.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import msgspec

from shared.bounds import KIND_BYTES_MAX
from shared.errors import ConfigurationError
from shared.objects.handler import DurableObject
from shared.objects.migrations import migrations_of
from shared.objects.parking import reply_type

# A kind stands in a path as it is, so that nobody has to encode it.
_KIND = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{KIND_BYTES_MAX - 1}}}")
_SHOWN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_RESERVED = frozenset(dir(DurableObject))
_ON_MESSAGE = "on_socket_message"
_OF_SOCKETS = frozenset({"socket", "tickets"})  # Paths of a kind that takes sockets.


class PublicMethod(msgspec.Struct, frozen=True, kw_only=True):
    """One method that callers outside may call."""

    name: str
    function: Callable[..., Any]
    parameters: type[msgspec.Struct]
    """Its arguments, as fields in the order of the parameters. Refuses unknown fields."""
    reply: Any
    """The annotation of what its caller gets."""
    readonly: bool


class PublishedKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind with what it shows; it may show nothing and live by alarms and calls of other objects."""

    name: str
    cls: type[DurableObject]
    methods: tuple[PublicMethod, ...]
    message: Any = None
    """What its sockets take as the message of a frame."""
    takes_sockets: bool = False


def published(cls: type[DurableObject]) -> PublishedKind:
    """The kind that `cls` is, checked.

    Raises:
        ConfigurationError: its name, its way of being stored or one of its public methods cannot stand.
    """
    _check_kind(cls)
    methods = tuple(_public_method(cls, name) for name in sorted(public_names(cls)))
    takes_sockets = hasattr(cls, _ON_MESSAGE)
    message = _message(cls, {method.name for method in methods}) if takes_sockets else None
    return PublishedKind(name=cls.kind, cls=cls, methods=methods, message=message, takes_sockets=takes_sockets)


def _check_kind(cls: type[DurableObject]) -> None:
    named = f"{cls.__module__}.{cls.__name__}"
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ConfigurationError(
            f"{named} has the kind {kind!r}, but a kind is 1 to {KIND_BYTES_MAX} letters, digits, '-' and '_' "
            f"of ASCII, beginning with a letter or digit."
        )
    if cls.durability not in ("committed", "checkpointed"):
        raise ConfigurationError(f"{named} has the durability {cls.durability!r}, not 'committed' or 'checkpointed'.")
    if cls.native and (cls.durability != "checkpointed" or cls.indexed):
        raise ConfigurationError(f"{named} is native, so it must be 'checkpointed' and not indexed.")
    try:
        migrations_of(cls)
    except ValueError as exc:
        raise ConfigurationError(f"{named} {exc}.") from exc


def public_names(cls: type[DurableObject]) -> Iterator[str]:
    """The names under which something marked stands, whether or not it can be called."""
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        inner = getattr(found, "__func__", None)  # Of a static or class method, wherever the mark was put.
        if hasattr(found, "__tenure_public__") or hasattr(inner, "__tenure_public__"):
            yield name


def shown_names(cls: type[DurableObject]) -> list[str]:
    """The names by which callers outside reach what is marked, sorted."""
    return sorted(_shown_name(name, inspect.getattr_static(cls, name)) for name in public_names(cls))


def _public_method(cls: type[DurableObject], name: str) -> PublicMethod:
    function = inspect.getattr_static(cls, name)
    shown = _shown_name(name, function)
    try:
        _check_function(name, function)
        _check_shown_name(cls, name, shown)
        hints = _hints(function)
        reply = reply_type(hints["return"])
        _check_type(reply, "its return type")
        parameters = _parameters(cls, name, function, hints)
    except _UnsuitableError as exc:
        raise ConfigurationError(f"{cls.__module__}.{cls.__name__}.{name} cannot be public: {exc}.") from exc
    return PublicMethod(
        name=shown,
        function=function,
        parameters=parameters,
        reply=reply,
        readonly=hasattr(function, "__tenure_readonly__"),
    )


def _shown_name(name: str, function: Any) -> str:
    """The name by which callers reach it: its own, or the one that `public_as` says."""
    mark = getattr(function, "__tenure_public__", True)
    return mark if isinstance(mark, str) else name


def _check_shown_name(cls: type[DurableObject], name: str, shown: str) -> None:
    if shown == name:
        return
    if not _SHOWN.fullmatch(shown):
        raise _UnsuitableError(
            f"{shown!r} is no name in a path: ASCII letters, digits and '_', beginning with a letter"
        )
    others = (other for other in public_names(cls) if other != name)
    if any(_shown_name(other, inspect.getattr_static(cls, other)) == shown for other in others):
        raise _UnsuitableError(f"another method is reached as {shown!r}")


def _message(cls: type[DurableObject], methods: set[str]) -> Any:
    """The type of a frame's message, by the annotation of `on_socket_message(self, socket, message)`."""
    named = f"{cls.__module__}.{cls.__name__}"
    if cls.durability != "committed":
        raise ConfigurationError(
            f"{named} takes sockets, so it must be 'committed': nothing is heard before its commit."
        )
    if taken := sorted(_OF_SOCKETS & methods):
        raise ConfigurationError(f"{named} takes sockets, so no public method of it can be named {taken[0]!r}.")
    function = inspect.getattr_static(cls, _ON_MESSAGE)
    try:
        if not inspect.isfunction(function) or len(arguments := _arguments(function)) != 2:
            raise _UnsuitableError("it must be a plain method that takes a socket and a message")
        message = _hints(function, returns=False)[arguments[1].name]
        _check_type(message, f"its parameter {arguments[1].name!r}", incoming=True)
    except _UnsuitableError as exc:
        raise ConfigurationError(f"{named}.{_ON_MESSAGE} cannot take messages: {exc}.") from exc
    return message


class _UnsuitableError(Exception):
    """Why a method cannot be public."""


def _check_function(name: str, function: Any) -> None:
    if name in _RESERVED:
        raise _UnsuitableError("the name is one of DurableObject's own")
    if name.startswith("_") or not name.isascii():
        raise _UnsuitableError("a name in a path is ASCII and does not begin with '_'")
    if (
        not inspect.isfunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise _UnsuitableError("only a plain method, `def` or `async def`, can be a turn")
    if function.__name__ != name:
        raise _UnsuitableError(f"it is another name for {function.__name__!r}")


def _hints(function: Callable[..., Any], *, returns: bool = True) -> dict[str, Any]:
    """The annotations, of which none is missing."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as exc:  # Annotations are code of the author's, and may raise anything.
        raise _UnsuitableError(f"its annotations cannot be read ({type(exc).__name__}: {exc})") from exc
    for parameter in _arguments(function):
        if parameter.name not in hints:
            raise _UnsuitableError(f"its parameter {parameter.name!r} has no annotation")
    if returns and "return" not in hints:
        raise _UnsuitableError("what it returns has no annotation")
    return hints


def _arguments(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters behind `self`, all of which can be given by position, as a call gives them."""
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind not in _POSITIONAL:
            raise _UnsuitableError(f"its parameter {parameter.name!r} cannot be given by position")
    if not parameters:
        raise _UnsuitableError("it has no parameter `self`")
    return parameters[1:]


def _parameters(
    cls: type[DurableObject], name: str, function: Callable[..., Any], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in _arguments(function):
        type_ = hints[parameter.name]
        _check_type(type_, f"its parameter {parameter.name!r}", incoming=True)
        given = () if parameter.default is parameter.empty else (parameter.default,)
        fields.append((parameter.name, type_, *given))
    title, home = f"{cls.__name__}.{name}", cls.__module__
    try:
        return msgspec.defstruct(title, fields, module=home, forbid_unknown_fields=True, frozen=True, kw_only=True)
    except TypeError as exc:
        raise _UnsuitableError(f"its parameters cannot be read from JSON ({exc})") from exc


def _check_type(type_: Any, what: str, *, incoming: bool = False) -> None:
    """Refuse a type that JSON cannot carry, and for input one that would pass over fields it does not know."""
    try:
        msgspec.json.Decoder(type_)
        _, objects = msgspec.json.schema_components([type_])
    except (TypeError, ValueError, NameError) as exc:
        raise _UnsuitableError(f"{what} cannot be told in JSON ({' '.join(str(exc).split())})") from exc
    for name, schema in objects.items() if incoming else ():
        if "properties" in schema and schema.get("additionalProperties") is not False:
            raise _UnsuitableError(
                f"{what} takes a {name}, which must be a msgspec.Struct with forbid_unknown_fields=True"
            )
