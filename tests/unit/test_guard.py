"""The guard lets requests through that are one request, plainly, and tells the others what is wrong.

Its cost, as 20,000 calls around an application that does nothing less the same calls without the guard,
best of five, eight header fields, CPython 3.11: 2.7 us with a body of 55 bytes, 1.4 us without one, 0.85 us
on a bare path. The last test measures it in the same way and holds a loose bound.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from shared.bounds import BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADER_FIELDS_MAX
from shared.http.arrival import SECURITY_HEADERS, Arrival, arrival_of
from shared.http.asgi import Message, Receive, Scope, Send
from shared.http.guard import Guard
from shared.testing.clock import run_virtual

Field = tuple[bytes, bytes]
HOST: Field = (b"host", b"limits.example")
JSON: Field = (b"content-type", b"application/json")
BATCH_MAX = 256 * 1024
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Seen:
    """What came of one request: the answer, and the arrival if it was let through."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Field] = []
        self.body = b""
        self.arrival: Arrival | None = None
        self.received = b""
        self.method = ""

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    def header(self, name: bytes) -> bytes | None:
        """The value of a header field of the answer."""
        return dict(self.headers).get(name)


def scope_of(method: str, path: str, headers: Sequence[Field], query: bytes = b"", **more: Any) -> dict[str, Any]:
    """An HTTP scope as servers make it."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers),
        **more,
    }


def pieces(*parts: bytes) -> Receive:
    """A `receive` that gives the body in these pieces, and then the end of the connection."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


async def ask(scope: Scope, receive: Receive | None = None, **kwargs: Any) -> Seen:
    """Send one request through a guard, in front of an application that reads the body and says 204."""
    seen = Seen()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.arrival, seen.method = arrival_of(scope), scope["method"]
        seen.received = (await receive()).get("body", b"")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status, seen.headers = message["status"], list(message["headers"])
        else:
            seen.body += message["body"]

    guard = Guard(app, body_bytes_max={"/v1/check/batch": BATCH_MAX}, bare=("/check/p/",), **kwargs)
    await guard(scope, receive or pieces(b""), send)
    return seen


def get(headers: Sequence[Field] = (HOST,), path: str = "/v1/policies", query: bytes = b"", **more: Any) -> Seen:
    """A GET."""
    return asyncio.run(ask(scope_of("GET", path, headers, query, **more)))


def post(body: bytes, *headers: Field, path: str = "/v1/check") -> Seen:
    """A POST with Host and Content-Length, and its body in one piece."""
    fields = [HOST, (b"content-length", b"%d" % len(body)), *headers]
    return asyncio.run(ask(scope_of("POST", path, fields), pieces(body)))


def post_chunked(*parts: bytes, path: str = "/v1/check") -> Seen:
    """A POST whose body comes in chunks."""
    fields = [HOST, JSON, (b"transfer-encoding", b"chunked")]
    return asyncio.run(ask(scope_of("POST", path, fields), pieces(*parts)))


def test_an_ordinary_request_passes_with_its_body() -> None:
    """What stands behind gets the body both ways: read already, and from `receive`."""
    seen = post(b'{"a":1}', JSON)
    assert seen.status == 204
    assert seen.arrival is not None
    assert (b'{"a":1}', b'{"a":1}') == (seen.arrival.body, seen.received)


def test_a_service_may_take_larger_bodies_and_yaml() -> None:
    """The cap is its own on every path without one, and YAML passes below the prefixes that it names alone."""
    yaml = (b"content-type", b"application/yaml; charset=utf-8")
    body = b"a" * (BODY_BYTES_MAX + 1)
    fields = [HOST, yaml, (b"content-length", b"%d" % len(body))]

    def put(path: str) -> int:
        scope = scope_of("PUT", path, fields)
        return asyncio.run(ask(scope, pieces(body), body_bytes=2 * BODY_BYTES_MAX, yaml=("/v1/definitions/",))).status

    assert (204, 415) == (put("/v1/definitions/w"), put("/v1/runs"))


