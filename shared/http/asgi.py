"""The types of ASGI 3.0, for code that answers without a framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, header fields, body."""


class Prompt(NamedTuple):
    """Where an application can answer without waiting: a server that asks there first spares a task a request."""

    paths: tuple[str, ...]
    """What the paths begin with."""
    answer: Callable[[Scope, bytes], Answer | None]
    """(scope, body) of a request that is here whole, to its answer; None: ask the application, nothing has happened."""
