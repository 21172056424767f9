"""Transactions over several objects: all or nothing, once, over every crash; nobody stays prepared, money is conserved."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import bounds
from shared.errors import ConflictError, RefusedError, TenureError
from shared.http.problem import problem_response
from shared.objects.errors import CallCycleError, HandlerError, OutcomeUnknownError, TooLargeError, UnavailableError
from shared.objects.transactions import (
    Participant,
    Step,
    Ticket,
    Transaction,
    TransactionAbortedError,
    TransactionBusyError,
    with_coordinator,
)
from shared.testing.cluster import NodeDiedError
from shared.testing.faults import Fault, FaultKind
from shared.testing.kit import Kit, run_with_kit
from tests.support.accounts import (
    TENANT,
    Account,
    PoorError,
    Saver,
    Teller,
    balances,
    open_accounts,
    run,
    transfer,
    unsettled,
)
from tests.support.simulated import Counter

DAY_MS = 24 * 3_600_000
SETTLED_MS = bounds.TRANSACTION_LEASE_MS + 10_000
COMMITS_MAX = 30


def simulate(scenario: Callable[[Kit], Awaitable[None]], *, limit_ms: int = 2 * DAY_MS) -> None:
    """Run a scenario with accounts and a teller."""
    run_with_kit(scenario, kinds=[Account, Saver, Teller, Counter], limit_ms=limit_ms)


def test_a_transfer_counts_on_both_sides() -> None:
    """From outside and from a turn; nothing is left prepared or put aside."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        await run(kit, transfer("a", "b", 30))
        await kit.at(Teller, TENANT, "t").transfer("b", "a", 10, "key")
        assert [80, 120] == await balances(kit, "a", "b")
        assert [] == await unsettled(kit, "a", "b")

    simulate(scenario)


def test_a_participant_that_refuses_is_told_as_it_says_and_nothing_counts() -> None:
    """The author's own error, wherever in the order it comes; the same key may be tried again, and then counts once."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        await open_accounts(kit, 0, "poor")
        for source, target in (("poor", "a"), ("poor", "z"), ("a", "b")):
            with pytest.raises(PoorError):
                await run(kit, transfer(source, target, 101), "key")
            assert [] == await unsettled(kit, "a", "b", "poor")
        for _ in range(2):
            await run(kit, transfer("a", "b", 100), "key")
        assert [0, 200, 0] == await balances(kit, "a", "b", "poor")

    simulate(scenario)


def test_steps_of_one_object_are_prepared_together() -> None:
    """In the order given; a later one that is refused takes the earlier ones with it."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        fee = [Step(Account, TENANT, "a", "debit", (60,)), *transfer("a", "b", 40)]
        await run(kit, fee)
        assert [0, 140] == await balances(kit, "a", "b")
        with pytest.raises(PoorError):
            await run(kit, [*transfer("b", "a", 100), Step(Account, TENANT, "b", "debit", (41,))])
        assert [0, 140] == await balances(kit, "a", "b")

    simulate(scenario)


@pytest.mark.slow
def test_a_key_is_committed_once_and_for_its_own_steps() -> None:
    """For a day, over eviction and crash; then the coordinator has left the store."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        await run(kit, transfer("a", "b", 10), "key")
        await kit.evict(kit.at(Transaction, TENANT, "key"))
        await run(kit, transfer("a", "b", 10), "key")
        await kit.kill()
        await run(kit, transfer("a", "b", 10), "key")
        with pytest.raises(ConflictError):
            await run(kit, transfer("a", "b", 11), "key")
        assert [90, 110] == await balances(kit, "a", "b")
        assert {} != kit.stored(kit.at(Transaction, TENANT, "key"))
        await kit.advance(bounds.TRANSACTION_KEPT_MS + 60_000)
        assert {} == kit.stored(kit.at(Transaction, TENANT, "key"))
        assert {} == kit.alarms(kit.at(Transaction, TENANT, "key"))

    simulate(scenario)


async def hold(kit: Kit, name: str, key: str, *, steps: Any = (("debit", (10,)),)) -> Ticket:
    """Prepare an account for a coordinator that never says anything."""
    ticket = Ticket(TENANT, key, 1, kit.now_ms() + bounds.TRANSACTION_PREPARE_MS)
    await kit.at(Account, TENANT, name).transaction_prepare(ticket, steps)
    return ticket


def test_a_prepared_object_refuses_other_transactions_and_goes_on_with_plain_turns() -> None:
    """At once and retryable, so there is no deadlock; what is put aside cannot be spent."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b", "c")
        await hold(kit, "b", "other")
        began_ms = kit.now_ms()
        with pytest.raises(TransactionBusyError):
            await run(kit, transfer("a", "b", 10))
        assert kit.now_ms() - began_ms < 1_000
        assert ["b"] == await unsettled(kit, "a", "b")
        with pytest.raises(PoorError):
            await kit.at(Account, TENANT, "b").spend(91)
        await run(kit, transfer("a", "c", 10))

    simulate(scenario)


