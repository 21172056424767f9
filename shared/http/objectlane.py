"""The fast lane of objects: answers `POST /v1/objects/{kind}/{name}/{method}` in front of the framework.

It takes the ordinary case only: a valid credential with the scope, a request that can be read, no trace.
Everything else goes on to the routes of `shared.http.objects`, which document the same contract and say what
is wrong; nothing has run by then. What becomes of the call, the answer or an error, is told from here, by the same
table. A test holds the two equal to the byte.
"""

import time
from collections.abc import Callable, Iterable

from shared.errors import TenureError
from shared.http.answers import DURABLE, OF_OBJECT, telling_fields
from shared.http.arrival import Arrival, arrival_of, response_headers
from shared.http.asgi import Answer, ASGIApp, Coming, Prompt, Receive, Scope, Send, send_answer
from shared.http.auth import KeyRing, bearer_secret
from shared.http.faults import report_fault
from shared.http.names import sent_path
from shared.http.objects import CALL, OBJECTS, ObjectCall, ObjectMethod, named, object_methods
from shared.http.observe import Observe
from shared.http.problem import ProblemTable, problem_response
from shared.objects.host import Host
from shared.objects.published import PublishedKind
from shared.telemetry.context import may_be_sampled

_JSON = (b"content-type", b"application/json")


class ObjectLane:
    """An ASGI application that makes the calls that it can read and hands everything else to `app`.

    `traced` says whether spans are recorded anywhere; then sampled requests take the ordinary path. `observe` and
    `durability` are those of `create_app`.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: Host,
        kinds: Iterable[PublishedKind],
        *,
        keys: KeyRing,
        table: ProblemTable,
        traced: bool,
        observe: Observe,
        durability: int | None,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._methods = {
            (kind.encode(), name.encode()): method for (kind, name), method in object_methods(host, kinds).items()
        }
        self._authenticate = keys.authenticate
        self._table = table
        self._traced = traced
        self._observe = observe
        self._durability = durability
        self._stopwatch = stopwatch
        self.prompt = Prompt((OBJECTS,), self._coming)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call of an object, or hand the request on."""
        coming = self._coming(scope) if scope["type"] == "http" else None
        if coming is None:
            await self._app(scope, receive, send)
            return
        await send_answer(send, await coming)

    def _coming(self, scope: Scope, _: bytes = b"") -> Coming | None:
        """The answer to a call of an object, if it can be read; the guard has read the body."""
        if not scope["path"].startswith(OBJECTS):
            return None
        arrival = arrival_of(scope)
        found = self._read(scope, arrival)
        return None if found is None else self._answer(arrival, *found)

    def _read(self, scope: Scope, arrival: Arrival) -> tuple[ObjectMethod, ObjectCall] | None:
        """What is asked for; None: that is for the routes to say."""
        if scope["method"] != "POST" or (self._traced and self._may_be_traced(arrival)):
            return None
        found = named(sent_path(scope))
        if found is None:
            return None
        kind, name, method_name = found
        method = self._methods.get((kind, method_name))
        if method is None:
            return None
        try:
            credential = self._authenticate(bearer_secret(arrival.fields.get(b"authorization")) or b"")
            if credential is None or CALL not in credential.scopes:
                return None
            return method, method.read(arrival, credential.tenant, name)
        except TenureError:
            return None

    def _may_be_traced(self, arrival: Arrival) -> bool:
        """Its caller has it recorded, or leaves that to us."""
        parent = arrival.fields.get(b"traceparent")
        return parent is None or may_be_sampled(parent)

    async def _answer(self, arrival: Arrival, method: ObjectMethod, call: ObjectCall) -> Answer:
        try:
            body = await method.run(arrival, call)
        except Exception as exc:  # Whatever it is, the caller hears of it.
            status, headers, body = problem_response(
                exc, table=self._table, request_id=arrival.request_id, trace_id=arrival.trace_id
            )
            if status == 500:
                report_fault(exc, arrival, method="POST", route=method.route)
        else:
            status, headers = 200, [_JSON, (b"content-length", b"%d" % len(body))]
        arrival.status = status
        seconds = self._stopwatch() - arrival.started_s
        options = {DURABLE: method.writes, OF_OBJECT: True}
        headers += telling_fields(options, arrival, seconds=seconds, durability=self._durability)
        headers += response_headers(arrival)
        self._observe("POST", method.route, status, self._stopwatch() - arrival.started_s, None)
        return status, headers, body
