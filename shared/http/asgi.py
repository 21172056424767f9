"""The types of ASGI 3.0, for code that answers without a framework."""

from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, NamedTuple, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, header fields, body."""
Coming: TypeAlias = Coroutine[Any, Any, Answer]
"""One that has to be waited for."""


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer that is there whole."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Prompt(NamedTuple):
    """Where an application can answer outside ASGI: at once, without a task, or in one, without what ASGI needs."""

    paths: tuple[str, ...]
    """What the paths begin with."""
    answer: Callable[[Scope, bytes], Answer | Coming | None]
    """(scope, body) of a request that is here whole, to its answer, which names the length of its body.

    A coroutine is run to its end. None: ask the application; nothing has happened.
    """
