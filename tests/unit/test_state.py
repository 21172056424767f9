"""The state of an object against the plainest model of it: at every commit the store has what the model has.

The model is a few dictionaries, copied at the start of each turn. Turns end or fail, commits are taken
in the middle of turns, fail, or are followed by a store that went back in time; alarms are set,
cancelled, retried and given up; the journal grows and is trimmed; index rows
come and go; some writes are soft. Whatever happens, memory, store and the store's indexes agree.
"""

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared import bounds
from shared.objects.alarms import retried
from shared.objects.handler import Alarms
from shared.objects.index import Index
from shared.objects.journal import Journal
from shared.objects.journal_mark import JournalMark
from shared.objects.state import ObjectState
from shared.storage.codec import AlarmRecord, decode, encode
from shared.storage.interface import ClaimOrder, Fence, ObjectWrite, Section, Status, take_index_records
from shared.storage.keys import index_place
from shared.storage.listings import IndexEntry, IndexRow, Place
from shared.testing.clock import ManualClock
from shared.testing.shard import Shard
from shared.testing.store import MemoryStore
from tests.support.stepping import at_once

if TYPE_CHECKING:
    from shared.objects.activation import Activation

OBJECT = b"object/"
TTL_MS = 10**9

keys = st.sampled_from(["a", "ab", "b", "c"])
names = st.sampled_from(["x", "y", "z"])
INDEXES = ("status", "owner")
indexes = st.sampled_from(INDEXES)
spans_ms = st.sampled_from([1, 1_000, 3_000, 60_000, bounds.ALARM_GIVE_UP_MS])


class Model(msgspec.Struct):
    """What an object is: keys, alarms with their due times, alarms given up, an expiry (0: never), a journal, and rows."""

    values: dict[str, int] = msgspec.field(default_factory=dict)
    alarms: dict[str, int] = msgspec.field(default_factory=dict)
    dead: set[str] = msgspec.field(default_factory=set)
    expire_at_ms: int = 0
    journal: dict[int, int] = msgspec.field(default_factory=dict)
    has_journal: bool = False  # Also an empty one is something: its positions go on.
    next_position: int = 1
    rows: dict[str, tuple[str, int]] = msgspec.field(default_factory=dict)
    """Index to value and time."""

    @property
    def absent(self) -> bool:
        """Nothing is left of it."""
        return not (self.values or self.alarms or self.dead or self.has_journal or self.rows)

    @property
    def stored_expiry_ms(self) -> int:
        """When the store may sweep it; what rings, or has to be looked at, stays."""
        return 0 if self.alarms or self.dead else self.expire_at_ms


