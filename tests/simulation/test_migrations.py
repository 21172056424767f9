"""Objects that an older or a newer version of their kind has stored: migrated whole, or left as they are."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import ConfigurationError, Retryable
from shared.http.problem import CORE_TABLE
from shared.objects.errors import HandlerError, NewerSchemaError
from shared.objects.handler import Checkpoint, DurableObject, Kind, readonly
from shared.objects.published import published
from shared.objects.state import ObjectState
from shared.testing.clock import run_virtual
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, Ref, open_kit


class First(DurableObject):
    """An account as it was first stored: one amount, in whole units."""

    kind = "account"

    def pay_in(self, amount: int) -> None:
        self.storage.put("amount", self.storage.get("amount", int, default=0) + amount)

    def expire(self, in_ms: int) -> None:
        self.storage.expire_at(self.clock.now_ms() + in_ms)


class Second(DurableObject):
    """In cents, under another name."""

    kind = "account"
    schema = 2

    def migrate_1(self, state: ObjectState) -> None:
        state.put("cents", 100 * state.get("amount", int, default=0))
        state.delete("amount")

    @readonly
    def cents(self) -> int:
        return self.storage.get("cents", int, default=0)

    def pay_in(self, amount: int) -> None:
        self.storage.put("cents", self.cents() + amount)

    def vanish(self) -> None:
        self.storage.delete_all()


class Third(Second):
    """Each amount in a journal too, and listed. Its second step needs the first one."""

    schema = 3

    def migrate_2(self, state: ObjectState) -> None:
        self.journal.append(state.get("cents", int))
        self.index.set("rich", "no", 0)

    async def history(self) -> list[int]:
        return [entry.value for entry in await self.journal.read(type_=int)]


class Broken(Third):
    """Its last step fails after it has written."""

    def migrate_2(self, state: ObjectState) -> None:
        super().migrate_2(state)
        state.put("cents", -1)
        raise ValueError("this step fails")


class Greedy(Second):
    """Makes the object larger than one may be."""

    def migrate_1(self, state: ObjectState) -> None:
        super().migrate_1(state)
        for number in range(4):
            state.put(f"{number}", b"x" * 120_000)
        self.storage.put("rest", b"x" * 100_000)


ONE = ("acme", "one")


def over_versions(*steps: tuple[type[DurableObject], Callable[[Kit, Ref], Any]]) -> None:
    """Run each step on a node of its own, with its version of the kind, one after another over the same store."""

    async def main() -> None:
        content = None
        for kind, step in steps:
            async with open_kit([kind]) as kit:
                if content is not None:
                    await kit.node.drain()
                    kit.store.restore(content)
                    await kit.start(machine="another")
                await step(kit, kit.at(kind, *ONE))
                if kit.node.alive:
                    await kit.node.drain()
                content = kit.store.snapshot()

    run_virtual(main)


async def pay(kit: Kit, account: Ref) -> None:
    """Three units, as the first version counts."""
    await account.pay_in(3)


def outcomes(kit: Kit) -> list[str]:
    """What the metrics of the node say of migrations."""
    text = kit.node.host.metrics.render_prometheus().decode()
    return [line for line in text.splitlines() if line.startswith("tenure_object_migrations_total")]


def test_an_old_object_is_brought_to_the_form_of_the_code() -> None:
    """Step by step, before its first turn; the first answer leaves when that is stored, with the new number."""

    async def look(kit: Kit, account: Ref) -> None:
        assert 300 == await account.cents()
        assert {"cents": 300} == kit.stored(account)
        assert [300] == list(kit.journal(account).values())
        assert 1 == len(await kit.find(Third, "acme", "rich", "no"))
        assert ['tenure_object_migrations_total{kind="account",outcome="ok"} 1'] == [
            line.removesuffix(".0") for line in outcomes(kit)
        ]

    async def look_again(kit: Kit, account: Ref) -> None:
        assert [300] == await account.history()
        assert [] == outcomes(kit)

    over_versions((First, pay), (Third, look), (Third, look_again))


def test_a_migration_that_was_not_stored_runs_again() -> None:
    """The store refuses its commit, or the node dies before it: the object is as it was, and the next one migrates it whole."""

    async def crash(kit: Kit, account: Ref) -> None:
        kit.faults.next("commit", FaultKind.REQUEST_LOST)
        call = kit.node.process.spawn(kit.node.host.call(account._address, Third.cents))
        await kit.advance(100)
        assert not call.done()
        assert {"amount": 3} == kit.stored(account)
        await kit.kill()

        assert 300 == await account.cents()
        assert [300] == await account.history()

    over_versions((First, pay), (Third, crash))


def test_a_migration_is_stored_soon_without_a_turn_that_writes() -> None:
    """Also where nobody waits for it any more: within 250 ms and the commit itself."""

    class Lazy(Second):
        durability = "checkpointed"

    async def look(kit: Kit, account: Ref) -> None:
        assert 300 == await account.cents()
        assert {"amount": 3} == kit.stored(account)
        await kit.advance(300)
        assert {"cents": 300} == kit.stored(account)

    over_versions((First, pay), (Lazy, look))


@pytest.mark.parametrize("version", [Broken, Greedy])
def test_a_migration_that_fails_leaves_the_object_as_it_was(
    version: type[DurableObject], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call is told so, nothing is stored, a log line and a counter say why; mended code goes on from there."""

    async def fail(kit: Kit, account: Ref) -> None:
        for _ in range(2):
            with pytest.raises(HandlerError) as failed:
                await account.pay_in(1)
            assert failed.value.__cause__ is not None
            assert version is not Broken or "migrate_2" == failed.value.method
        assert {"amount": 3} == kit.stored(account)
        assert {} == kit.journal(account)
        assert 0 == kit.node.host.objects_resident
        if version is Broken:
            assert ['tenure_object_migrations_total{kind="account",outcome="failed"} 2'] == [
                line.removesuffix(".0") for line in outcomes(kit)
            ]
            assert "migration.failed" in capsys.readouterr().out

    async def look(kit: Kit, account: Ref) -> None:
        assert 300 == await account.cents()

    over_versions((First, pay), (version, fail), (Third, look))


