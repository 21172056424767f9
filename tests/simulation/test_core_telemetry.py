"""What the object core tells of itself: every number has a cause that feeds it, every span its parent."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, TypeVar

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from shared.objects.address import Address
from shared.objects.errors import (
    CommitFailedError,
    HandlerError,
    KeyReusedError,
    NoRoomError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from shared.objects.flights import Flight
from shared.objects.handler import Alarm, DurableObject
from shared.objects.once import KeyedRequest
from shared.telemetry.metrics import Metrics
from shared.telemetry.sampling import Sampler
from shared.telemetry.series import HistogramPoint
from shared.telemetry.spans import SpanData
from shared.telemetry.traces import TraceContext, Tracer, current_trace
from shared.testing.clock import run_virtual
from shared.testing.faults import Fault, FaultKind, FaultyStore
from tests.simulation import test_messages as messages
from tests.support.otlp_receiver import OtlpReceiver, attributes, export_to, otlp_receiver
from tests.support.simulated import Core, Counter, Meter, Tally, core, memory

ONE = Address("counter", "acme", "one")
TALLY = Address("tally", "acme", "one")
METER = Address("meter", "acme", "one")
CALLER = TraceContext(trace_id=0xAF7651916CD43DD8448EB211C80319C, span_id=0xB7AD6B7169203331, sampled=True)
T = TypeVar("T")


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[SpanData] = []

    def emit(self, span: SpanData, /) -> None:
        self.spans.append(span)

    def named(self, name: str) -> SpanData:
        (found,) = (span for span in self.spans if span.name == name)
        return found


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        export_to(receiver, monkeypatch)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        yield receiver


async def sampled(call: Coroutine[Any, Any, T]) -> T:
    """The answer to a call that is made on behalf of `CALLER`."""
    token = current_trace.set(CALLER)
    try:
        return await call
    finally:
        current_trace.reset(token)


def value(a: Core, name: str, **labels: str) -> float:
    """What is recorded: the count of a histogram's records, or a counter's value."""
    (snapshot,) = (found for found in a.host.metrics.iter_families() if found.family.name == name)
    points = [point for point in snapshot.points if dict(point.labels) == labels]
    return sum(sum(point.counts) if isinstance(point, HistogramPoint) else point.value for point in points)


def test_a_call_that_waits_is_timed_and_counted_as_waiting() -> None:
    """For the load and behind a slow turn; one that starts at once has not waited."""

    async def main() -> None:
        async with core(memory()) as a:
            calls = [asyncio.ensure_future(a.host.call(ONE, Counter.add_slowly, 1)) for _ in range(3)]
            await asyncio.sleep(0.001)
            assert 3 == a.host.backlog.calls
            await asyncio.gather(*calls)
            assert 0 == a.host.backlog.calls
            await a.host.call(ONE, Counter.value)
            assert 3 == value(a, "tenure.object.queue.duration", kind="counter")
            assert 1 == value(a, "tenure.object.activation.duration", kind="counter")

    run_virtual(main)


def test_refused_calls_leave_no_trace_in_the_backlog() -> None:
    """A full mailbox refuses five of 1,005; when the others have run nobody waits."""

    async def main() -> None:
        async with core(memory()) as a:
            calls = [asyncio.ensure_future(a.host.call(ONE, Counter.add, 1)) for _ in range(1_005)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert 5 == sum(isinstance(result, OverloadedError) for result in results)
            assert 5 == value(a, "tenure.object.queue.rejected", kind="counter", reason="mailbox")
            assert 0 == a.host.backlog.calls

    run_virtual(main)


def test_objects_leave_memory_for_a_reason() -> None:
    """Idle, failed to be stored, lost to another owner, drained with the node."""

    async def main() -> None:
        store = memory()
        async with core(store, lock_id="L") as a:
            await a.host.call(TALLY, Tally.hit)
            for _ in range(3):
                await a.host.passivate_idle()
                await asyncio.sleep(61)
            await a.host.call(ONE, Counter.add, 1)
            await a.host.call(Address("counter", "acme", "two"), Counter.add, 1)
            async with core(store, lock_id="L", node="b") as b:
                with pytest.raises(CommitFailedError):
                    await a.host.call(ONE, Counter.add, 1)
                await b.host.call(ONE, Counter.value)
                await b.host.drain()
                await b.ownership.release()
                assert 1 == value(b, "tenure.object.evictions", kind="counter", reason="drained")
                assert 4 == value(b, "tenure.ownership.changes", reason="released")
            assert 1 == value(a, "tenure.object.evictions", kind="tally", reason="idle")
            assert 1 == value(a, "tenure.object.evictions", kind="counter", reason="failed")
            assert 1 == value(a, "tenure.ownership.fenced")
            assert 1 == value(a, "tenure.commit.duration", outcome="fenced")
            await asyncio.sleep(3)
            assert 1 == value(a, "tenure.object.evictions", kind="counter", reason="lost")

    run_virtual(main)


def test_an_object_whose_memory_was_spoilt_leaves_it_as_failed() -> None:
    """By a failed handler; the call behind it goes on to the next activation, and its load belongs to that call."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            await a.host.call(METER, Meter.hit)
            await a.host.committer.flush()
            slow = asyncio.ensure_future(a.host.call(METER, Meter.hit_slowly))
            await asyncio.sleep(0)
            spoil = asyncio.ensure_future(a.host.call(METER, Meter.spoil))
            behind = asyncio.ensure_future(sampled(a.host.call(METER, Meter.value)))
            await slow
            with pytest.raises(HandlerError):
                await spoil
            assert 1 == await behind
            assert 1 == value(a, "tenure.object.evictions", kind="meter", reason="failed")
            assert 0 == a.host.backlog.calls

    kept = Kept()
    run_virtual(lambda: main(kept))
    assert CALLER == kept.named("activate meter").parent