@pytest.mark.parametrize("headers", [[], [(b"host", b"")], [HOST, HOST]], ids=["none", "empty", "two"])
@pytest.mark.parametrize("path", ["/v1/policies", "/check/p/api"])
def test_exactly_one_host_is_required(headers: list[Field], path: str) -> None:
    """H-12: on every path."""
    seen = get(headers, path=path)
    assert (400, "header.host") == (seen.status, seen.problem["where"])


def test_header_fields_are_bounded_in_number() -> None:
    """H-10: 100 pass, 101 do not."""
    fields = [HOST, *((b"x-%d" % number, b"") for number in range(HEADER_FIELDS_MAX - 1))]
    assert get(fields).status == 204
    assert get([*fields, (b"x-more", b"")]).status == 431


@pytest.mark.parametrize("repeated", [False, True])
def test_header_fields_are_bounded_in_size(repeated: bool) -> None:
    """H-10: names and values count, also those of repeated fields."""
    fields = [HOST, (b"x-a", b"1"), (b"x-a", b"2")] if repeated else [HOST]
    room = HEADER_BYTES_MAX - sum(len(name) + len(value) for name, value in fields) - len(b"x-b")
    assert get([*fields, (b"x-b", b"a" * room)]).status == 204
    assert get([*fields, (b"x-b", b"a" * (room + 1))]).status == 431


@pytest.mark.parametrize(
    "name", [b"authorization", b"content-type", b"x-tenure-key", b"content-length", b"idempotency-key", b"if-match"]
)
def test_fields_with_one_meaning_come_once(name: bytes) -> None:
    """H-15: two values could mean two things to two programs."""
    seen = get([HOST, (name, b"1"), (name, b"1")])
    assert (400, f"header.{name.decode()}") == (seen.status, seen.problem["where"])


def test_other_fields_may_be_repeated() -> None:
    """Lists are sent that way."""
    assert get([HOST, (b"accept", b"a/b"), (b"accept", b"c/d")]).status == 204


@pytest.mark.parametrize("query", [b"a=1&a=2", b"a&a=", b"a=1&%61=2"])
def test_repeated_parameters_are_refused(query: bytes) -> None:
    """H-15: however they are spelt."""
    seen = get(query=query)
    assert (400, "query.a") == (seen.status, seen.problem["where"])


@pytest.mark.parametrize("query", [b"a=%ff", b"a=\xff", b"&".join(b"p%d=1" % number for number in range(40))])
def test_a_query_that_cannot_be_read_is_refused(query: bytes) -> None:
    """H-04: not UTF-8, or without end."""
    assert get(query=query).status == 400


def test_a_query_passes() -> None:
    """Different parameters, empty values, encoded text."""
    assert get(query=b"a=1&b=&c=%C3%A4").status == 204


def test_a_path_must_be_utf8() -> None:
    """H-04: the server's replacement character is refused, the client's own is a character like others."""
    assert get(path="/v1/a\ufffd", raw_path=b"/v1/a%ff").status == 400
    assert get(path="/v1/a\ufffd", raw_path=b"/v1/a%EF%BF%BD").status == 204
    assert get(path="/v1/\ufffd\ufffd", raw_path=b"/v1/%EF%BF%BD%ff").status == 400


def test_head_is_get_to_what_stands_behind() -> None:
    """RFC 9110 9.3.2: its answer keeps every field, and so does a refusal; neither has a body."""
    let_in = asyncio.run(ask(scope_of("HEAD", "/v1/check", [HOST])))
    assert ("GET", 204) == (let_in.method, let_in.status)
    refused = asyncio.run(ask(scope_of("HEAD", "/v1/check", [])))
    assert (400, b"", True) == (refused.status, refused.body, int(refused.header(b"content-length") or 0) > 0)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/jsonp",
        b"application/json;charset=utf-16",
    ],
)
def test_a_body_must_be_json(content_type: bytes | None) -> None:
    """H-03: a body of another type, or of none, is not read."""
    fields = [] if content_type is None else [(b"content-type", content_type)]
    seen = post(b"{}", *fields)
    assert (415, None) == (seen.status, seen.arrival)