def test_opposite_transfers_at_the_same_time_end_and_one_goes_through() -> None:
    """They meet at the first object in the order of addresses, and only one of them holds it."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        outcomes = await asyncio.gather(
            run(kit, transfer("a", "b", 30)), run(kit, transfer("b", "a", 50)), return_exceptions=True
        )
        assert 1 == outcomes.count(None)
        assert 1 == sum(isinstance(each, TransactionBusyError) for each in outcomes)
        assert 200 == sum(await balances(kit, "a", "b"))

    simulate(scenario)


def test_a_prepared_participant_asks_and_the_first_answer_is_abort() -> None:
    """Its coordinator knows nothing: that is stored as abort, the money is back, and the attempt stays aborted."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a")
        ticket = await hold(kit, "a", "lost")
        await kit.advance(bounds.TRANSACTION_LEASE_MS - 1_000)
        assert ["a"] == await unsettled(kit, "a")
        await kit.advance(1_500)
        assert [] == await unsettled(kit, "a")
        assert [100] == await balances(kit, "a")
        assert {"aborted": 1} == kit.stored(kit.at(Transaction, TENANT, "lost"))
        assert await kit.at(Transaction, TENANT, "lost").decide(ticket) is False

    simulate(scenario)


@pytest.mark.slow
def test_a_participant_never_decides_alone() -> None:
    """While its coordinator cannot be asked it stays prepared, for longer than any alarm is tried; then it hears."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a")
        await hold(kit, "a", "unreadable")

        def decide(self: Transaction, ticket: Ticket) -> bool:
            raise RefusedError("not now", retry_after_ms=1)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Transaction, "decide", decide)
            await kit.advance(DAY_MS + 3_600_000)
            assert ["a"] == await unsettled(kit, "a")
        await kit.advance(2 * bounds.TRANSACTION_RETRY_MS)
        assert [] == await unsettled(kit, "a")

    simulate(scenario)


def test_messages_that_come_twice_or_late_change_nothing() -> None:
    """Commit and rollback twice, rollback before prepare, prepare after all is over, now and past its deadline."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a")
        account = kit.at(Account, TENANT, "a")
        ticket = await hold(kit, "a", "one", steps=(("credit", (5,)),))
        assert ticket.same(await hold(kit, "a", "one", steps=(("credit", (5,)),)))
        for _ in range(2):
            await account.transaction_commit(ticket)
        await account.transaction_rollback(ticket)
        assert [105] == await balances(kit, "a")
        early = Ticket(TENANT, "early", 1, kit.now_ms() + bounds.TRANSACTION_PREPARE_MS)
        await account.transaction_rollback(early)
        for late_ms in (0, bounds.TRANSACTION_PREPARE_MS + 1_000):
            await kit.advance(late_ms)
            for each in (ticket, early):
                with pytest.raises(TransactionBusyError):
                    await account.transaction_prepare(each, (("debit", (5,)),))
        assert [105] == await balances(kit, "a")
        assert [] == await unsettled(kit, "a")

    simulate(scenario)


def test_refusals_are_503_with_a_time() -> None:
    """A caller over HTTP sees which it was, and that it may ask again."""
    busy = problem_response(TransactionBusyError("busy", retry_after_ms=1_000))
    aborted = problem_response(TransactionAbortedError())
    assert [503, 503] == [busy[0], aborted[0]]
    assert [b"1", b"1"] == [dict(headers)[b"retry-after"] for _, headers, _ in (busy, aborted)]
    assert b'"code":"transaction_busy"' in busy[2]
    assert b'"code":"transaction_aborted"' in aborted[2]