def test_a_load_that_waited_for_a_commit_belongs_to_the_call_that_waits() -> None:
    """The object is lost while its commit is on its way; what it is read for anew comes meanwhile."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            await a.host.call(ONE, Counter.add, 1)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            await asyncio.sleep(0.001)
            a.host.residents.close(a.host._activations[ONE], CommitFailedError("gone"), "lost")
            assert 2 == await sampled(a.host.call(ONE, Counter.value))
            assert 2 == await write

    kept = Kept()
    run_virtual(lambda: main(kept))
    assert CALLER == kept.named("activate counter").parent


def test_a_drain_answers_what_the_store_has_not() -> None:
    """The commit is on its way and nobody will hear of its end: the outcome is unknown, and the object drained."""

    async def main() -> None:
        store = FaultyStore(memory())
        async with core(store) as a:
            await a.host.call(ONE, Counter.add, 1)
            store.away = True
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            await asyncio.sleep(0.001)
            a.host.residents.drained()
            with pytest.raises(OutcomeUnknownError):
                await write
            assert 1 == value(a, "tenure.object.evictions", kind="counter", reason="drained")

    run_virtual(main)


def test_a_commit_that_a_full_store_refused_is_timed_as_full() -> None:
    """It is no success, and nothing else has gone wrong."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            store.full = True
            with pytest.raises(NoRoomError):
                await a.host.call(ONE, Counter.add, 1)
            assert 1 == value(a, "tenure.commit.duration", outcome="full")

    run_virtual(main)


def test_a_commit_counts_as_the_worst_of_its_parts() -> None:
    """Whichever part is dealt with last."""
    flight = Flight(0)
    flight.came_to("fenced")
    flight.came_to("full")
    assert ("full", "fenced") == (flight.outcome, flight.worst)


def test_an_alarm_of_an_object_that_cannot_be_made_stays_overdue() -> None:
    """Its turn has not begun: the alarm is as due as before."""

    class Broken(Counter):
        kind = "broken"
        breaks: ClassVar[bool] = False

        def on_activate(self) -> None:
            if self.breaks:
                raise ValueError("no")

    async def main() -> None:
        address = Address("broken", "acme", "one")
        async with core(memory(), kinds=(Broken,)) as a:
            await a.host.call(address, Broken.arm, "x", 1_000)
            Broken.breaks = True
            a.host.residents.close(a.host._activations[address], CommitFailedError("gone"), "failed")
            await asyncio.sleep(3)
            assert a.host.alarms.overdue_ms() > 1_900

    run_virtual(main)


@pytest.mark.parametrize("kind", [FaultKind.REPLY_LOST, FaultKind.REQUEST_LOST])
def test_a_commit_whose_reply_was_lost_is_timed_as_doubtful(kind: FaultKind) -> None:
    """Though it came to a good end."""

    async def main() -> None:
        async with core(FaultyStore(memory(), [Fault(operation="commit", kind=kind)])) as a:
            assert 5 == await a.host.call(ONE, Counter.add, 5)
            assert 1 == value(a, "tenure.commit.duration", outcome="in_doubt")

    run_virtual(main)


