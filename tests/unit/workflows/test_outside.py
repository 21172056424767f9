"""`http` steps: what is sent, what answers mean, and a crash between the call and the commit of its answer."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.workflows.events import Accepted, Completed, Failed
from services.workflows.intents import SendHttp
from services.workflows.outside import idempotency_key, meaning, value_of
from services.workflows.run import WorkflowRun
from shared.outbound.client import Answer, TenantBusyError
from shared.outbound.errors import BadAnswerError, NoAnswerError, UnreachableError
from shared.testing.cluster import NodeDiedError
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed
from tests.support.receivers import Made, Receivers, replied
from tests.support.runs import begin, told

CALL = """
workflow: w
start: a
steps:
  a:
    http: { POST: "https://shop.example/orders", body: { order: "{% $input %}" }, headers: { x-kind: refund } }
    end: true
"""
LATER = """
workflow: w
start: a
steps: { a: { http: { POST: "https://shop.example/orders", callback: true }, timeout: P2D, end: true } }
"""
SENT = SendHttp(path="a", serial=1, key="a/1", method="POST", url="https://shop.example/")


def called(scenario: Callable[[Kit, Ref], Awaitable[None]], calls: Receivers, definition: str = CALL) -> None:
    """Run a scenario with a run of that name whose calls these receivers answer."""

    async def main(kit: Kit) -> None:
        await scenario(kit, kit.at(WorkflowRun, "acme", "r-1"))

    run_with_kit(main, kinds=Installed(calls=calls).kinds, limit_ms=4 * 24 * 3_600_000)


async def ended(kit: Kit, run: Ref) -> Any:
    """How the run has ended; it is given an hour."""
    for _ in range(360):
        if (ending := (await run.look(0)).run.ending) is not None:
            return ending
        await kit.advance(10_000)
    raise AssertionError("The run does not end.")


def test_a_call_carries_its_key_its_attempt_and_its_body_as_json() -> None:
    """And its answer is the result of the step."""
    calls = Receivers(replied(200, {"id": 7}))

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(CALL, 5))
        assert {"id": 7} == (await ended(kit, run)).output

    called(scenario, calls)
    (made,) = calls.made
    assert ("acme", b'{"order":5}') == (made.tenant, made.request.body)
    assert 29_000 < made.timeout_ms <= 30_000
    assert {"x-kind": "refund"} == made.request.headers
    ours = {"Idempotency-Key": "r-1/a:1", "X-Attempt": "1", "Content-Type": "application/json"}
    assert ours == made.request.engine_headers


def test_a_retry_has_the_same_key_and_another_attempt() -> None:
    """Of one visit; and it waits as long as the other side asks for."""
    calls = Receivers(replied(503, None, retry_after="60"), UnreachableError(), NoAnswerError(), replied(200))

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(CALL, 5))
        began_ms = kit.now_ms()
        assert "succeeded" == (await ended(kit, run)).status
        assert kit.now_ms() - began_ms >= 60_000

    called(scenario, calls)
    assert ["1", "2", "3", "4"] == [made.request.engine_headers["X-Attempt"] for made in calls.made]
    assert {"r-1/a:1"} == {made.key for made in calls.made}


@pytest.mark.parametrize("reply", [replied(404, {"why": "gone"}), replied(302), BadAnswerError("it is encoded")])
def test_what_trying_again_would_not_mend_is_not_tried_again(reply: Any) -> None:
    """The step stalls, and the run stays open."""
    calls = Receivers(reply)

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(CALL, 5))
        await kit.advance(3_600_000)
        assert "stalled" == (await run.look(0)).status

    called(scenario, calls)
    assert 1 == len(calls.made)


def test_a_crash_between_a_call_and_its_answer_makes_the_call_again_with_the_same_key() -> None:
    """At least once; the receiver tells the repeat by the key."""
    calls = Receivers(replied(200, "first"), replied(200, "second"))

    async def scenario(kit: Kit, run: Ref) -> None:
        async def crash(_: Made) -> None:
            calls.before = None
            await kit.kill()

        calls.before = crash
        try:
            await run.start(begin(CALL, 5))
        except NodeDiedError:
            await run.start(begin(CALL, 5))
        await kit.advance(60_000)
        assert "second" == (await ended(kit, run)).output

    called(scenario, calls)
    assert ["r-1/a:1"] * 2 == [made.key for made in calls.made]
    assert ["1", "1"] == [made.request.engine_headers["X-Attempt"] for made in calls.made]


def test_a_tenant_with_too_many_calls_waits_and_loses_none() -> None:
    """The errand stays with the run."""
    calls = Receivers(TenantBusyError("busy", retry_after_ms=1_000), replied(200, 1))

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(CALL, 5))
        await kit.advance(60_000)
        assert "succeeded" == (await ended(kit, run)).status

    called(scenario, calls)
    assert 2 == len(calls.made)


@pytest.mark.slow
def test_an_accepted_call_waits_for_the_answer_of_its_token() -> None:
    """202 with `callback: true`; the call is not made again while it waits, whatever happens to the node."""
    calls = Receivers(replied(202))

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(LATER))
        await kit.advance(60_000)
        await kit.kill()
        await kit.advance(24 * 3_600_000)
        seen = (await run.look(0)).run
        assert "accepted" == seen.scopes[""].activity.phase
        await run.happen(Completed(path="a", serial=seen.scopes[""].activity.serial, result={"ok": True}))
        assert {"ok": True} == (await ended(kit, run)).output
        assert "step.completed a" in await told(run)

    called(scenario, calls)
    (made,) = calls.made
    assert made.request.engine_headers["Tenure-Callback"].startswith("https://flows.example/v1/callbacks/")


def test_an_answer_that_is_too_large_for_a_step_fails_it_by_name() -> None:
    """`payload.too_large`, and no repeat."""
    calls = Receivers(replied(200, "x" * 200_000))

    async def scenario(kit: Kit, run: Ref) -> None:
        await run.start(begin(CALL, 5))
        await kit.advance(60_000)
        seen = (await run.look(0)).run
        assert "payload.too_large" == seen.scopes[""].activity.failure.error

    called(scenario, calls)
    assert 1 == len(calls.made)


@pytest.mark.parametrize(
    ("callback", "status", "expected"),
    [
        (False, 200, Completed),
        (False, 202, Completed),
        (False, 204, Completed),
        (True, 200, Completed),
        (True, 202, Accepted),
        (False, 301, Failed),
        (True, 404, Failed),
        (False, 500, Failed),
    ],
)
def test_a_status_means_one_thing(callback: bool, status: int, expected: type) -> None:
    """Success is 2xx; 202 is a promise only where one was asked for."""
    call = SendHttp(path="a", serial=1, key="a/1", method="POST", url="https://x.example/", callback=callback)

    assert expected is type(meaning(call, replied(status), now_ms=0))


def test_an_error_carries_its_status_and_what_the_other_side_said() -> None:
    """Unless that is long."""
    short = meaning(SENT, replied(409, {"code": "sold_out"}), now_ms=0)
    long = meaning(SENT, replied(409, "x" * 10_000), now_ms=0)

    assert isinstance(short, Failed)
    assert isinstance(long, Failed)
    assert ("http.409", {"status": 409, "body": {"code": "sold_out"}}) == (short.error, short.data)
    assert {"status": 409, "body": None} == long.data


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json; charset=utf-8", b'{"a":1}', {"a": 1}),
        ("application/problem+json", b'{"a":1}', {"a": 1}),
        ("application/json", b"", None),
        ("application/json", b"{", None),
        ("application/json", b"[" * 100_000, None),
        ("application/json", b"[" * 129 + b"]" * 129, None),
        ("text/plain", b"hello", "hello"),
        ("text/plain", b"\xff", None),
        ("image/png", b"x", None),
        ("", b"x", None),
    ],
)
def test_a_body_is_a_value(kind: str, body: bytes, expected: Any) -> None:
    """JSON and text; what is neither, or is broken, is null."""
    assert expected == value_of(Answer(status=200, headers={"content-type": kind}, body=body))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("30", 30_000),
        ("999999999999", 3_600_000),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60_000),
        ("Wed, 31 Dec 1969 23:59:00 GMT", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3_600_000),
        ("soon", 0),
        ("-5", 0),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, expected: int) -> None:
    """Seconds or a date; an hour at most."""
    assert expected == Answer(status=503, headers={"retry-after": text}, body=b"").retry_after_ms(0)


@pytest.mark.parametrize("run_id", ["r-1", "ü", "a b", "x" * 256, "line\nbreak"])
def test_a_key_can_stand_in_a_header_field(run_id: str) -> None:
    """Whatever the run is called; two runs never share one."""
    key = idempotency_key(run_id, "a/1")

    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert len(key) <= 255
    assert key != idempotency_key(run_id + "x", "a/1")
