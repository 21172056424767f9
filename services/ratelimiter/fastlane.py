"""The fast lane: answers checks in front of the framework, in one turn and one screen.

It takes the ordinary case only: a valid credential, a well-formed request, an object that is in
memory and owned, a request that is not traced. Everything else goes on to the routes of
`routes.py`, which document the same contract and tell every error; a test holds the two equal to
the byte. It keeps no span and no log line, and counts like the routes do.

Cost over the server's own, two limits: about 12 us (`benchmarks/check.py` guards it).
"""

import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from services.ratelimiter import subjects
from services.ratelimiter.batch import PATH as BATCH_PATH
from services.ratelimiter.batch import decide_batch
from services.ratelimiter.book import PolicyBook
from services.ratelimiter.checking import CHECK, Checker
from services.ratelimiter.compiled import CompiledPolicy, json_headers
from services.ratelimiter.gate import PREFIX, Gate
from services.ratelimiter.schemas import BatchRequest, CheckRequest
from services.ratelimiter.subjects import SUBJECTS
from shared.errors import TenureError
from shared.http.arrival import SECURITY_HEADERS, Arrival, arrival_of, response_headers
from shared.http.asgi import Answer, ASGIApp, Prompt, Receive, Scope, Send, send_answer
from shared.http.auth import Credential, KeyRing, bearer_secret
from shared.telemetry.context import may_be_sampled
from shared.telemetry.series import Histogram

PATH = "/v1/check"
GATEWAY_ROUTE = PREFIX + "{profile}"
_NOT_ORDINARY = (TenureError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


BindHttp: TypeAlias = Callable[[str, str, int], Histogram]


class FastLane:
    """An ASGI application that answers what it can and hands everything else to `app`.

    `traced` says whether spans are recorded anywhere; then sampled requests take the ordinary path.
    `count` gives the histogram of a method, a route and a status, as the routes count themselves.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        book: PolicyBook,
        checker: Checker,
        gate: Gate,
        traced: bool,
        count: BindHttp,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._authenticate = keys.authenticate
        self._policies = book.policies
        self._checker = checker
        self._gate = gate
        self._traced = traced
        self._stopwatch = stopwatch
        self._checked = count("POST", PATH, 200)
        self._batched = count("POST", BATCH_PATH, 200)
        self._asked = {status: count("GET", GATEWAY_ROUTE, status) for status in (200, 403, 429)}
        self._decode = msgspec.json.Decoder(CheckRequest).decode
        self._decode_batch = msgspec.json.Decoder(BatchRequest).decode
        self.prompt = Prompt((PATH, PREFIX), self._answer_now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a check, or hand the request on."""
        if scope["type"] == "http":
            path = scope["path"]
            answer = await self._check_batch(scope) if path == BATCH_PATH else self._answer_now(scope)
            if answer is None and path.startswith(PREFIX):
                scope = _for_route(scope, path)
            elif path.startswith(SUBJECTS):
                scope = subjects.for_route(scope)
            if answer is not None:
                await send_answer(send, answer)
                return
        await self._app(scope, receive, send)

    def _answer_now(self, scope: Scope, _: bytes = b"") -> Answer | None:
        """The answer to a single check that needs no waiting; the guard has read the body."""
        path = scope["path"]
        if path == PATH:
            return self._check(scope)
        return self._ask_gate(scope, path) if path.startswith(PREFIX) else None

    def _check(self, scope: Scope) -> Answer | None:
        arrival = arrival_of(scope)
        try:
            credential = self._caller(scope, arrival.fields)
            if credential is None:
                return None
            request = self._decode(arrival.body)
            policy = self._policies.get((credential.tenant, request.policy))
            if policy is None or request.cost > policy.cost_max:
                return None
            decision = self._checker.check_now(
                credential.tenant, policy, request.subject, cost=request.cost, peek=request.peek
            )
        except _NOT_ORDINARY:
            return None
        if decision is None:
            return None
        body = policy.body(decision, request.subject)
        return self._finish(policy, self._checked, arrival, (200, [*policy.api_headers(decision, body)], body))

    async def _check_batch(self, scope: Scope) -> Answer | None:
        arrival = arrival_of(scope)
        try:
            credential = self._caller(scope, arrival.fields)
            if credential is None:
                return None
            checks = self._decode_batch(arrival.body).checks
        except _NOT_ORDINARY:
            return None
        body = await decide_batch(self._checker, credential.tenant, checks)
        arrival.status = 200
        self._batched.observe(self._stopwatch() - arrival.started_s)
        return 200, [*json_headers(body), *response_headers(arrival)], body

    def _caller(self, scope: Scope, fields: dict[bytes, bytes]) -> Credential | None:
        """Who asks for checks in the ordinary way, and may. Raises UnavailableError."""
        if scope["method"] != "POST" or self._is_sampled(fields):
            return None
        credential = self._authenticate(bearer_secret(fields.get(b"authorization")) or b"")
        return credential if credential is not None and CHECK in credential.scopes else None

    def _ask_gate(self, scope: Scope, path: str) -> Answer | None:
        arrival = arrival_of(scope)
        if self._is_sampled(arrival.fields):
            return None
        try:
            found = self._gate.answer_now(_profile_of(path), arrival.fields, scope["headers"])
        except _NOT_ORDINARY:
            return None
        return None if found is None else self._finish(found[0], self._asked[found[1][0]], arrival, found[1])

    def _finish(self, policy: CompiledPolicy, route: Histogram, arrival: Arrival, answer: Answer) -> Answer:
        answer[1].extend(SECURITY_HEADERS)
        answer[1].append((b"x-request-id", arrival.request_id.encode("ascii")))
        arrival.status = answer[0]
        seconds = self._stopwatch() - arrival.started_s
        policy.counters.observe(seconds)
        route.observe(seconds)
        return answer

    def _is_sampled(self, fields: dict[bytes, bytes]) -> bool:
        parent = fields.get(b"traceparent")
        return parent is not None and self._traced and may_be_sampled(parent)


def _profile_of(path: str) -> str:
    return path[len(PREFIX) :].partition("/")[0]


def _for_route(scope: Scope, path: str) -> Scope:
    """The request as its one route knows it: what the gateway's client chose (method, sub-path, query) is left out."""
    bare = PREFIX + _profile_of(path)
    return {**scope, "method": "GET", "path": bare, "raw_path": bare.encode(errors="replace"), "query_string": b""}