def test_a_commit_that_never_reached_the_store_is_timed_as_away() -> None:
    """It is no success; the caller is told that it surely failed."""

    async def main() -> None:
        plan = [Fault(operation="commit", kind=FaultKind.AWAY, count=count) for count in (1, 2, 3)]
        async with core(FaultyStore(memory(), plan)) as a:
            with pytest.raises(CommitFailedError):
                await a.host.call(ONE, Counter.add, 5)
            assert 1 == value(a, "tenure.commit.duration", outcome="away")

    run_virtual(main)


def test_a_store_that_went_back_in_time_makes_a_conflict() -> None:
    """The batch is timed as one, and the rollback counted."""

    async def main() -> None:
        store = memory()
        async with core(store) as a:
            await a.host.call(ONE, Counter.add, 1)
            earlier = store.snapshot()
            await a.host.call(ONE, Counter.add, 1)
            store.restore(earlier)
            with pytest.raises(CommitFailedError):
                await a.host.call(ONE, Counter.add, 1)
            assert 1 == value(a, "tenure.commit.duration", outcome="conflict")
            assert 1 == value(a, "tenure.store.rollbacks")

    run_virtual(main)


def test_an_alarm_whose_turn_cannot_be_stored_grows_overdue() -> None:
    """From its due time until what became of it is stored; nothing is overdue before or after."""

    async def main() -> None:
        refused = [Fault(operation="commit", kind=FaultKind.AWAY, count=count) for count in (2, 3, 4)]
        async with core(FaultyStore(memory(), refused)) as a:
            await a.host.call(ONE, Counter.arm, "x", 2_000)
            await asyncio.sleep(1)
            assert 0 == a.host.alarms.overdue_ms()
            await asyncio.sleep(2.5)
            assert 1_400 < a.host.alarms.overdue_ms() < 1_600
            await asyncio.sleep(5)
            assert 0 == a.host.alarms.overdue_ms()
            assert 2 == value(a, "tenure.alarm.fired", kind="counter", outcome="ok")
            assert 2 == value(a, "tenure.alarm.lag", kind="counter")

    run_virtual(main)


def test_a_sampled_call_is_one_chain_of_request_turn_and_commit() -> None:
    """The turn hangs on the caller, its commit on the turn; the load on the caller; times are in order."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            await sampled(a.host.call(ONE, Counter.add, 1))
            await a.host.call(ONE, Counter.add, 1)

    kept = Kept()
    run_virtual(lambda: main(kept))
    turn, commit, load = (kept.named(name) for name in ("turn counter/add", "commit counter", "activate counter"))
    assert [CALLER, turn.context, CALLER] == [turn.parent, commit.parent, load.parent]
    assert load.start_ns <= load.end_ns <= turn.start_ns <= turn.end_ns <= commit.start_ns <= commit.end_ns
    assert ("internal", "client", "internal") == (turn.kind, commit.kind, load.kind)
    assert {"tenure.object.kind": "counter", "tenure.object.id": str(ONE)} == load.attributes
    assert {
        "tenure.object.kind": "counter",
        "tenure.object.id": str(ONE),
        "tenure.object.epoch": turn.attributes["tenure.object.epoch"],
        "tenure.queue.wait_ms": 5,
        "tenure.cold": True,
        "tenure.outcome": "ok",
    } == turn.attributes
    assert isinstance(turn.attributes["tenure.object.epoch"], int)
    assert ("redis", "EVALSHA", "commit", 1, False) == tuple(
        commit.attributes[name]
        for name in (
            "db.system.name",
            "db.operation.name",
            "db.stored_procedure.name",
            "db.operation.batch.size",
            "tenure.fenced",
        )
    )
    assert commit.attributes["tenure.commit.bytes"] > 0  # type: ignore[operator]  # A number among other types.


def test_a_read_has_no_commit_and_a_call_between_objects_hangs_on_its_turn() -> None:
    """Only the turn whose writes it carries owns a commit; an inner turn belongs to the one that made the call."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            await a.host.call(ONE, Counter.value)
            write = asyncio.ensure_future(a.host.call(ONE, Counter.add, 1))
            await sampled(a.host.call(ONE, Counter.value))
            await write
            assert ["turn counter/value"] == [span.name for span in kept.spans]
            await sampled(a.host.call(ONE, Counter.add_elsewhere, "two", 3))

    kept = Kept()
    run_virtual(lambda: main(kept))
    inner, outer = kept.named("turn counter/add"), kept.named("turn counter/add_elsewhere")
    assert [outer.context, CALLER] == [inner.parent, outer.parent]
    assert inner.context == kept.named("commit counter").parent


