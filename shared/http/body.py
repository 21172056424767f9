"""Reading a request's body: whole, within a cap, before a deadline, and only if it is JSON.

Servers send a body in pieces and tell its end in a message of its own, which costs as much as any: so a body
whose length is announced ends when that much of it is here. What comes behind it is not of this request.

Deadlines cost one dictionary entry each. All have the same length, so the order of arrival is
the order of expiry, and one timer of the loop serves every body that is on its way.
"""

import asyncio
from typing import Any

from shared.bounds import BODY_DEADLINE_MS
from shared.errors import InvalidInputError
from shared.http.asgi import Message, Receive
from shared.http.errors import BodyTimeoutError, UnsupportedMediaTypeError
from shared.objects.errors import TooLargeError

_JSON = b"application/json"
YAML = b"application/yaml"
MERGE_PATCH = b"application/merge-patch+json"
"""RFC 9512. Read where a route says so."""


class ClientGoneError(Exception):
    """The client closed the connection before its body was here: there is nobody to answer."""


class BodyReader:
    """Reads bodies, each within `deadline_ms` of the call. One for a listener."""

    __slots__ = ("_deadline_ms", "_late", "_timer", "_waiting")

    def __init__(self, deadline_ms: int = BODY_DEADLINE_MS) -> None:
        self._deadline_ms = deadline_ms
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, size_max: int, announced: bytes | None = None) -> bytes:
        """The whole body; `announced` is the value of Content-Length, which `declared_size` has found to be one.

        Raises:
            TooLargeError: more than `size_max` bytes came; the rest is not read.
            BodyTimeoutError: it did not come in time.
            ClientGoneError: it will not come.
        """
        task = asyncio.current_task()
        assert task is not None
        self._watch(task)
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            size = -1 if announced is None else int(announced)
            if size == len(body) <= size_max:
                return body  # Nearly always: the body came in one piece.
            return await _read_rest(message, receive, size_max, size)
        except asyncio.CancelledError:
            if task in self._late and task.uncancel() == 0:
                raise BodyTimeoutError(self._deadline_ms) from None
            raise
        finally:
            if self._waiting.pop(task, None) is None:
                self._late.discard(task)

    def _watch(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        self._waiting[task] = due = loop.time() + self._deadline_ms / 1000
        if self._timer is None:
            self._timer = loop.call_at(due, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, due in list(self._waiting.items()):
            if due > now:
                self._timer = loop.call_at(due, self._expire, loop)
                return
            del self._waiting[task]
            self._late.add(task)
            task.cancel()


async def _read_rest(message: Message, receive: Receive, size_max: int, size: int) -> bytes:
    """All of it, from the first message on, until its end is told or its `size` is here (-1: it is not known)."""
    parts = bytearray()
    while True:
        if message["type"] != "http.request":
            raise ClientGoneError
        parts += message.get("body", b"")
        if len(parts) > size_max:
            raise TooLargeError("The request body", size=None, size_max=size_max)
        if len(parts) == size or not message.get("more_body"):
            return bytes(parts)
        message = await receive()


def declared_size(fields: dict[bytes, bytes], size_max: int) -> bool:
    """Whether the header announces a body.

    Raises:
        InvalidInputError: it does so in two ways at once, or in no way that is understood (RFC 9112 6.3).
        TooLargeError: it announces more than `size_max` bytes.
    """
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise InvalidInputError("The body is framed in a way that is not accepted", "header.transfer-encoding")
        return True
    if length is None:
        return False
    if not length.isdigit() or len(length) > 18:
        raise InvalidInputError("This is not a length", "header.content-length")
    size = int(length)
    if size > size_max:
        raise TooLargeError("The request body", size=size, size_max=size_max)
    return size > 0


def check_media_type(fields: dict[bytes, bytes], *, yaml: bool = False, patch: bool = False) -> None:
    """Let only plain JSON pass, with a charset of UTF-8 if any; YAML too where `yaml`, a merge patch where `patch`.

    Raises:
        UnsupportedMediaTypeError: anything else, or nothing.
    """
    encoding = fields.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise UnsupportedMediaTypeError("The body must not be compressed or encoded.")
    given = fields.get(b"content-type")
    if given == _JSON:
        return
    media_type, _, parameters = (given or b"").lower().partition(b";")
    charset = parameters.replace(b" ", b"").replace(b'"', b"")
    if yaml and media_type.strip() == YAML and charset in (b"", b"charset=utf-8"):
        return
    if patch and media_type.strip() == MERGE_PATCH and charset in (b"", b"charset=utf-8"):
        return
    if media_type.strip() != _JSON or charset not in (b"", b"charset=utf-8"):
        wanted = MERGE_PATCH.decode() if patch else "application/json"
        raise UnsupportedMediaTypeError(f"The body must be {wanted}{' or application/yaml' if yaml else ''}.")


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then whatever the server has to say."""
    pending = True

    async def receive_again() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again