def test_more_finished_than_are_remembered_refuse_what_is_as_old() -> None:
    """None that is over is prepared again; a newer one is."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a")
        account = kit.at(Account, TENANT, "a")
        tickets = []
        for number in range(bounds.TRANSACTIONS_REMEMBERED + 3):
            tickets.append(await hold(kit, "a", f"key-{number}", steps=(("credit", (0,)),)))
            await account.transaction_commit(tickets[-1])
        for ticket in tickets:
            with pytest.raises(TransactionBusyError):
                await account.transaction_prepare(ticket, (("credit", (1,)),))
        await hold(kit, "a", "newer")

    simulate(scenario)


def test_one_attempt_with_other_steps_is_a_conflict() -> None:
    """A coordinator that crashed undecided begins the same attempt again; with other steps nothing may be mixed."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        await hold(kit, "a", "key")
        with pytest.raises(ConflictError):
            await run(kit, transfer("a", "b", 11), "key")
        await run(kit, transfer("a", "b", 10), "key")
        assert [90, 110] == await balances(kit, "a", "b")

    simulate(scenario)


def test_a_participant_that_is_slow_to_answer_aborts_the_transaction() -> None:
    """Its loads are lost: the caller hears in seconds, those that were prepared are free again, money is as before."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        await kit.evict(kit.at(Account, TENANT, "b"))
        await kit.at(Transaction, TENANT, "key").decide(Ticket(TENANT, "key", 1, 0))
        lost = Fault(operation="load", kind=FaultKind.REQUEST_LOST, count=0)
        kit.faults._draw = lambda operation, _: lost if operation == "load" else None
        began_ms = kit.now_ms()
        with pytest.raises((TransactionAbortedError, UnavailableError)):
            await run(kit, transfer("a", "b", 10), "key")
        assert kit.now_ms() - began_ms < 2 * bounds.TRANSACTION_PREPARE_MS + bounds.TRANSACTION_TELL_MS
        assert [] == await unsettled(kit, "a")
        kit.faults._draw = None
        await kit.advance(SETTLED_MS)
        assert [100, 100] == await balances(kit, "a", "b")
        assert [] == await unsettled(kit, "a", "b")
        await run(kit, transfer("a", "b", 10), "key")
        assert [90, 110] == await balances(kit, "a", "b")

    simulate(scenario)


def test_a_hook_that_fails_is_an_error_of_its_author() -> None:
    """In prepare nothing counts; in commit the decision stands, and is carried out once the code is mended."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        with pytest.raises(HandlerError):
            await run(kit, [Step(Account, TENANT, "a", "debit", ("much",)), *transfer("b", "a", 1)])
        assert [] == await unsettled(kit, "a", "b")

        def broken(self: Account, step: str, *args: Any) -> None:
            raise ValueError("a bug")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Account, "on_commit", broken)
            await run(kit, transfer("a", "b", 10), "key")
            await kit.advance(60_000)
            assert ["a", "b"] == await unsettled(kit, "a", "b")
        await kit.advance(2 * bounds.TRANSACTION_RETRY_MS_MAX)
        assert [] == await unsettled(kit, "a", "b")
        assert [] == kit.stored(kit.at(Transaction, TENANT, "key"))["committed"][2], "everybody has confirmed"
        assert [90, 110] == await balances(kit, "a", "b")

    simulate(scenario)


def test_what_cannot_be_a_transaction_is_refused_before_it_begins() -> None:
    """A kind that takes no part, arguments that cannot be stored, too much of it, and a participant that waits for itself."""

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a")
        for step in (Step(Counter, TENANT, "c", "add"), Step(Account, TENANT, "a", "debit", (object(),))):  # type: ignore[arg-type]  # It is none.
            with pytest.raises(TypeError):
                await run(kit, [step])
        with pytest.raises(TooLargeError):
            await run(kit, [Step(Account, TENANT, "a", "debit", ("x" * bounds.TRANSACTION_BYTES_MAX,))])

    simulate(scenario)
    with pytest.raises(TypeError):
        type("Fast", (Participant,), {"kind": "fast", "durability": "checkpointed"})
    assert [Counter] == with_coordinator([Counter])
    assert [Account, Transaction] == with_coordinator([Account])


def test_a_turn_cannot_be_part_of_what_it_waits_for() -> None:
    """The cycle is named at once, and what was prepared before it is given up."""

    class Own(Account):
        kind = "own"

        async def pay(self) -> None:
            await self.transactions.run([*transfer("a", "b", 1), Step(Own, TENANT, self.address.name, "credit", (1,))])

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, "a", "b")
        with pytest.raises(CallCycleError):
            await kit.at(Own, TENANT, "o").pay()
        assert [] == await unsettled(kit, "a", "b")

    run_with_kit(scenario, kinds=[Account, Own])