class StateMachine(RuleBasedStateMachine):
    """One object, its store, and the model; `running` is the model as the turn sees it, `ended` without that turn."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        order = ClaimOrder(shard=0)
        (lease,) = at_once(self.store.claim([order], token=b"t", node="n", lock_id="", ttl_ms=TTL_MS)).leases
        self.fence = Fence(lease.epoch, b"t")
        self.earlier = self.store.snapshot()
        self.expired = False  # Absent to all, and still stored until it is swept or written again.
        self.commits = 0
        self.state = ObjectState.load({}, now_ms=self.clock.now_ms())
        self.ended = Model()
        self.running = Model()

    # What a handler does.

    @rule(key=keys, value=st.integers(0, 9))
    def put(self, key, value):
        self.state.put(key, value)
        self.running.values[key] = value

    @rule(key=keys, value=st.integers(0, 9))
    def put_soft(self, key, value):
        self.state.put_soft(key, value)
        self.running.values[key] = value

    @rule(key=keys)
    def delete(self, key):
        self.state.delete(key)
        self.running.values.pop(key, None)

    @rule()
    def delete_all(self):
        self.state.delete_all()
        self.running = Model(next_position=self.running.next_position)

    @rule(span_ms=st.none() | spans_ms)
    def expire(self, span_ms):
        at_ms = None if span_ms is None else self.clock.now_ms() + span_ms
        self.state.expire_at(at_ms)
        self.running.expire_at_ms = at_ms or 0

    @rule(name=names, span_ms=spans_ms)
    def set_alarm(self, name, span_ms):
        at_ms = self.clock.now_ms() + span_ms
        Alarms(self.state).set(name, at_ms=at_ms)
        self.running.alarms[name] = at_ms

    @rule(name=names, span_ms=spans_ms)
    def set_alarm_if_absent(self, name, span_ms):
        at_ms = self.clock.now_ms() + span_ms
        absent = name not in self.running.alarms
        assert absent == Alarms(self.state).set_if_absent(name, at_ms=at_ms)
        self.running.alarms.setdefault(name, at_ms)

    @rule(name=names)
    def cancel_alarm(self, name):
        armed = name in self.running.alarms
        assert armed == Alarms(self.state).cancel(name)
        if armed:
            del self.running.alarms[name]
            self.running.dead.discard(name)

    @rule(values=st.lists(st.integers(0, 9), min_size=1, max_size=3))
    def append(self, values):
        for value in values:
            assert self.running.next_position == self.journal.append(value)
            self.running.journal[self.running.next_position] = value
            self.running.has_journal = True
            self.running.next_position += 1

    @rule(keep=st.integers(0, 4))
    def trim(self, keep):
        self.journal.trim(keep=keep)
        for position in sorted(self.running.journal)[: max(0, len(self.running.journal) - keep)]:
            del self.running.journal[position]

    @rule(name=indexes, value=st.sampled_from(["open", "done"]), sort_ms=st.integers(0, 2))
    def set_row(self, name, value, sort_ms):
        self.index.set(name, value, sort_ms, summary=value.encode())
        self.running.rows[name] = (value, sort_ms)

    @rule(name=indexes)
    def clear_row(self, name):
        assert (self.running.rows.pop(name, None) is not None) == self.index.clear(name)

    @rule(name=names, span_ms=st.none() | spans_ms)
    def end_dead_alarm(self, name, span_ms):
        """What an operator does: set anew what was given up, or drop it and leave one of its name as it is."""
        if self.state.dead_alarm(name) is None or name not in self.running.dead:
            return
        armed = self.state.alarm(name)
        due_ms = armed.due_ms if armed is not None else None
        if span_ms is not None:
            due_ms = self.clock.now_ms() + span_ms
            armed = AlarmRecord(due_ms=due_ms, serial=0)
        self.state.end_dead_alarm(name, armed)
        self.running.dead.discard(name)
        self.running.alarms.pop(name, None)
        if due_ms is not None:
            self.running.alarms[name] = due_ms

    # What becomes of its turn.

    @rule()
    def end_turn(self):
        self.state.end_turn()
        if self.running.absent:
            self.running.expire_at_ms = 0
        self.ended = copy.deepcopy(self.running)

    @rule()
    def fail_turn(self):
        self.state.drop_turn()
        self.running = copy.deepcopy(self.ended)

    @precondition(lambda self: self.ended.alarms)
    @rule(name=names, hopeless=st.booleans())
    def fail_alarm_turn(self, name, hopeless):
        """The handler of an alarm raised: its turn is dropped, and a turn of its own retries the alarm, for a day."""
        self.fail_turn()
        if name in self.ended.alarms:
            self.retry_or_bury(name)
        if hopeless and name in self.ended.alarms:
            self.clock.advance(bounds.ALARM_GIVE_UP_MS)
            self.retry_or_bury(name)
            assert name in self.ended.dead

    def retry_or_bury(self, name: str) -> None:
        record, now_ms = self.state.alarm_records[name], self.clock.now_ms()
        again = retried(record, "ValueError: no", now_ms)
        if again is None:
            self.state.bury_alarm(name, record, now_ms)
            del self.running.alarms[name]
            self.running.dead.add(name)
        else:
            self.state.set_alarm(name, again)
            self.running.alarms[name] = again.due_ms
        self.end_turn()

    # What becomes of its commits.

    @rule(span_ms=spans_ms)
    def wait(self, span_ms):
        self.clock.advance(span_ms)

    @rule()
    def commit(self):
        write = self.state.take(OBJECT, indexed=True)
        if write is not None:
            self.apply(write)
            self.expired = False
        if self.state.parts is not None:
            self.state.parts.landed()
        if not self.expired:
            self.store_agrees()

    @rule()
    def lose_commit(self):
        """A commit fails and memory stays the truth, as with checkpointed kinds: everything is written again."""
        self.state.take(OBJECT, indexed=True)
        self.state.rewrite()

    @rule()
    def remember_the_store(self):
        self.earlier = self.store.snapshot()

    @precondition(lambda self: self.earlier.shards[0].journals == self.shard().journals)
    @precondition(lambda self: self.earlier_alarms() <= self.running.alarms.keys() & self.ended.alarms.keys())
    @rule()
    def restore_the_store(self):
        """The store goes back in time under our token, and memory is written back into it; see `rewrite` for the rest."""
        self.store.restore(self.earlier)
        self.state.rewrite()

    @precondition(lambda self: not self.state.pending and not self.state.soft and self.running == self.ended)
    @rule()
    def reload(self):
        """The object left memory, and comes back as the store has it; past its expiry it is absent."""
        self.state.drop_turn()
        self.state = ObjectState.load(self.fields(), self.stored_rows(), now_ms=self.clock.now_ms())
        if 0 < self.ended.stored_expiry_ms <= self.clock.now_ms():
            self.ended, self.expired = Model(next_position=self.ended.next_position), True
        elif self.ended.absent and not self.fields():
            self.ended.next_position = 1
        self.running = copy.deepcopy(self.ended)

    @invariant()
    def the_turn_sees_the_model(self):
        expected = self.running
        assert sorted(expected.values) == self.state.list()
        assert sorted(expected.values, reverse=True)[:2] == self.state.list(limit=2, reverse=True)
        assert [key for key in ("a", "ab") if key in expected.values] == self.state.list("a", end="b")
        assert expected.values == {key: self.state.get(key, int) for key in self.state.list()}
        assert sorted(expected.alarms) == Alarms(self.state).names()
        assert expected.alarms == {name: Alarms(self.state).due_ms(name) for name in expected.alarms}
        assert self.ended.expire_at_ms == self.state.expire_at_ms
        assert sum(len(key) + len(encode(value)) for key, value in self.ended.values.items()) == self.state.size

        assert expected.journal == {entry.position: entry.value for entry in at_once(self.journal.read(type_=int))}
        assert (len(expected.journal), expected.next_position - 1) == (len(self.journal), self.journal.last)
        assert min(expected.journal, default=expected.next_position) == self.journal.first
        values = {name: value for name in INDEXES if (value := self.index.value(name)) is not None}
        assert {name: value for name, (value, _) in expected.rows.items()} == values
        assert {f"kind/{name}" for name in expected.rows} == self.state.row_names()

    # The store.

    @property
    def journal(self) -> Journal:
        host = SimpleNamespace(reads=SimpleNamespace(journal=self.read_stored))
        return Journal(cast("Activation", SimpleNamespace(host=host)), self.state)

    @property
    def index(self) -> Index:
        kind, address = SimpleNamespace(name="kind", indexed=True), SimpleNamespace(tenant="acme")
        return Index(cast("Activation", SimpleNamespace(kind=kind, address=address)), self.state)

    async def read_stored(self, _: object, *, after: int, rows: int) -> Sequence[tuple[int, bytes]]:
        """As `TurnReads.journal`."""
        return (await self.store.journal(0, self.fence, OBJECT, after=after, rows=rows)).entries

    def earlier_alarms(self) -> set[str]:
        shard = self.earlier.shards[0]
        return {member.removeprefix(OBJECT).decode() for member in (*shard.alarms, *shard.dead_alarms)}

    def apply(self, write: ObjectWrite) -> None:
        shard = self.shard()
        self.commits += 1
        section = Section(
            shard=0, fence=self.fence, seq=shard.lease.seq, commit_id=b"%d" % self.commits, writes=[write]
        )
        (reply,) = at_once(self.store.commit([section], ttl_ms=TTL_MS, timeout_ms=1_000)).replies
        assert Status.OK is reply.status

    def shard(self) -> Shard:
        return self.store.snapshot().shards[0]

    def fields(self) -> dict[bytes, bytes]:
        return self.shard().objects.get(OBJECT, {})

    def stored_rows(self) -> dict[str, IndexEntry]:
        return take_index_records(dict(self.fields()))

    def store_agrees(self) -> None:
        """What a load would find is the model, and every index says the same as the object."""
        shard, expected, fields = self.shard(), self.ended, self.fields()
        loaded = ObjectState.load(fields, self.stored_rows(), now_ms=0)
        assert expected.values == {key: loaded.get(key, int) for key in loaded.list()}
        assert expected.alarms == {name: record.due_ms for name, record in loaded.alarm_records.items()}
        assert {b"d" + name.encode() for name in expected.dead} == {field for field in fields if field[:1] == b"d"}
        assert {OBJECT + name.encode(): due_ms for name, due_ms in expected.alarms.items()} == shard.alarms
        assert {OBJECT + name.encode() for name in expected.dead} == shard.dead_alarms.keys()
        assert (set() if expected.absent else {OBJECT}) == shard.index
        assert ({OBJECT: expected.stored_expiry_ms} if expected.stored_expiry_ms else {}) == shard.expiries
        stored = shard.journals[OBJECT].entries if OBJECT in shard.journals else {}  # An empty one may be in neither.
        assert expected.journal == {position: decode(entry, int) for position, entry in stored.items()}
        rows = [(name, value, at_ms) for name, (value, at_ms) in expected.rows.items()]
        assert sorted(rows) == sorted(found_rows(shard))
        if expected.absent:
            assert ({}, {}) == (fields, shard.journals)
        else:
            assert self.state.alarm_records == loaded.alarm_records
            assert self.stored_rows() == (self.state.parts.rows if self.state.parts else {})
            assert (self.state.parts.mark if self.state.parts else JournalMark()) == loaded.journal
            assert (expected.expire_at_ms, self.state.version) == (loaded.expire_at_ms, loaded.version)


def found_rows(shard: Shard) -> list[tuple[str, str, int]]:
    """Index, value and time of what the sorted sets of the indexes have, each with its own value as summary."""
    found = []
    for name in INDEXES:
        for value in ("open", "done"):
            for member, at_ms in shard.rows.get(index_place("acme", f"kind/{name}", value), {}).items():
                assert IndexRow(at_ms, OBJECT, value.encode()) == IndexRow.at(Place(at_ms, member))
                found.append((name, value, at_ms))
    assert len(found) == sum(map(len, shard.rows.values()))
    return found


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=4 * settings().max_examples, stateful_step_count=40)


def test_an_object_is_listed_though_its_first_commit_failed() -> None:
    """Written again from memory, it enters the index of its kind."""
    history = StateMachine()
    history.put(key="a", value=1)
    history.end_turn()
    history.lose_commit()
    history.commit()


def test_an_alarm_whose_cancelling_commit_failed_leaves_the_index() -> None:
    """Written again from memory, the object takes the alarm's entry out."""
    history = StateMachine()
    history.set_alarm(name="x", span_ms=1_000)
    history.put(key="a", value=1)
    history.end_turn()
    history.commit()
    history.cancel_alarm(name="x")
    history.end_turn()
    history.lose_commit()
    history.commit()