@pytest.mark.parametrize("content_type", [b"application/json", b"Application/JSON", b"application/json; charset=UTF-8"])
def test_json_may_be_spelt_in_its_ways(content_type: bytes) -> None:
    """Case does not matter, and UTF-8 may be said."""
    assert post(b"{}", (b"content-type", content_type)).status == 204


def test_an_unannounced_body_must_be_json_too() -> None:
    """HTTP/2 has bodies without a length in the header."""
    scope = scope_of("POST", "/v1/check", [HOST], http_version="2")
    assert asyncio.run(ask(scope, pieces(b"{}"))).status == 415


def test_a_request_without_a_body_needs_no_type() -> None:
    """Nothing to misread."""
    assert asyncio.run(ask(scope_of("POST", "/v1/x", [HOST, (b"content-length", b"0")]))).status == 204


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"deflate, identity"])
def test_a_body_is_not_decompressed(encoding: bytes) -> None:
    """H-08: any encoding but identity is refused."""
    assert post(b"{}", JSON, (b"content-encoding", encoding)).status == 415
    assert post(b"{}", JSON, (b"content-encoding", b"identity")).status == 204


@pytest.mark.parametrize(("path", "size_max"), [("/v1/check", BODY_BYTES_MAX), ("/v1/check/batch", BATCH_MAX)])
def test_an_announced_body_is_bounded(path: str, size_max: int) -> None:
    """H-07: refused by its length, before a byte of it is read; each path has its own bound."""
    assert post(b" " * size_max, JSON, path=path).status == 204
    seen = post(b" " * (size_max + 1), JSON, path=path)
    assert (413, size_max, b"close") == (seen.status, seen.problem["size_max"], seen.header(b"connection"))


def test_an_announced_body_that_is_too_large_is_not_read() -> None:
    """H-07: not one byte of it."""

    async def unread() -> Message:
        raise AssertionError

    fields = [HOST, JSON, (b"content-length", b"%d" % (BODY_BYTES_MAX + 1))]
    assert asyncio.run(ask(scope_of("POST", "/v1/check", fields), unread)).status == 413


def test_a_chunked_body_is_bounded_while_it_comes() -> None:
    """H-07: reading stops at the bound, wherever the chunks break."""
    piece = b" " * 1024
    assert post_chunked(*[piece] * 64).status == 204
    assert post_chunked(*[piece] * 64, b" ").status == 413
    seen = post_chunked(piece * 65)
    assert (413, "The request body has more than the 65536 bytes that are allowed.") == (
        seen.status,
        seen.problem["detail"],
    )


def test_pieces_are_put_together() -> None:
    """The body is the same however it came."""
    assert post_chunked(b'{"a"', b":", b"", b"1}").received == b'{"a":1}'


@pytest.mark.parametrize("parts", [(b'{"a":1}',), (b'{"a"', b":", b"1}")])
def test_the_end_of_an_announced_body_is_not_waited_for(parts: tuple[bytes, ...]) -> None:
    """It ends where its length is reached: the server need not say so, which would cost as much as the body."""
    left: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def receive() -> Message:
        return left.pop(0)

    fields = [HOST, JSON, (b"content-length", b"7")]
    seen = asyncio.run(ask(scope_of("POST", "/v1/check", fields), receive))
    assert (204, b'{"a":1}', []) == (seen.status, seen.received, left)


