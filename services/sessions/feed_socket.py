"""The feed of a principal over a WebSocket: as the server-sent events, for clients that would rather have one of these.

    from the client   {"after": 17}    what is to come first is the event after that; 0: all that is kept. Once, first
                      {"ping": 1}
    to the client     {"seq": 18, "event": {"kind": "session.revoked", ...}}   numbers without gaps
                      {"reset": {"first": 300}}   some are not kept any more: what follows begins there
                      {"pong": 1}

It is opened with an API key of the scope `sessions:read`, and ends with it (4401). It stays open for as long as both
sides are there; a client that reads nothing for two seconds is cut off (1013). It counts among the sockets of its
tenant and its node, and is read no faster than those of objects.
"""

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from services.sessions.bounds import FEED_PAGE, STREAM_SILENCE_MS
from services.sessions.front import Front
from services.sessions.paths import PRINCIPALS
from services.sessions.principal import Principal
from services.sessions.records import Event, Feed
from services.sessions.routes.principals import READ
from shared.bounds import HANDLER_DEADLINE_MS, MOMENT_MS_MAX, SOCKET_IDLE_MS, SOCKET_SWEEP_MS
from shared.errors import InvalidInputError, TenureError
from shared.http.decoding import strict_decoder
from shared.http.names import check_name, decoded_segment
from shared.http.sockets import MALFORMED, NOT_TEXT, TOO_LARGE
from shared.http.streams import BadFrameError, FindStream, Line, StreamRoute
from shared.objects.address import Address
from shared.objects.ingress import IDLE, REVOKED
from shared.objects.sockets import Close

AWAY = Close(1012, "The principal cannot be asked: connect again")
_LEFT = Close(1000)
_EVENTS = b"events"
_Number = Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MS_MAX)]


class ClientFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: one of the two."""

    after: _Number | msgspec.UnsetType = msgspec.UNSET
    ping: _Number | msgspec.UnsetType = msgspec.UNSET


class Told(msgspec.Struct, frozen=True):
    """An event with its number."""

    seq: int
    event: Event


_decode = strict_decoder(ClientFrame)


def feed_sockets(front: Front) -> FindStream:
    """Finds `/v1/principals/{principal}/events`."""

    def find(path: bytes) -> StreamRoute | None:
        segments = path.removeprefix(PRINCIPALS.encode()).split(b"/")
        if not path.startswith(PRINCIPALS.encode()) or len(segments) != 2 or segments[1] != _EVENTS:
            return None
        principal = decoded_segment(segments[0])
        check_name(principal, "principal", "path.principal")

        async def serve(tenant: str, line: Line) -> Close:
            address = front.desk.address(tenant, principal)
            with front.cuts.listening(address):
                return await _FeedSocket(front, address, line).run()

        return StreamRoute(READ, serve)

    return find


class _FeedSocket:
    """One open socket."""

    def __init__(self, front: Front, address: Address, line: Line) -> None:
        self._host, self._address, self._line = front.host, address, line
        self._after: int | None = None
        self._reading: asyncio.Task[str | None] | None = None
        self._asking: asyncio.Task[Feed] | None = None
        self._heard_ms = front.host.store_clock.monotonic_ms()

    async def run(self) -> Close:
        """See it through; how it ends."""
        try:
            while (close := self._over()) is None and (close := await self._step()) is None:
                waited = [task for task in (self._reading, self._asking) if task is not None]
                await asyncio.wait(waited, timeout=SOCKET_SWEEP_MS / 1_000, return_when=asyncio.FIRST_COMPLETED)
        except BadFrameError as exc:
            close = TOO_LARGE if exc.too_large else NOT_TEXT
        except InvalidInputError:
            close = MALFORMED
        except TenureError:
            close = AWAY
        finally:
            for task in (self._reading, self._asking):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, TenureError):
                        await task
        return close

    async def _step(self) -> Close | None:
        """Take what has come, tell what has happened, and ask for more of both; how it ends, if the client has left."""
        if self._reading is not None and self._reading.done():
            text = self._reading.result()
            if text is None:
                return _LEFT
            await self._take(text)
            self._reading = None
        if self._reading is None:
            self._reading = self._spawn(self._line.receive())
        if self._asking is not None and self._asking.done():
            await self._tell(self._asking.result())
            self._asking = None
        if self._asking is None and self._after is not None:
            self._asking = self._spawn(self._news(self._after))
        return None

    def _over(self) -> Close | None:
        """Why it is to end, if it is."""
        if not self._line.counts():
            return REVOKED
        return IDLE if self._host.store_clock.monotonic_ms() - self._heard_ms > SOCKET_IDLE_MS else None

    async def _take(self, text: str) -> None:
        """A frame of the client."""
        self._heard_ms = self._host.store_clock.monotonic_ms()
        frame = _decode(text.encode("utf-8", "surrogatepass"))
        if isinstance(frame.ping, int) and frame.after is msgspec.UNSET:
            await self._line.send(msgspec.json.encode({"pong": frame.ping}).decode())
        elif isinstance(frame.after, int) and frame.ping is msgspec.UNSET and self._after is None:
            self._after = frame.after
        else:
            raise InvalidInputError("Say after once, or ping", "$")

    async def _news(self, after: int) -> Feed:
        until_ms = self._host.store_clock.now_ms() + STREAM_SILENCE_MS
        patience_ms = STREAM_SILENCE_MS + HANDLER_DEADLINE_MS
        feed: Feed = await self._host.call(
            self._address, Principal.events, after, FEED_PAGE, until_ms, deadline_ms=patience_ms
        )
        return feed

    async def _tell(self, feed: Feed) -> None:
        assert self._after is not None, "news are asked for after something"
        self._after, reset = feed.onward(self._after)
        if reset:
            await self._line.send(msgspec.json.encode({"reset": {"first": feed.first}}).decode())
            return
        for seq, event in feed.events:
            if self._over() is not None:
                return
            await self._line.send(msgspec.json.encode(Told(seq, event)).decode())
            self._after = seq

    @staticmethod
    def _spawn(work: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)
