"""A policy made ready for checks: rules, and every byte of an answer that can be known beforehand.

The fast lane and the documented routes render with the same templates, so their answers cannot
differ. A rendered body costs about a microsecond, whatever the number of limits.

Header fields: draft-ietf-httpapi-ratelimit-headers-10, as Lists of RFC 9651. `w` is rounded up to
whole seconds, `t` and Retry-After likewise: nobody is told to come too early. The tightest limit
stands first. On a denial `t` of a limit that denies is the time until this very cost fits.
"""

from collections.abc import Sequence

import msgspec

from services.ratelimiter.policy import Policy
from services.ratelimiter.schemas import Denial
from shared.http.arrival import SECURITY_HEADERS
from shared.telemetry.metrics import CheckHandle

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_EMPTY = (b"content-length", b"0")


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a check came to. `numbers` is remaining, reset_ms of each limit in the policy's order."""

    allowed: bool
    numbers: tuple[int, ...]
    retry_after_ms: int = 0


class CompiledPolicy:
    """One version of one policy of one tenant. Compared by identity."""

    __slots__ = (
        "_body",
        "_policy_header",
        "_states",
        "cost_max",
        "counters",
        "limit_names",
        "name",
        "on_error",
        "rules",
        "version",
    )

    def __init__(self, name: str, version: int, policy: Policy, counters: CheckHandle) -> None:
        self.name = name
        self.version = version
        self.on_error = policy.on_error
        self.counters = counters
        self.limit_names = tuple(limit.name for limit in policy.limits)
        self.rules = tuple(limit.rule for limit in policy.limits)
        self.cost_max = min(limit.limit for limit in policy.limits)
        self._policy_header = (b"ratelimit-policy", _policy_field(policy))
        self._states = _state_templates(self.limit_names)
        self._body = _body_template(name, version, policy)

    def body(self, decision: Decision, subject: str) -> bytes:
        """The decision as JSON: a `CheckResult`."""
        allowed = b"true" if decision.allowed else b"false"
        return self._body % (allowed, _encode(subject), *decision.numbers, decision.retry_after_ms)

    def headers(self, decision: Decision) -> Headers:
        """RateLimit-Policy, RateLimit, and Retry-After where the check was denied."""
        headers = [self._policy_header, (b"ratelimit", self._state(decision.numbers))]
        if not decision.allowed:
            headers.append((b"retry-after", b"%d" % -(-decision.retry_after_ms // 1000)))
        return headers

    def api_headers(self, decision: Decision, body: bytes) -> Headers:
        """All fields of an API answer but the security headers and the request id."""
        return [*json_headers(body), *self.headers(decision)]

    def gateway_answer(self, decision: Decision, cost: int, deny_status: int) -> tuple[int, Headers, bytes]:
        """Status, fields (but the security headers) and body of an answer to a gateway."""
        if decision.allowed:
            return 200, [_EMPTY, *self.headers(decision)], b""
        body = self._denial(decision, cost, deny_status)
        return deny_status, [_PROBLEM, (b"content-length", b"%d" % len(body)), *self.headers(decision)], body

    def _denial(self, decision: Decision, cost: int, status: int) -> bytes:
        violated = tuple(
            name for name, left in zip(self.limit_names, decision.numbers[::2], strict=True) if left < max(cost, 1)
        )
        return _encode(
            Denial(
                kind=PROBLEM_TYPE,
                title="Quota exceeded",
                status=status,
                detail=f"The limit is reached; try again in {decision.retry_after_ms} ms.",
                code="quota_exceeded",
                retry_after_ms=decision.retry_after_ms,
                violated_policies=violated,
            )
        )

    def _state(self, numbers: tuple[int, ...]) -> bytes:
        if len(numbers) == 2:
            return self._states[0] % (numbers[0], -(-numbers[1] // 1000))
        if len(numbers) == 4:
            first_left, first_ms, second_left, second_ms = numbers
            if first_left <= second_left:
                return self._states[0] % (first_left, -(-first_ms // 1000), second_left, -(-second_ms // 1000))
            return self._states[1] % (second_left, -(-second_ms // 1000), first_left, -(-first_ms // 1000))
        pairs = [(left, -(-reset_ms // 1000)) for left, reset_ms in zip(numbers[::2], numbers[1::2], strict=True)]
        tightest = pairs.index(min(pairs, key=_left))
        flat = [number for pair in (pairs.pop(tightest), *pairs) for number in pair]
        return self._states[tightest] % tuple(flat)


def json_headers(body: bytes) -> Headers:
    """What every answer of JSON carries: its type and its length."""
    return [_JSON, (b"content-length", b"%d" % len(body))]


API_FIELDS = SECURITY_HEADERS
"""What a fast lane adds to `api_headers`, besides the request id."""


def _left(pair: tuple[int, int]) -> int:
    return pair[0]


def _policy_field(policy: Policy) -> bytes:
    return ", ".join(
        f'"{limit.name}";q={limit.limit};w={-(-limit.window_ms // 1000)}' for limit in policy.limits
    ).encode()


def _state_templates(names: Sequence[str]) -> tuple[bytes, ...]:
    """For each limit, the RateLimit field with that one first and the others in the policy's order."""
    items = [f'"{name}";r=%d;t=%d' for name in names]
    return tuple(", ".join([items[first], *items[:first], *items[first + 1 :]]).encode() for first in range(len(items)))


def _body_template(name: str, version: int, policy: Policy) -> bytes:
    limits = ",".join(
        f'{{"name":"{limit.name}","limit":{limit.limit},"window_ms":{limit.window_ms},"remaining":%d,"reset_ms":%d}}'
        for limit in policy.limits
    )
    return (
        f'{{"allowed":%b,"policy":"{name}","version":{version},"subject":%b,"limits":[{limits}],"retry_after_ms":%d}}'
    ).encode()
