"""The peer from Python: `limits` behind Litestar, counted in a Redis-protocol server, on the server that ours runs on.

    python limits_app.py PORT SOCKET

It is given what is cheapest: its fixed windows (at the bound of two windows they admit twice the limit; its moving
window costs a log in the store), hits alone with no look at what remains, no credential, and Granian with uvloop.
"""

import sys
from typing import Annotated

import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from litestar import Litestar, Response, get, post

LIMITS = (RateLimitItemPerSecond(1_000_000), RateLimitItemPerMinute(10_000_000))


class Check(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a check, as ours has it."""

    policy: str
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Verdict(msgspec.Struct):
    """What is told: whether it may pass."""

    allowed: bool


def app(socket_path: str) -> Litestar:
    """The application on the store at a Unix socket."""
    limiter = FixedWindowRateLimiter(RedisStorage(f"async+redis+unix://{socket_path}", implementation="redispy"))

    @get("/")
    async def ready() -> str:
        return "ready"

    @post("/v1/check", status_code=200)
    async def check(data: Check) -> Response[Verdict]:
        for limit in LIMITS:
            if not await limiter.hit(limit, data.policy, data.subject):
                return Response(Verdict(allowed=False), status_code=429)
        return Response(Verdict(allowed=True))

    return Litestar([ready, check], openapi_config=None, logging_config=None)


def main(port: int, socket_path: str) -> None:
    """Serve until the process is ended."""
    server = Server(
        app(socket_path),
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        backlog=1_024,
        backpressure=4_096,
        websockets=False,
        log_enabled=False,
    )
    uvloop.run(server.serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