def test_an_alarm_that_was_given_up_is_kept_when_the_object_is_written_again() -> None:
    """It is still shown as dead, by the object and by the index."""
    history = StateMachine()
    history.set_alarm(name="x", span_ms=1_000)
    history.end_turn()
    history.fail_alarm_turn(name="x", hopeless=True)
    history.commit()
    history.lose_commit()
    history.commit()


def test_an_alarm_that_was_given_up_goes_with_the_object() -> None:
    """Given up and deleted before a commit came by, it leaves nothing in what is written after."""
    history = StateMachine()
    history.set_alarm(name="x", span_ms=1_000)
    history.end_turn()
    history.fail_alarm_turn(name="x", hopeless=True)
    history.delete_all()
    history.put(key="a", value=1)
    history.end_turn()
    history.commit()


def test_an_alarm_that_was_given_up_ends_with_the_next_of_its_name() -> None:
    """Set anew and cancelled, it is dead no more, for the object as for the index."""
    history = StateMachine()
    history.set_alarm(name="x", span_ms=1_000)
    history.put(key="a", value=1)
    history.end_turn()
    history.fail_alarm_turn(name="x", hopeless=True)
    history.commit()
    history.set_alarm(name="x", span_ms=1_000)
    history.end_turn()
    history.cancel_alarm(name="x")
    history.end_turn()
    history.commit()


