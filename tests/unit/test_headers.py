"""Rendered answers: header fields that an independent parser reads, and bodies that are the documented struct."""

import http_sf
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.compiled import CompiledPolicy, Decision
from services.ratelimiter.policy import Limit, Policy
from services.ratelimiter.schemas import CheckResult
from shared.telemetry.metrics import CheckHandle
from shared.testing.clock import ManualClock

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
a_limit = st.builds(Limit, name=names, limit=st.integers(1, 10**9), window_ms=st.integers(1, 400 * 86_400_000))
policies = st.lists(a_limit, min_size=1, max_size=8, unique_by=lambda one: one.name).map(
    lambda limits: Policy(limits=tuple(limits))
)


def compile_policy(policy: Policy, name: str = "api", version: int = 3) -> CompiledPolicy:
    return CompiledPolicy(name, version, policy, CheckHandle(ManualClock()))


def field(policy: CompiledPolicy, decision: Decision, name: bytes) -> bytes:
    return dict(policy.headers(decision))[name]


TWO = compile_policy(
    Policy(limits=(Limit(name="burst", limit=10, window_ms=1_000), Limit(name="daily", limit=99, window_ms=86_400_000)))
)


def test_the_fields_are_those_of_the_draft() -> None:
    """Strings quoted, q and w in the policy, r and t in the state, the tightest limit first."""
    decision = Decision(allowed=True, numbers=(9, 1_000, 3, 4_000))
    assert b'"burst";q=10;w=1, "daily";q=99;w=86400' == field(TWO, decision, b"ratelimit-policy")
    assert b'"daily";r=3;t=4, "burst";r=9;t=1' == field(TWO, decision, b"ratelimit")
    assert b"retry-after" not in dict(TWO.headers(decision))


def test_limits_that_are_equally_tight_stay_in_order() -> None:
    """The order of the policy decides a tie."""
    assert field(TWO, Decision(allowed=True, numbers=(3, 1, 3, 1)), b"ratelimit").startswith(b'"burst"')


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(1, b"1"), (999, b"1"), (1_000, b"1"), (1_001, b"2")])
def test_seconds_are_rounded_up(retry_after_ms: int, seconds: bytes) -> None:
    """Nobody is told to come a moment too early."""
    decision = Decision(allowed=False, numbers=(0, retry_after_ms, 5, 0), retry_after_ms=retry_after_ms)
    assert seconds == field(TWO, decision, b"retry-after")
    assert field(TWO, decision, b"ratelimit") == b'"burst";r=0;t=%b, "daily";r=5;t=0' % seconds


def test_a_window_under_a_second_is_told_as_one() -> None:
    """`w` is whole seconds above zero."""
    policy = compile_policy(Policy(limits=(Limit(name="spike", limit=5, window_ms=20),)))
    assert b'"spike";q=5;w=1' == field(policy, Decision(allowed=True, numbers=(4, 21)), b"ratelimit-policy")


@given(policies, st.data())
def test_an_independent_parser_reads_what_we_write(policy: Policy, data: st.DataObject) -> None:
    """Both fields are Lists of RFC 9651 with every limit once and the least remaining first."""
    numbers = [
        number
        for limit in policy.limits
        for number in (data.draw(st.integers(0, limit.limit)), data.draw(st.integers(0, 2 * limit.window_ms)))
    ]
    compiled, decision = compile_policy(policy), Decision(allowed=True, numbers=tuple(numbers))
    stated = http_sf.parse(field(compiled, decision, b"ratelimit-policy"), tltype="list")
    assert [(limit.name, {"q": limit.limit, "w": -(-limit.window_ms // 1000)}) for limit in policy.limits] == stated
    state = http_sf.parse(field(compiled, decision, b"ratelimit"), tltype="list")
    expected = {
        limit.name: {"r": left, "t": -(-reset_ms // 1000)}
        for limit, left, reset_ms in zip(policy.limits, numbers[::2], numbers[1::2], strict=True)
    }
    assert (expected, len(expected)) == (dict(state), len(state))
    assert min(numbers[::2]) == state[0][1]["r"]


@given(policies, st.text(min_size=1), st.booleans(), st.integers(0, 10**9), st.data())
def test_a_body_is_the_documented_struct(
    policy: Policy, subject: str, allowed: bool, retry_after_ms: int, data: st.DataObject
) -> None:
    """The template writes exactly what encoding a CheckResult would, for any subject."""
    numbers = tuple(data.draw(st.integers(0, 10**12)) for _ in range(2 * len(policy.limits)))
    compiled = compile_policy(policy, "a.b-c_D", 12)
    body = compiled.body(Decision(allowed=allowed, numbers=numbers, retry_after_ms=retry_after_ms), subject)
    result = msgspec.json.decode(body, type=CheckResult)
    assert body == msgspec.json.encode(result)
    assert (allowed, "a.b-c_D", 12, subject) == (result.allowed, result.policy, result.version, result.subject)
    assert retry_after_ms == result.retry_after_ms
    told = [number for limit in result.limits for number in (limit.remaining, limit.reset_ms)]
    assert list(numbers) == told
    assert [(limit.name, limit.limit, limit.window_ms) for limit in policy.limits] == [
        (limit.name, limit.limit, limit.window_ms) for limit in result.limits
    ]


def test_a_gateway_is_told_yes_without_a_body() -> None:
    """200, the two fields, nothing else."""
    status, headers, body = TWO.gateway_answer(Decision(allowed=True, numbers=(9, 1, 98, 1)), 1, 403)
    assert (200, b"") == (status, body)
    assert {b"content-length", b"ratelimit-policy", b"ratelimit"} == {name for name, _ in headers}


@pytest.mark.parametrize("status", [429, 403])
def test_a_gateway_is_told_no_in_its_own_status(status: int) -> None:
    """A problem document of the draft's type, with the limits that denied, in under a KiB."""
    decision = Decision(allowed=False, numbers=(0, 700, 98, 1), retry_after_ms=700)
    answered, headers, body = TWO.gateway_answer(decision, 1, status)
    fields, document = dict(headers), msgspec.json.decode(body)
    assert (status, status) == (answered, document["status"])
    assert ["burst"] == document["violated-policies"]
    assert document["type"].endswith("#quota-exceeded")
    assert (b"application/problem+json", b"1") == (fields[b"content-type"], fields[b"retry-after"])
    assert b"%d" % len(body) == fields[b"content-length"]
    assert len(body) < 1_024


def test_the_largest_denial_is_under_a_kib() -> None:
    """Eight limits with names of 64 characters, all of them over."""
    limits = tuple(Limit(name=f"{number}" * 64, limit=1, window_ms=1) for number in range(8))
    decision = Decision(allowed=False, numbers=(0, 10**10) * 8, retry_after_ms=10**10)
    _, _, body = compile_policy(Policy(limits=limits)).gateway_answer(decision, 1, 403)
    assert len(body) < 1_024