def test_an_announced_body_that_ends_too_soon_is_nobody_s() -> None:
    """The client has gone in the middle of it: nothing behind the guard hears of the request."""
    parts: list[Message] = [{"type": "http.request", "body": b'{"a"', "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return parts.pop(0)

    fields = [HOST, JSON, (b"content-length", b"7")]
    seen = asyncio.run(ask(scope_of("POST", "/v1/check", fields), receive))
    assert (0, None) == (seen.status, seen.arrival)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"content-length", b"+2")],
        [(b"content-length", b"2, 2")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"9" * 30)],
    ],
)
def test_a_body_is_framed_in_one_way(fields: list[Field]) -> None:
    """H-11: two framings, or none that is understood, end the connection."""
    seen = asyncio.run(ask(scope_of("POST", "/v1/check", [HOST, JSON, *fields]), pieces(b"{}")))
    assert (400, b"close") == (seen.status, seen.header(b"connection"))


def test_a_slow_body_is_given_up() -> None:
    """H-09: at its deadline, not before, and other bodies are not touched."""

    async def scenario() -> tuple[Seen, Seen, float]:
        began = asyncio.get_running_loop().time()

        async def never() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def in_time() -> Message:
            await asyncio.sleep(14.999)
            return {"type": "http.request", "body": b"{}", "more_body": False}

        fields = [HOST, JSON, (b"content-length", b"2")]
        slow, fast = await asyncio.gather(
            ask(scope_of("POST", "/v1/check", fields), never), ask(scope_of("POST", "/v1/check", fields), in_time)
        )
        return slow, fast, asyncio.get_running_loop().time() - began

    slow, fast, took_s = run_virtual(scenario)
    assert (408, "body_timeout", b"close") == (slow.status, slow.problem["code"], slow.header(b"connection"))
    assert fast.status == 204
    assert 15 <= took_s < 15.1


def test_one_timer_serves_bodies_that_begin_at_different_times() -> None:
    """Each has its own deadline."""

    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        ended: list[float] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError

        async def never() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                ended.append(round(loop.time(), 1))

        guard = Guard(app)
        scopes = [scope_of("POST", "/v1/check", [HOST, JSON, (b"content-length", b"2")]) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for scope in scopes:
                tasks.create_task(guard(scope, never, send))
                await asyncio.sleep(4)
        return ended

    assert run_virtual(scenario) == [15.0, 19.0, 23.0]


def test_a_cancelled_request_stays_cancelled() -> None:
    """A shutdown is not taken for a slow client."""

    async def scenario() -> None:
        async def never() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        task = asyncio.create_task(ask(scope_of("POST", "/v1/check", [HOST, JSON, (b"content-length", b"2")]), never))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(scenario)


def test_a_cancellation_at_the_deadline_is_not_lost() -> None:
    """A body that is late at the very moment of a shutdown does not keep its request alive."""
    sent: list[Message] = []

    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError

        async def cancelled_meanwhile() -> Message:
            task = asyncio.current_task()
            assert task is not None
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        scope = scope_of("POST", "/v1/check", [HOST, JSON, (b"content-length", b"2")])
        await Guard(app)(scope, cancelled_meanwhile, send)

    with pytest.raises(asyncio.CancelledError):
        run_virtual(scenario)
    assert sent == []


def test_a_client_that_leaves_is_not_answered() -> None:
    """There is nobody to answer, and nothing runs."""
    fields = [HOST, JSON, (b"content-length", b"9")]
    seen = asyncio.run(ask(scope_of("POST", "/v1/check", fields), pieces()))
    assert (0, None) == (seen.status, seen.arrival)


def test_a_refusal_is_complete() -> None:
    """H-16: security headers, our own request id, a problem document with both ids."""
    seen = get([(b"traceparent", TRACE), (b"x-request-id", b"mine")])
    assert set(SECURITY_HEADERS) <= set(seen.headers)
    assert seen.header(b"x-request-id") == seen.problem["request_id"].encode()
    assert seen.problem["request_id"] != "mine"
    assert seen.problem["trace_id"] == TRACE[3:35].decode()
    assert seen.header(b"content-type") == b"application/problem+json"


def test_request_ids_differ() -> None:
    """Two requests are never one in the logs."""
    ids = {get([]).problem["request_id"] for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "TRACE", "PROPFIND"])