def test_an_object_with_an_alarm_that_was_given_up_does_not_expire() -> None:
    """Nobody has seen yet that it failed: the object is still there past its expiry."""
    history = StateMachine()
    history.set_alarm(name="x", span_ms=1_000)
    history.expire(span_ms=1_000)
    history.end_turn()
    history.fail_alarm_turn(name="x", hopeless=True)
    history.commit()
    history.reload()
    history.commit()
    assert 1_700_000_001_000 == history.state.expire_at_ms
    assert history.state.stays


def test_an_expiry_ends_with_its_object() -> None:
    """An object that begins anew never expires, whether or not a commit saw it absent in between."""
    for commit_between in (False, True):
        history = StateMachine()
        history.put(key="a", value=1)
        history.expire(span_ms=1_000)
        history.end_turn()
        history.delete(key="a")
        history.end_turn()
        if commit_between:
            history.commit()
        history.put(key="a", value=2)
        history.end_turn()
        history.commit()
        assert 0 == history.state.expire_at_ms


def test_positions_go_on_in_an_object_that_was_absent() -> None:
    """Also where the entries before were never stored, and the next state has none."""
    machine = StateMachine()
    machine.append(values=[0])
    machine.delete_all()
    machine.end_turn()
    machine.commit()
    machine.put(key="a", value=0)
    machine.end_turn()
    machine.commit()
    machine.reload()
    assert 1 == machine.journal.last
    machine.append(values=[1])
    assert 2 == machine.journal.last


def test_a_journal_that_was_trimmed_whole_is_written_again() -> None:
    """Its positions are kept, though there is nothing in it."""
    machine = StateMachine()
    machine.append(values=[0])
    machine.trim(keep=0)
    machine.end_turn()
    machine.lose_commit()
    machine.commit()
    machine.reload()
    assert 1 == machine.journal.last