def test_a_refused_commit_is_a_failed_span() -> None:
    """It names the error and says that it was fenced; a handler that fails marks its turn."""

    async def main(kept: Kept) -> None:
        store = memory()
        async with core(store, lock_id="L", tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            with pytest.raises(HandlerError):
                await sampled(a.host.call(ONE, Counter.fail_after_write))
            async with core(store, lock_id="L", node="b"):
                with pytest.raises(CommitFailedError):
                    await sampled(a.host.call(ONE, Counter.add, 1))

    kept = Kept()
    run_virtual(lambda: main(kept))
    failed, commit = kept.named("turn counter/fail_after_write"), kept.named("commit counter")
    assert ("handler_failed", "error") == (failed.error, failed.attributes["tenure.outcome"])
    assert ("commit_failed", True) == (commit.error, commit.attributes["tenure.fenced"])


def test_a_load_that_fails_ends_its_span() -> None:
    """With the error that the caller got."""

    async def main(kept: Kept) -> None:
        store = FaultyStore(memory())
        async with core(store, tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            store.away = True
            with pytest.raises(UnavailableError, match="does not answer"):
                await sampled(a.host.call(ONE, Counter.value))
            assert 1 == value(a, "tenure.object.evictions", kind="counter", reason="failed")

    kept = Kept()
    run_virtual(lambda: main(kept))
    assert ["unavailable"] == [span.error for span in kept.spans]


def test_an_alarm_is_a_root_span_linked_to_the_trace_that_set_it(receiver: OtlpReceiver) -> None:
    """Seen by a real OTLP receiver: a trace of its own with turn and commit inside, linked to the arming turn."""
    tracer = Tracer.from_environment(service="tenure-test", node="n1", metrics=Metrics())

    async def main() -> None:
        async with core(memory(), tracer=tracer) as a:
            await sampled(a.host.call(ONE, Counter.arm, "x", 1_000))
            await asyncio.sleep(2)

    run_virtual(main)
    tracer.shutdown()
    arming, rung = receiver.span("turn counter/arm"), receiver.span("alarm counter")
    turn = receiver.span("turn counter/on_alarm")
    commits = [received.span for received in receiver.spans if received.span.name == "commit counter"]
    assert (b"", SpanMessage.SPAN_KIND_CONSUMER) == (rung.parent_span_id, rung.kind)
    assert [(arming.trace_id, arming.span_id)] == [(link.trace_id, link.span_id) for link in rung.links]
    assert rung.trace_id != arming.trace_id
    assert (rung.trace_id, rung.span_id) == (turn.trace_id, turn.parent_span_id)
    assert {arming.span_id, turn.span_id} == {commit.parent_span_id for commit in commits}
    assert all(commit.end_time_unix_nano <= rung.end_time_unix_nano for commit in commits)
    found = attributes(rung.attributes)
    assert ("x", 1) == (found["tenure.alarm.name"], found["tenure.alarm.attempt"])
    assert 0 <= found["tenure.alarm.lag_ms"] < 50


def test_a_delivery_is_a_root_span_linked_to_the_trace_that_sent_the_message() -> None:
    """With its turn inside; one that is tried again has a trace for each try."""

    async def main(kept: Kept) -> None:
        async with core(memory(), kinds=messages.KINDS, tracer=Tracer(Sampler(ratio=1.0), kept)) as a:
            await a.host.call(messages.office("n"), messages.Office.set, "broken", True)
            await sampled(a.host.call(messages.DESK, messages.Desk.issue, ["n"]))
            await asyncio.sleep(0.5)
            await a.host.call(messages.office("n"), messages.Office.set, "broken", False)
            await asyncio.sleep(5)

    kept = Kept()
    run_virtual(lambda: main(kept))
    sending = kept.named("turn desk/issue").context
    tries = [span for span in kept.spans if span.name == "deliver office"]
    turns = [span for span in kept.spans if span.name == "turn office/file"]
    assert len(tries) > 1
    assert ["handler_failed"] * (len(tries) - 1) + [""] == [span.error for span in tries]
    assert [[sending]] * len(tries) == [list(span.links) for span in tries]
    assert [span.context for span in tries] == [turn.parent for turn in turns]
    assert len(tries) == len({span.context.trace_id for span in tries} - {CALLER.trace_id})


def test_a_call_that_was_answered_before_ends_its_span() -> None:
    """The answer of before is a turn of its own trace, and so is the refusal of a key that stands for another request."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            for amount in (1, 1, 2):
                request = KeyedRequest("k", Counter.add, (amount,))
                with contextlib.suppress(KeyReusedError):
                    assert 1 == await sampled(a.host.call(ONE, Counter.add, amount, once=request))

    kept = Kept()
    run_virtual(lambda: main(kept))
    turns = [span for span in kept.spans if span.name == "turn counter/add"]
    assert [("ok", ""), ("ok", ""), ("error", "idempotency_key_reused")] == [
        (span.attributes["tenure.outcome"], span.error) for span in turns
    ]


def test_nothing_is_recorded_of_calls_and_alarms_that_nobody_samples() -> None:
    """No turn, no commit, no load, no alarm."""

    async def main(kept: Kept) -> None:
        async with core(memory(), tracer=Tracer(Sampler(ratio=0.0), kept)) as a:
            await a.host.call(ONE, Counter.arm, "x", 100)
            await asyncio.sleep(1)
            assert 1 == value(a, "tenure.alarm.fired", kind="counter", outcome="ok")

    kept = Kept()
    run_virtual(lambda: main(kept))
    assert [] == kept.spans


class Hoarder(DurableObject):
    """Its alarm makes it too large."""

    kind = "hoarder"

    def hoard(self, name: str, in_ms: int = 0) -> None:
        for number in range(3):
            self.storage.put(f"{name}{number}", bytes(120_000))
        if in_ms:
            self.alarms.set("more", at_ms=self.clock.now_ms() + in_ms)

    def on_alarm(self, alarm: Alarm) -> None:
        self.hoard(alarm.name)

    def on_passivate(self) -> None:
        raise ValueError("never enough")


HOARDER = Address("hoarder", "acme", "one")


def test_an_alarm_whose_turn_cannot_be_kept_is_counted_as_a_retry_alone() -> None:
    """The handler ended well, and yet the object would have been too large."""

    async def main() -> None:
        async with core(memory(), kinds=[Hoarder]) as a:
            await a.host.call(HOARDER, Hoarder.hoard, "a")
            await a.host.call(HOARDER, Hoarder.hoard, "b", 100)
            await asyncio.sleep(0.2)
            fired = [value(a, "tenure.alarm.fired", kind="hoarder", outcome=outcome) for outcome in ("ok", "retry")]
            assert [0, 1] == fired
            assert 0 == value(a, "tenure.alarm.lag", kind="hoarder")

    run_virtual(main)


def test_an_object_that_fails_to_say_goodbye_is_counted_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Its author's hook raised: that is a failure, though everything was stored."""

    async def main() -> None:
        async with core(memory(), kinds=[Hoarder]) as a:
            await a.host.call(HOARDER, Hoarder.hoard, "a")
            assert a.host.residents.passivate(HOARDER)
            assert 1 == value(a, "tenure.object.evictions", kind="hoarder", reason="failed")
            assert 0 == value(a, "tenure.object.evictions", kind="hoarder", reason="idle")

    run_virtual(main)
    assert "on_passivate" in capsys.readouterr().out


def test_deliveries_are_counted_by_how_they_end() -> None:
    """Delivered, tried again, given up; what is held is told apart from them."""

    async def main() -> None:
        async with core(memory(), kinds=messages.KINDS) as a:
            office = messages.office("n")
            for what, is_so in (("broken", True), ("broken", False), ("closed", True)):
                await a.host.call(office, messages.Office.set, what, is_so)
                await a.host.call(messages.DESK, messages.Desk.issue, ["n"])
                await asyncio.sleep(0.1)
                if what == "broken" and is_so:
                    assert 1 == a.host.courier.held
                await asyncio.sleep(5)
            counted = {
                outcome: value(a, "tenure.message.attempts", kind="office", outcome=outcome)
                for outcome in ("delivered", "retry", "dead")
            }
            assert (2, 1) == (counted["delivered"], counted["dead"])
            assert counted["retry"] >= 1
            assert 0 == a.host.courier.held

    run_virtual(main)