def test_a_gateway_may_pass_on_what_its_client_sent(method: str) -> None:
    """On bare paths nothing that the client chooses can make the check fail."""
    fields = [
        HOST,
        (b"content-type", b"text/plain"),
        (b"content-type", b"text/html"),
        (b"content-encoding", b"gzip"),
        (b"authorization", b"a"),
        (b"authorization", b"b"),
        (b"content-length", b"999999"),
        (b"x-big", b"a" * HEADER_BYTES_MAX),
    ]
    seen = asyncio.run(ask(scope_of(method, "/check/p/api/\ufffd", fields, b"a=1&a=%ff"), pieces(b"unread")))
    assert seen.status == 204
    assert seen.arrival is not None
    assert seen.arrival.body == b""


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x-tenure-key", b"a"), (b"x-tenure-key", b"b")],
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_a_gateway_is_refused_for_its_own_mistakes(fields: list[Field]) -> None:
    """Two keys, or two framings; the refusal has its id as every answer has."""
    seen = get([HOST, *fields], path="/check/p/api")
    assert (400, 16) == (seen.status, len(seen.header(b"x-request-id") or b""))
    assert set(SECURITY_HEADERS) <= set(seen.headers)


def test_a_trace_named_twice_is_not_named() -> None:
    """W3C Trace Context: such a field is as good as absent."""
    seen = get([HOST, (b"traceparent", TRACE), (b"traceparent", TRACE)])
    assert seen.arrival is not None
    assert seen.arrival.trace_id == ""


def test_refusals_are_counted_by_our_words() -> None:
    """Neither the path nor the method of a client becomes a label."""
    counted: list[tuple[str, str, int]] = []

    def observe(method: str, route: str, status: int, seconds: float, trace: object) -> None:
        assert (seconds >= 0, trace) == (True, None)
        counted.append((method, route, status))

    asyncio.run(ask(scope_of("BREW", "/v1/pot", []), observe=observe))
    asyncio.run(ask(scope_of("GET", "/v1/pot", []), observe=observe))
    asyncio.run(ask(scope_of("GET", "/v1/pot", [HOST]), observe=observe))
    assert counted == [("_OTHER", "unrouted", 400), ("GET", "unrouted", 400)]


def test_a_fault_behind_the_guard_is_a_problem() -> None:
    """L-04: whatever a fast lane raises, the caller gets a 500 without its text."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret=1")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(broken)(scope_of("GET", "/v1/x", [HOST]), pieces(b""), send))
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert set(SECURITY_HEADERS) <= set(sent[0]["headers"])


def test_websockets_are_not_offered() -> None:
    """They are closed before they are accepted; the server's life-cycle passes."""
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(app)({"type": "websocket", "headers": []}, pieces(), send))
    asyncio.run(Guard(app)({"type": "lifespan"}, pieces(), send))
    assert (["lifespan"], ["websocket.close"]) == (passed, [message["type"] for message in sent])


def test_the_guard_is_cheap() -> None:
    """A check pays microseconds for it; a bound ten times the measured one, so that a busy machine passes."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    async def send(message: Message) -> None:
        raise AssertionError

    guard = Guard(nothing, bare=("/check/p/",))
    fields = [HOST, JSON, (b"content-length", b"2"), *((b"x-%d" % number, b"value") for number in range(5))]
    scope, gateway = scope_of("POST", "/v1/check", fields), scope_of("GET", "/check/p/api", fields)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def measure(scope: Scope) -> float:
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(400):
                await guard(scope, receive, send)
            best = min(best, (time.perf_counter() - began) / 400 * 1e6)
        return best

    assert asyncio.run(measure(scope)) < 30
    assert asyncio.run(measure(gateway)) < 10
