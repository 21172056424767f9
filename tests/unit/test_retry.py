"""Which errors let a call be made again, how long after, and when it is enough."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter import policy  # noqa: F401  # So that its errors are among the subclasses.
from services.workflows.refusals import MailboxFullError, QueueFullError, TooManyOperationsError
from shared.errors import InvalidInputError, RefusedError, Retryable, TenureError
from shared.http import errors  # noqa: F401  # As above.
from shared.objects.alarms import retried
from shared.objects.errors import (
    CommitFailedError,
    DeadlineExceededError,
    NewerSchemaError,
    NoRoomError,
    OutcomeUnknownError,
    OverloadedError,
    QuarantinedError,
    UnavailableError,
)
from shared.objects.ingress import TooManySocketsError
from shared.objects.transactions import TransactionAbortedError, TransactionBusyError
from shared.outbound.client import TenantBusyError
from shared.outbound.errors import NoAnswerError, UnreachableError
from shared.retry import Backoff, Draw, Jitter, may_retry, retrying
from shared.storage.codec import AlarmRecord
from shared.storage.interface import StoreAwayError, StoreFullError, StoreInDoubtError
from shared.testing.clock import START_MS, ManualClock

DOUBLING = Backoff(base_ms=100, cap_ms=1_000, jitter=Jitter.NONE)
NOT_STARTED = {
    RefusedError,
    OverloadedError,
    UnavailableError,
    NewerSchemaError,
    StoreAwayError,
    StoreFullError,
    QuarantinedError,
    TransactionBusyError,
    TransactionAbortedError,
    MailboxFullError,
    QueueFullError,
    TenantBusyError,
    UnreachableError,
    TooManySocketsError,
    TooManyOperationsError,
}
IN_DOUBT = {OutcomeUnknownError, CommitFailedError, NoRoomError, StoreInDoubtError, NoAnswerError}


class Attempts:
    """A call that fails as told and then succeeds, and the time that passes while it is waited for."""

    def __init__(self, *failures: BaseException, takes_ms: int = 0) -> None:
        self.clock = ManualClock()
        self.began_ms: list[int] = []
        self._failures = list(failures)
        self._takes_ms = takes_ms

    async def call(self) -> str:
        self.began_ms.append(self.clock.monotonic_ms())
        self.clock.advance(self._takes_ms)
        if self._failures:
            raise self._failures.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000))

    async def run(self, *, budget_ms: int = 60_000, idempotent: bool = False, backoff: Backoff = DOUBLING) -> str:
        return await retrying(
            self.call,
            backoff=backoff,
            budget_ms=budget_ms,
            clock=self.clock,
            idempotent=idempotent,
            sleep=self.sleep,
            draw=lambda: 0.5,
        )


def drawing(value: float) -> Draw:
    return lambda: value


def every_error(root: type[TenureError] = TenureError) -> set[type[TenureError]]:
    """The class and all below it that are part of the product."""
    below = [
        every_error(error) for error in root.__subclasses__() if error.__module__.startswith(("shared", "services"))
    ]
    return {root}.union(*below)


# May it be made again?


def test_only_named_errors_let_a_call_be_repeated() -> None:
    """What surely did not start may be; what is in doubt only if idempotent; everything else never is."""
    found = {kind: {error for error in every_error() if error.retryable is kind} for kind in Retryable}

    assert NOT_STARTED == found[Retryable.ALWAYS]
    assert IN_DOUBT == found[Retryable.IF_IDEMPOTENT]


@pytest.mark.parametrize(
    ("error", "plainly", "idempotently"),
    [
        (OverloadedError("full", retry_after_ms=1), True, True),
        (DeadlineExceededError(started=False), True, True),
        (DeadlineExceededError(started=True), False, True),
        (OutcomeUnknownError(), False, True),
        (CommitFailedError("fenced"), False, True),
        (InvalidInputError("no"), False, False),
        (ValueError("a bug"), False, False),
    ],
)
def test_an_error_decides_with_what_the_caller_promises(error: Exception, plainly: bool, idempotently: bool) -> None:
    """The error says what is needed, the caller whether it has it."""
    assert plainly == may_retry(error, idempotent=False)
    assert idempotently == may_retry(error, idempotent=True)


# How long after?


def test_waits_double_up_to_the_cap() -> None:
    """From the base, by the factor, and for ever within the cap."""
    assert [100, 200, 400, 800, 1_000, 1_000] == [DOUBLING.nominal_ms(failures) for failures in range(6)]
    assert 1_000 == DOUBLING.nominal_ms(1_000_000)


def test_a_factor_of_one_waits_the_same() -> None:
    """A schedule need not grow."""
    assert {200} == {Backoff(base_ms=200, cap_ms=900, factor=1).nominal_ms(failures) for failures in range(90)}


@pytest.mark.parametrize(
    ("jitter", "waits_ms"),
    [(Jitter.NONE, [400, 400, 400]), (Jitter.QUARTER, [300, 400, 499]), (Jitter.FULL, [0, 200, 399])],
)
def test_jitter_spreads_the_wait(jitter: Jitter, waits_ms: list[int]) -> None:
    """Not at all, by a quarter to either side, or from nothing to all of it."""
    backoff = Backoff(base_ms=400, cap_ms=400, jitter=jitter)

    assert waits_ms == [backoff.wait_ms(0, drawing(value)) for value in (0.0, 0.5, 0.999)]


@given(
    base_ms=st.integers(1, 10_000),
    above_ms=st.integers(0, 1_000_000),
    factor=st.integers(1, 10),
    jitter=st.sampled_from(Jitter),
    failures=st.integers(0, 10_000),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_out_of_its_bounds(base_ms, above_ms, factor, jitter, failures, drawn):
    """Whatever the schedule, a wait lies between nothing and five quarters of the cap, and waits never shrink."""
    backoff = Backoff(base_ms=base_ms, cap_ms=base_ms + above_ms, factor=factor, jitter=jitter)
    assert 0 <= backoff.wait_ms(failures, drawing(drawn)) <= backoff.cap_ms * 1.25
    assert base_ms <= backoff.nominal_ms(failures) <= backoff.nominal_ms(failures + 1) <= backoff.cap_ms


@pytest.mark.parametrize(
    "backoff",
    [
        lambda: Backoff(base_ms=0, cap_ms=1),
        lambda: Backoff(base_ms=2, cap_ms=1),
        lambda: Backoff(base_ms=1, cap_ms=1, factor=0),
        lambda: DOUBLING.nominal_ms(-1),
    ],
    ids=["no wait", "shrinks", "no factor", "fewer than none"],
)
def test_a_schedule_that_makes_no_sense_is_a_bug(backoff: Callable[[], object]) -> None:
    """No wait, a shrinking one, or fewer failures than none stop the program."""
    with pytest.raises(AssertionError):
        backoff()


def test_an_alarm_is_tried_again_as_promised() -> None:
    """2 s doubled up to 5 min, by a quarter more or less."""
    records = [AlarmRecord(due_ms=START_MS, serial=1, attempts=attempts) for attempts in (0, 1, 7, 8, 1_000)]
    again = [[retried(record, "no", START_MS, drawing(value)) for value in (0.0, 0.5)] for record in records]

    assert [[1_500, 2_000], [3_000, 4_000], [192_000, 256_000], [225_000, 300_000], [225_000, 300_000]] == [
        [record.due_ms - START_MS for record in pair if record] for pair in again
    ]


# And when is it enough?


async def test_a_call_that_succeeds_is_made_once() -> None:
    """Nothing is waited for."""
    attempts = Attempts()

    assert "done" == await attempts.run()
    assert [0] == attempts.began_ms


async def test_a_call_is_made_again_after_ever_longer_waits() -> None:
    """Each failure waits longer than the one before."""
    attempts = Attempts(*[StoreAwayError("away")] * 3)

    assert "done" == await attempts.run()
    assert [0, 100, 300, 700] == attempts.began_ms


async def test_a_refusal_that_names_a_time_is_heeded() -> None:
    """The back-off comes on top of what the refusal advises."""
    attempts = Attempts(OverloadedError("full", retry_after_ms=5_000))

    assert "done" == await attempts.run()
    assert [0, 5_100] == attempts.began_ms


async def test_an_error_in_doubt_takes_a_promise() -> None:
    """Without idempotency it is passed on; with it the call is made again."""
    plain, idempotent = Attempts(OutcomeUnknownError()), Attempts(OutcomeUnknownError())

    with pytest.raises(OutcomeUnknownError):
        await plain.run()
    assert "done" == await idempotent.run(idempotent=True)
    assert [1, 2] == [len(plain.began_ms), len(idempotent.began_ms)]


async def test_a_bug_is_passed_on_at_once() -> None:
    """What is no error of ours is not repeated, whatever was promised."""
    attempts = Attempts(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        await attempts.run(idempotent=True)
    assert [0] == attempts.began_ms


@pytest.mark.parametrize(("budget_ms", "began_ms"), [(0, [0]), (319, [0, 110]), (320, [0, 110, 320])])
async def test_the_budget_ends_it_with_the_last_error(budget_ms: int, began_ms: list[int]) -> None:
    """No wait is begun that ends past the budget, and the time that calls take counts."""
    last = [StoreAwayError(f"away {i}") for i in range(9)]
    attempts = Attempts(*last, takes_ms=10)

    with pytest.raises(StoreAwayError) as caught:
        await attempts.run(budget_ms=budget_ms)
    assert caught.value is last[len(began_ms) - 1]
    assert began_ms == attempts.began_ms


async def test_the_machine_s_own_sleep_and_chance_are_the_default() -> None:
    """Without being handed any, it waits on the loop and draws from `random`."""
    attempts = Attempts(StoreAwayError("away"))
    backoff = Backoff(base_ms=1, cap_ms=1, jitter=Jitter.FULL)

    assert "done" == await retrying(attempts.call, backoff=backoff, budget_ms=10, clock=attempts.clock)
    assert 2 == len(attempts.began_ms)
