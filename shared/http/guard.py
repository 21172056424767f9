"""What stands in front of everything: no request reaches a service unless it is one, plainly.

The guard is the outermost ASGI callable of a public listener, in front of fast lanes and of
Litestar alike. It refuses what servers and frameworks let through and what two programs could
read in two ways: no Host or two, too many or too large header fields, a body framed twice, named
twice, compressed, too large or too slow, a repeated query parameter, a path that is not UTF-8.
It reads the body itself, so what is behind it never waits for a client. HEAD is GET to all behind it,
and counted as such; the body of the answer is left out here.

*Bare* paths are those that gateways call with the header of somebody else's request (`/check/p/`).
There nothing is refused for what that somebody sent: a client that could make the check fail could
get past a gateway that fails open. The body is not read, the query not looked at, and only a
missing Host, a doubly framed body or a repeated `X-Tenure-Key` is refused.

Cost on the way of a check: about 3 us with eight header fields and a body (tests/unit/test_guard.py
shows how it is measured), so it holds to C-speed passes over the header and makes no closure
that it does not need.

Sources: RFC 9112 (framing, Host), RFC 9110 (methods, status codes), OWASP ASVS 5.0 V4.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from shared.bounds import BODY_BYTES_MAX, BODY_DEADLINE_MS, HEADER_BYTES_MAX, HEADER_FIELDS_MAX, QUERY_FIELDS_MAX
from shared.errors import InvalidInputError, TenureError
from shared.http.arrival import Arrival, put_arrival, response_headers
from shared.http.asgi import Answer, ASGIApp, Coming, Message, Prompt, Receive, Scope, Send, send_answer
from shared.http.body import BodyReader, ClientGoneError, check_media_type, declared_size, replay
from shared.http.errors import HeadersTooLargeError
from shared.http.faults import report_fault
from shared.http.observe import UNROUTED, Observe, method_label
from shared.http.problem import CORE_TABLE, ProblemTable, problem_response

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
# Fields in which two values could mean two things to two programs.
_SINGLE = (
    b"host",
    b"authorization",
    b"x-tenure-key",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"transfer-encoding",
    b"idempotency-key",
    b"if-match",
    b"if-none-match",
)
_TRACEPARENT = b"traceparent"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_SINGLE_BARE = (b"host", b"x-tenure-key", b"content-length", b"transfer-encoding")


class Guard:
    """The outermost ASGI callable of a public listener.

    `body_bytes` is the ordinary cap, `body_bytes_max` names the paths that have another one. `bare` are the prefixes
    of paths that gateways call, `yaml` those of paths that take YAML too. `sockets` answers WebSockets; without it
    there are none. `prompts` are what the application can answer outside ASGI. `observe` is told of refusals; what
    the guard lets through is counted by those who answer it.
    """

    __slots__ = (
        "_app",
        "_bare",
        "_body_bytes",
        "_body_bytes_max",
        "_observe",
        "_prompts",
        "_reader",
        "_sockets",
        "_stopwatch",
        "_table",
        "_yaml",
        "prompt",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int = BODY_BYTES_MAX,
        body_bytes_max: Mapping[str, int] | None = None,
        bare: tuple[str, ...] = (),
        yaml: tuple[str, ...] = (),
        table: ProblemTable = CORE_TABLE,
        sockets: ASGIApp | None = None,
        prompts: Sequence[Prompt] = (),
        observe: Observe | None = None,
        stopwatch: Callable[[], float] = time.perf_counter,
        body_deadline_ms: int = BODY_DEADLINE_MS,
    ) -> None:
        self._app = app
        self._bare = bare
        self._yaml = yaml
        self._body_bytes = body_bytes
        self._body_bytes_max = dict(body_bytes_max or {})
        self._table = table
        self._sockets = sockets
        self._prompts = tuple(prompts)
        self.prompt = Prompt(tuple(path for prompt in prompts for path in prompt.paths), self._answer_prompt)
        """For the server: the prompts, behind what is looked at here."""
        self._observe = observe
        self._stopwatch = stopwatch
        self._reader = BodyReader(body_deadline_ms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request with a problem document, or attach its `Arrival` and pass it on."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        headers = scope["headers"]
        arrival = Arrival(dict(headers), self._stopwatch())
        put_arrival(scope, arrival)
        try:
            if scope["path"].startswith(self._bare):
                _check_bare(headers, arrival.fields)
            elif (size_max := self._admit(scope, headers, arrival.fields)) is not None:
                arrival.body = await self._reader.read(receive, size_max, arrival.fields.get(b"content-length"))
                if arrival.body and b"content-length" not in arrival.fields:  # It may not have been announced at all.
                    self._check_media_type(scope, arrival.fields)
                receive = replay(arrival.body, receive)
        except TenureError as error:
            await self._refuse(scope, send, error, arrival)
            return
        except ClientGoneError:
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # A fault of what stands behind, not of the request.
            report_fault(error, arrival, method=scope["method"], route=UNROUTED)
            await self._refuse(scope, send, error, arrival)

    def _answer_prompt(self, scope: Scope, body: bytes) -> Answer | Coming | None:
        if scope["method"] == "HEAD":
            return None
        path, headers = scope["path"], scope["headers"]
        arrival = Arrival(dict(headers), self._stopwatch())
        try:
            if path.startswith(self._bare):
                _check_bare(headers, arrival.fields)
            elif b"transfer-encoding" in arrival.fields:
                return None
            elif self._admit(scope, headers, arrival.fields) is not None:
                arrival.body = body
        except TenureError:
            return None
        put_arrival(scope, arrival)
        try:
            for prompt in self._prompts:
                if path.startswith(prompt.paths):
                    answer = prompt.answer(scope, body)
                    if answer is None or isinstance(answer, tuple):
                        return answer
                    return self._awaited(scope, arrival, answer)
        except Exception as error:
            return self._failed(scope, error, arrival)
        return None

    async def _awaited(self, scope: Scope, arrival: Arrival, coming: Coming) -> Answer:
        try:
            return await coming
        except Exception as error:
            return self._failed(scope, error, arrival)

    def _failed(self, scope: Scope, error: Exception, arrival: Arrival) -> Answer:
        """A fault of what stands behind, not of the request."""
        report_fault(error, arrival, method=scope["method"], route=UNROUTED)
        return self._refusal(scope, error, arrival)

    def _admit(self, scope: Scope, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> int | None:
        """Check the header of an API request; the cap of its body, None where there can be none."""
        method, path = scope["method"], scope["path"]
        _check_header(headers, fields)
        if "\ufffd" in path:
            _check_path(scope)
        if scope["query_string"]:
            _check_query(scope["query_string"])
        size_max = self._body_bytes_max.get(path, self._body_bytes)
        if declared_size(fields, size_max):
            self._check_media_type(scope, fields)
            return size_max
        return size_max if method in _BODY_METHODS else None

    def _check_media_type(self, scope: Scope, fields: dict[bytes, bytes]) -> None:
        check_media_type(fields, yaml=scope["path"].startswith(self._yaml), patch=scope["method"] == "PATCH")

    async def _refuse(self, scope: Scope, send: Send, error: Exception, arrival: Arrival) -> None:
        """Answer with the problem document of `error`; the connection ends where a body may be left unread."""
        status, headers, body = self._refusal(scope, error, arrival)
        if scope["http_version"] < "2" and not _FRAMING.isdisjoint(arrival.fields):
            headers.append((b"connection", b"close"))
        await send_answer(send, (status, headers, body))

    def _refusal(self, scope: Scope, error: Exception, arrival: Arrival) -> Answer:
        status, headers, body = problem_response(
            error, table=self._table, request_id=arrival.request_id, trace_id=arrival.trace_id
        )
        arrival.status = status
        if self._observe is not None:
            seconds = self._stopwatch() - arrival.started_s
            self._observe(method_label(scope["method"]), UNROUTED, status, seconds, None)
        return status, [*headers, *response_headers(arrival)], body

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's own life-cycle passes; a WebSocket is as plain as a request, or refused without words."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        arrival = Arrival(dict(scope["headers"]), self._stopwatch())
        put_arrival(scope, arrival)
        try:
            _check_header(scope["headers"], arrival.fields)
        except TenureError:
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        if self._sockets is None:
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            await self._sockets(scope, receive, send)


def _without_body(send: Send) -> Send:
    """A `send` that keeps what an answer says about its body, and leaves the body out."""

    async def send_bare(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_bare


def _check_header(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
    """One Host, no field twice that may be there once, and not too much of anything."""
    if len(headers) > HEADER_FIELDS_MAX:
        raise HeadersTooLargeError(fields_max=HEADER_FIELDS_MAX, bytes_max=HEADER_BYTES_MAX)
    if len(fields) == len(headers):
        size = len(b"".join(fields)) + len(b"".join(fields.values()))
    else:
        _check_repeats(headers, _SINGLE)
        if sum(name == _TRACEPARENT for name, _ in headers) > 1:
            del fields[_TRACEPARENT]  # W3C Trace Context: given twice is not given.
        size = sum(len(name) + len(value) for name, value in headers)
    if size > HEADER_BYTES_MAX:
        raise HeadersTooLargeError(fields_max=HEADER_FIELDS_MAX, bytes_max=HEADER_BYTES_MAX)
    if not fields.get(b"host"):
        _refuse_host()


def _check_bare(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
    """What holds even where the header is somebody else's."""
    if len(fields) != len(headers):
        _check_repeats(headers, _SINGLE_BARE)
    if not fields.get(b"host"):
        _refuse_host()
    if b"transfer-encoding" in fields and b"content-length" in fields:
        raise InvalidInputError("The body is framed twice", "header.transfer-encoding")


def _refuse_host() -> NoReturn:
    raise InvalidInputError("Exactly one Host is required", "header.host")


def _check_repeats(headers: list[tuple[bytes, bytes]], single: tuple[bytes, ...]) -> None:
    seen = set()
    for name, _ in headers:
        if name in single:
            if name in seen:
                raise InvalidInputError("This header field must not be repeated", f"header.{name.decode()}")
            seen.add(name)


def _check_path(scope: Scope) -> None:
    """A replacement character is in the path: fine if the client wrote it, not if the server put it there."""
    try:
        unquote_to_bytes(scope.get("raw_path", b"\xff")).decode()
    except UnicodeDecodeError as exc:
        raise InvalidInputError("The path is not UTF-8", "path") from exc


def _check_query(query: bytes) -> None:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX
        )
    except UnicodeDecodeError as exc:
        raise InvalidInputError("The query is not UTF-8", "query") from exc
    except ValueError as exc:
        raise InvalidInputError(f"The query has more than {QUERY_FIELDS_MAX} parameters", "query") from exc
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError("This parameter must not be repeated", f"query.{repeated}")