def test_an_author_never_sees_the_alarm_of_the_lease() -> None:
    """Its own alarms ring as ever, beside it."""

    async def scenario(kit: Kit) -> None:
        saver = kit.at(Saver, TENANT, "s")
        await saver.open(100)
        await saver.remind()
        await saver.transaction_prepare(Ticket(TENANT, "lost", 1, kit.now_ms() + 5_000), (("debit", (10,)),))
        await kit.advance(SETTLED_MS)
        assert ["mine"] == await saver.reminded()
        assert [100, False] == [await saver.balance(), await saver.busy()]

    simulate(scenario)


class Crash:
    """Crashes the node at the nth commit that reaches the store: before it takes effect, or after, its reply lost."""

    def __init__(self, kit: Kit, nth: int, *, applied: bool) -> None:
        self.reached = asyncio.Event()
        self._commit = kit.store.commit
        self._left = nth
        self._applied = applied
        kit.store.commit = self._run  # type: ignore[method-assign]  # The store of this test alone.

    async def _run(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._applied:
            await self._die()
        reply = await self._commit(*args, **options)
        if self._left == 0:
            await self._die()
        return reply

    async def _die(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


async def crash_at(kit: Kit, nth: int, *, applied: bool) -> tuple[bool, bool]:
    """Transfer 30 from a to b with a crash. Whether it was reached, and whether the transfer counts in the end."""
    await open_accounts(kit, 100, "a", "b")
    crash = Crash(kit, nth, applied=applied)
    client = asyncio.ensure_future(run(kit, transfer("a", "b", 30), "key"))
    reached = asyncio.ensure_future(crash.reached.wait())
    await asyncio.wait({client, reached}, return_when=asyncio.FIRST_COMPLETED)
    crashed = crash.reached.is_set()
    if crashed:
        await kit.kill()
        with pytest.raises(NodeDiedError):
            await client
    reached.cancel()
    await kit.advance(SETTLED_MS)
    assert [] == await unsettled(kit, "a", "b"), f"still prepared after a crash at commit {nth}"
    money = await balances(kit, "a", "b")
    assert money in ([100, 100], [70, 130]), f"half a transfer after a crash at commit {nth}"
    counted = money == [70, 130]
    assert crashed or counted
    await run(kit, transfer("a", "b", 30), "key")  # The client's retry.
    assert [70, 130] == await balances(kit, "a", "b"), f"the retry after a crash at commit {nth} counts once"
    return crashed, counted


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
def test_a_crash_at_any_commit_neither_makes_nor_loses_money(applied: bool) -> None:
    """Each commit of a transfer in turn, until one runs through: all or nothing, nobody stays prepared, a retry counts once."""
    fates = []
    for nth in range(1, COMMITS_MAX):

        async def scenario(kit: Kit, nth: int = nth) -> None:
            fates.append(await crash_at(kit, nth, applied=applied))

        simulate(scenario)
        if not fates[-1][0]:
            break
    crashes = fates[:-1]
    assert (False, True) == fates[-1], "no transfer ran through"
    assert len(crashes) >= 4, "prepare, prepare, decision, and what follows"
    assert {False, True} == {counted for _, counted in crashes}, "before and after the decision"


def test_the_coordinator_tells_again_after_a_crash() -> None:
    """Once the decision is stored, participants hear of it within seconds, long before they would ask."""
    told = False
    for nth in range(1, COMMITS_MAX):

        async def scenario(kit: Kit, nth: int = nth) -> None:
            nonlocal told
            await open_accounts(kit, 100, "a", "b")
            crash = Crash(kit, nth, applied=True)
            client = asyncio.ensure_future(run(kit, transfer("a", "b", 30), "key"))
            await crash.reached.wait()
            await kit.kill()
            with pytest.raises(NodeDiedError):
                await client
            if "committed" in kit.stored(kit.at(Transaction, TENANT, "key")):
                await kit.advance(2 * bounds.TRANSACTION_RETRY_MS)
                assert [70, 130] == await balances(kit, "a", "b")
                told = True

        simulate(scenario)
        if told:
            break
    assert told, "no crash came after the decision"


def test_a_retry_at_once_after_a_crash_counts_once() -> None:
    """While participants are still prepared for the attempt that crashed."""
    for nth in range(1, 6):

        async def scenario(kit: Kit, nth: int = nth) -> None:
            await open_accounts(kit, 100, "a", "b")
            crash = Crash(kit, nth, applied=True)
            client = asyncio.ensure_future(run(kit, transfer("a", "b", 30), "key"))
            await crash.reached.wait()
            await kit.kill()
            with pytest.raises(NodeDiedError):
                await client
            await run(kit, transfer("a", "b", 30), "key")
            await kit.advance(SETTLED_MS)
            assert [70, 130] == await balances(kit, "a", "b")
            assert [] == await unsettled(kit, "a", "b")

        simulate(scenario)


def test_lost_replies_of_any_commit_change_nothing() -> None:
    """Of each commit in turn, for so long that the caller may be told that the outcome is unknown; a retry settles it."""
    for nth in range(1, 7):

        async def scenario(kit: Kit, nth: int = nth) -> None:
            await open_accounts(kit, 100, "a", "b")
            for again in range(4):
                kit.faults.next("commit", FaultKind.REPLY_LOST, nth=nth + again)
            with suppress(OutcomeUnknownError, TransactionAbortedError):
                await run(kit, transfer("a", "b", 30), "key")
            await kit.advance(SETTLED_MS)
            await run(kit, transfer("a", "b", 30), "key")
            assert [70, 130] == await balances(kit, "a", "b")
            assert [] == await unsettled(kit, "a", "b")
            kit.faults.fired += kit.faults.unfired()

        simulate(scenario)


names = st.sampled_from("abcd")
transfers = st.lists(
    st.tuples(names, names, st.integers(1, 60), st.integers(0, 40)).filter(lambda each: each[0] != each[1]),
    min_size=2,
    max_size=6,
)
troubles = st.lists(st.tuples(st.sampled_from(["kill", "evict", "lose", "repeat"]), st.integers(0, 60)), max_size=3)


async def insist(kit: Kit, key: str, source: str, target: str, amount: int) -> bool:
    """Try a transfer until its outcome is definite; whether it counts."""
    for attempt in range(200):
        try:
            await run(kit, transfer(source, target, amount), key)
        except PoorError:
            return False
        except (NodeDiedError, TenureError):
            await asyncio.sleep(0.1 + (len(source + key) * 7 + attempt) % 5 / 10)
        else:
            return True
    raise AssertionError("no definite outcome")


async def cause(kit: Kit, trouble: str) -> None:
    """Crash the node, let idle objects leave, or break the next commit."""
    if trouble == "kill":
        await kit.kill()
    elif trouble == "evict":
        kit.node.host.residents.passivate_some(1 << 60, 1_000)
    else:
        kind = FaultKind.REPLY_LOST if trouble == "lose" else FaultKind.REPEAT
        kit.faults.next("commit", kind, nth=len(kit.faults.unfired()) + 1, delay_ms=500)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(wishes=transfers, troubles=troubles)
def test_transfers_that_meet_conserve_the_total(
    wishes: list[tuple[str, str, int, int]], troubles: list[tuple[str, int]]
) -> None:
    """Whatever meets, crashes or is lost: each wish is retried until it is definite, and its effect is there once."""

    async def client(kit: Kit, number: int, source: str, target: str, amount: int, after_ms: int) -> bool:
        await asyncio.sleep(after_ms / 1000)
        return await insist(kit, f"wish-{number}", source, target, amount)

    async def scenario(kit: Kit) -> None:
        await open_accounts(kit, 100, *"abcd")
        clients = [asyncio.ensure_future(client(kit, number, *wish)) for number, wish in enumerate(wishes)]
        for trouble, after_ms in troubles:
            await asyncio.sleep(after_ms / 1000)
            await cause(kit, trouble)
        counted = await asyncio.gather(*clients)
        await kit.advance(SETTLED_MS)
        kit.faults.fired += kit.faults.unfired()
        assert [] == await unsettled(kit, *"abcd")
        expected = dict.fromkeys("abcd", 100)
        for (source, target, amount, _), counts in zip(wishes, counted, strict=True):
            expected[source] -= amount * counts
            expected[target] += amount * counts
        assert list(expected.values()) == await balances(kit, *"abcd")

    simulate(scenario, limit_ms=3_600_000)