def test_an_object_of_a_newer_version_is_refused_and_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    """The call did not start and may be made again, where the newer version runs; it is logged and counted."""

    async def become_second(kit: Kit, account: Ref) -> None:
        await account.cents()

    async def refuse(kit: Kit, account: Ref) -> None:
        before = [shard.objects for shard in kit.store.snapshot().shards.values()]
        with pytest.raises(NewerSchemaError) as refused:
            await account.pay_in(1)
        assert (2, 1, Retryable.ALWAYS) == (refused.value.stored, refused.value.known, refused.value.retryable)
        problem = CORE_TABLE.problem(refused.value)
        assert (503, "newer_schema", False) == (
            problem.status,
            problem.document["code"],
            problem.document["started"],
        )
        assert before == [shard.objects for shard in kit.store.snapshot().shards.values()]
        assert 0 == kit.node.host.objects_resident
        assert ['tenure_object_migrations_total{kind="account",outcome="refused"} 1'] == [
            line.removesuffix(".0") for line in outcomes(kit)
        ]
        assert "object.refused" in capsys.readouterr().out

    async def look(kit: Kit, account: Ref) -> None:
        assert 300 == await account.cents()

    over_versions((First, pay), (Second, become_second), (First, refuse), (Second, look))


def test_a_new_object_is_not_migrated() -> None:
    """Nor one that begins anew after it was deleted or has expired: they have the form of the code from the start."""

    async def begin(kit: Kit, account: Ref) -> None:
        await account.pay_in(7)
        await account.vanish()
        await account.pay_in(7)
        assert [] == outcomes(kit)

    async def look(kit: Kit, account: Ref) -> None:
        assert 7 == await account.cents()
        assert [] == outcomes(kit)

    async def expire(kit: Kit, account: Ref) -> None:
        await account.pay_in(3)
        await account.expire(1)

    over_versions((Second, begin), (Second, look))
    over_versions((First, expire), (Second, begin), (Second, look))


def test_a_failed_turn_does_not_undo_a_migration() -> None:
    """Its instance is made anew over the migrated state, and migrates nothing."""

    class Failing(Second):
        def fail(self) -> None:
            self.storage.put("cents", -1)
            raise ValueError("this turn leaves no trace")

    async def look(kit: Kit, account: Ref) -> None:
        with pytest.raises(HandlerError):
            await account.fail()
        assert 300 == await account.cents()
        assert 1 == len(outcomes(kit))

    over_versions((First, pay), (Failing, look))


class Nothing(DurableObject):
    """Schema 2 without the way there."""

    kind = "wrong"
    schema = 2


class Further(DurableObject):
    """A way that no schema asks for."""

    kind = "wrong"

    def migrate_1(self, state: ObjectState) -> None:
        raise AssertionError(state)


class Waiting(DurableObject):
    """A migration that could wait."""

    kind = "wrong"
    schema = 2

    async def migrate_1(self, state: ObjectState) -> None:
        raise AssertionError(state)


class Zero(DurableObject):
    """No version at all."""

    kind = "wrong"
    schema = 0


class Native(DurableObject):
    """A native kind, which has a form of its own."""

    kind = "wrong"
    durability = "checkpointed"
    indexed = False
    native = True
    schema = 2

    def migrate_1(self, state: ObjectState) -> None:
        raise AssertionError(state)

    def on_checkpoint(self) -> Checkpoint:
        return Checkpoint(b"")


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (Nothing, "see migrate_1"),
        (Further, "see migrate_1"),
        (Waiting, "not a plain method"),
        (Zero, "not a number"),
        (Native, "is native"),
    ],
)
def test_a_kind_whose_migrations_do_not_fit_its_schema_is_refused(cls: type[DurableObject], why: str) -> None:
    """At the start, in one sentence, instead of at the first old object."""
    with pytest.raises(ValueError, match=why):
        Kind(cls)
    with pytest.raises(ConfigurationError, match=rf"\.{cls.__name__} .*{why}"):
        published(cls)
