"""A world for whole nodes, of which one seed decides everything: clients, faults, crashes, pauses, a store that goes back.

Two machines, a node on each. The nodes are those that are shipped; only the store is in memory, and its time is virtual.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from shared.errors import RefusedError
from shared.objects.address import Address, shard_of
from shared.objects.errors import (
    CallCycleError,
    CommitFailedError,
    DeadlineExceededError,
    HandlerError,
    OutcomeUnknownError,
)
from shared.objects.handler import Alarm, Checkpoint, DurableObject, readonly
from shared.objects.host import NOT_NOW
from shared.objects.journal_mark import JournalMark
from shared.storage import keys
from shared.storage.codec import AlarmRecord, Meta, decode
from shared.storage.interface import (
    JOURNAL_FIELD,
    RECORD_FIELD,
    Committed,
    Section,
    StoreError,
    take_index_records,
)
from shared.storage.listings import IndexRow
from shared.testing.clock import START_MS, LoopClock, VirtualTimeLoop
from shared.testing.cluster import Node, NodeDiedError
from shared.testing.faults import Fault, FaultKind, FaultyStore
from shared.testing.shard import Journal, Shard
from shared.testing.store import MemoryStore
from tests.simulation.seeded_history import History, Op

SHARDS = 2
TROUBLE_S = 14.0
HEALING_S = (
    50.0  # An alarm that was set anew in its last wait of 10 s fails three times more in 18 s, and a node may be slow.
)
FAILS_MAX = 3
PATIENCE_MS = 8_000
Ids = tuple[str, ...]


class Observed(DurableObject):
    """An object whose turns are watched."""

    history: ClassVar[History]
    now_ms: ClassVar[Callable[[], int]]

    def enter(self) -> None:
        Observed.history.enter(id(self._activation), self.address)

    def leave(self) -> None:
        Observed.history.leave(id(self._activation), self.address)


class Ledger(Observed):
    """The ids of the turns that counted, in their order; and alarms. The newest of them are its journal, too."""

    kind = "ledger"

    def _log(self, entry: str) -> Ids:
        return self._write((*self.storage.get("log", Ids, default=()), entry))

    def _write(self, log: Ids) -> Ids:
        self.storage.put("log", log)
        self.journal.append(log[-1])
        if len(self.journal) > 12:
            self.journal.trim(keep=6)
        value = listed_under(log)
        if value is None:
            self.index.clear("length")
        else:
            self.index.set("length", value, len(log), summary=log[-1].encode())
        return log

    def add(self, id_: str) -> Ids:
        self.enter()
        log = self._log(id_)
        self.leave()
        return log

    async def add_slowly(self, id_: str, seconds: float) -> Ids:
        self.enter()
        try:
            before: Ids = self.storage.get("log", Ids, default=())
            await asyncio.sleep(seconds)
            return self._write((*before, id_))
        finally:
            self.leave()

    async def add_twice(self, id_: str, other: str) -> Ids:
        await self.objects.at(Ledger, "t", other).add(f"{id_}+")
        return self._log(id_)

    def write_anew(self, id_: str) -> Ids:
        before: Ids = self.storage.get("log", Ids, default=())
        alarms = {name: self.alarms.due_ms(name) for name in self.alarms.names()}
        self.storage.delete_all()
        self._write((*before, id_))
        for name, due_ms in alarms.items():
            assert due_ms is not None
            self.alarms.set(name, at_ms=due_ms)
        return (*before, id_)

    def fail(self, id_: str) -> None:
        self._log(id_)
        raise ValueError("this turn leaves no trace")

    def arm(self, id_: str, name: str, in_ms: int) -> Ids:
        due_ms = self.clock.now_ms() + in_ms
        self.alarms.set(name, at_ms=due_ms)
        return self._log(f"arm:{id_}:{name}:{due_ms}")

    def cancel(self, id_: str, name: str) -> Ids:
        self.alarms.cancel(name)
        return self._log(f"cancel:{id_}:{name}:")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.enter()
        try:
            early = alarm.attempts == 0 and alarm.due_ms > Observed.now_ms()
            Observed.history.hold(not early, f"{self.address} rang early: {alarm}")
            await asyncio.sleep(0.02)
            armed = [entry for entry in self.storage.get("log", Ids, default=()) if f":{alarm.name}:" in entry]
            self._log(f"rang::{alarm.name}:{armed[-1].rpartition(':')[2] if armed else 0}")
            if alarm.attempts < int(alarm.name[-1]):
                raise ValueError("this alarm fails")
        finally:
            self.leave()

    @readonly
    def read(self) -> Ids:
        log: Ids = self.storage.get("log", Ids, default=())
        return log

    @readonly
    def look(self) -> Ids:
        self.storage.put_soft("looks", self.storage.get("looks", int, default=0) + 1)
        return self.read()

    @readonly
    async def replay(self) -> Ids:
        log = self.read()
        entries = await self.journal.read(type_=str)
        said = tuple(entry.value for entry in entries)
        positions = [entry.position for entry in entries]
        Observed.history.hold(said == log[len(log) - len(said) :], f"the journal of {self.address} reads {said}: {log}")
        Observed.history.hold(
            positions == list(range(self.journal.first, self.journal.last + 1)),
            f"the journal of {self.address} has gaps: {positions}",
        )
        return log


def listed_under(log: Ids) -> str | None:
    """Under which value of its index a ledger is found."""
    return None if len(log) % 4 == 0 else str(len(log) % 3)


class Note(Observed):
    """A value for a while."""

    kind = "note"

    def keep(self, id_: str, for_ms: int) -> str:
        self.storage.put("id", id_)
        self.storage.expire_at(self.clock.now_ms() + for_ms)
        return id_

    def drop(self) -> str:
        self.storage.delete_all()
        return ""

    @readonly
    def read(self) -> str:
        return str(self.storage.get("id", str, default=""))


class Tally(Observed):
    """A checkpointed total."""

    __slots__ = ("total",)
    kind = "tally"
    durability = "checkpointed"

    def on_activate(self) -> None:
        self.total: int = self.storage.get("total", int, default=0)

    def hit(self, id_: str) -> int:
        Observed.history.turn_ms[id_] = Observed.now_ms() - START_MS
        self.total += 1
        self.dirty()
        return self.total

    def hit_and_say(self, id_: str) -> int:
        self.journal.append(id_)
        self.journal.trim(keep=10)
        return self.hit(id_)

    async def hit_slowly(self, id_: str) -> int:
        self.enter()
        try:
            self.dirty()
            await asyncio.sleep(0.3)
            return self.hit(id_)
        finally:
            self.leave()

    @readonly
    def read(self) -> int:
        return self.total

    def on_checkpoint(self) -> None:
        self.storage.put("total", self.total)
        self.index.set("total", "any", self.total)


class Meter(Observed):
    """A checkpointed total whose instance alone has the state."""

    __slots__ = ("total",)
    kind = "meter"
    durability = "checkpointed"
    indexed = False
    native = True

    def on_activate(self) -> None:
        self.total = int(self.loaded or b"0")

    def hit(self, id_: str) -> int:
        Observed.history.turn_ms[id_] = Observed.now_ms() - START_MS
        self.total += 1
        self.dirty()
        return self.total

    @readonly
    def read(self) -> int:
        return self.total

    def on_checkpoint(self) -> Checkpoint:
        return Checkpoint(b"%d" % self.total if self.total else b"")


class WatchedStore(MemoryStore):
    """Looks after every commit whether indexes and objects agree."""

    history: History

    async def commit(self, sections: Sequence[Section], *, ttl_ms: int, timeout_ms: int) -> Committed:
        committed = await super().commit(sections, ttl_ms=ttl_ms, timeout_ms=timeout_ms)
        for section in sections:
            self._agree(section.shard)
        return committed

    def _agree(self, number: int) -> None:
        shard = self._shard(number)
        alarms, expiries = {}, {}
        for key, fields in shard.objects.items():
            for field, stored in fields.items():
                if field[:1] == b"a":
                    alarms[key + field[1:]] = decode(stored, AlarmRecord).due_ms
            meta = decode(fields[RECORD_FIELD], Meta)
            if meta.expire_at_ms and not any(field[:1] in b"ad" for field in fields):
                expiries[key] = meta.expire_at_ms
        hold = self.history.hold
        hold(shard.index == shard.objects.keys(), f"index and objects of shard {number} differ")
        hold(shard.alarms == alarms, f"alarms and objects of shard {number} differ: {shard.alarms} {alarms}")
        hold(shard.expiries == expiries, f"expiries and objects of shard {number} differ")
        self._parts_agree(number, shard)

    def _parts_agree(self, number: int, shard: Shard) -> None:
        """Journals have no gaps and say what their objects say; each index has the row of each object, and no other."""
        rows: dict[bytes, dict[bytes, int]] = {}
        journals = {}
        hold = self.history.hold
        for key, fields in shard.objects.items():
            stored = take_index_records(dict(fields))
            for name, row in stored.items():
                place = keys.index_place(row.tenant, name, row.value)
                rows.setdefault(place, {})[IndexRow(row.sort_ms, key, row.summary).place.member] = row.sort_ms
            mark = decode(fields[JOURNAL_FIELD], JournalMark) if JOURNAL_FIELD in fields else JournalMark()
            entries = shard.journals.get(key, Journal()).entries if mark.first else {}
            journals[key] = dict(entries)
            lost = self.history.restored_ms and b"ktotal" in fields  # What a checkpointed one had stored and not kept.
            hold(
                lost or list(entries) == list(range(mark.first or 1, mark.next if mark.first else 1)),
                f"gaps: {entries}",
            )
            if b"klog" in fields:
                log = decode(fields[b"klog"], Ids)
                said = tuple(decode(entry, str) for entry in entries.values())
                hold(said and said == log[len(log) - len(said) :], f"a journal says {said}: {log}")
                expected = {"ledger/length": listed_under(log)} if listed_under(log) else {}
                hold(expected == {name: row.value for name, row in stored.items()}, f"listed as {stored}: {log}")
        hold(rows == shard.rows, f"index rows and objects of shard {number} differ: {shard.rows} {rows}")
        left = {key: journal.entries for key, journal in shard.journals.items() if journal.entries}
        hold(left == {key: entries for key, entries in journals.items() if entries}, f"a journal has no object: {left}")

    def log(self, address: Address) -> Ids:
        """A ledger as it is stored now."""
        key = address.encode()
        stored = self._shard(shard_of(key, SHARDS)).objects.get(key, {}).get(b"klog")
        return () if stored is None else decode(stored, Ids)

    def alarms(self, address: Address) -> dict[str, int]:
        """The alarms of an object that are stored now."""
        key = address.encode()
        alarms = self._shard(shard_of(key, SHARDS)).alarms
        return {member[len(key) :].decode(): due for member, due in alarms.items() if member.startswith(key)}


LEDGERS = [Address("ledger", "t", f"l{index}") for index in range(3)]
NOTE = Address("note", "t", "n")
TALLY = Address("tally", "t", "c")
METER = Address("meter", "t", "m")


class World:
    """One run."""

    def __init__(self, seed: int) -> None:
        loop = asyncio.get_running_loop()
        self.random = random.Random(seed)
        self.history = Observed.history = History()
        self.clock = LoopClock(loop)
        Observed.now_ms = staticmethod(self.clock.now_ms)
        self.store = WatchedStore(self.clock, latency_ms=4)
        self.store.history = self.history
        self.nodes: list[Node] = []
        self.links: list[FaultyStore] = []
        self.all: list[tuple[Node, FaultyStore]] = []
        self.fault_rate = self.random.choice([0.0, 0.02, 0.08, 0.2])
        self.may_restore = self.random.random() < 0.25
        self.snapshots: list[Any] = []
        self.troubled = True

    def ms(self) -> int:
        return self.clock.now_ms() - START_MS

    def note(self, event: str) -> None:
        self.history.events.append(f"{self.ms():6}        {event}")

    async def run(self) -> None:
        try:
            for machine in range(2):
                self.nodes.append(await self.start(machine))
            async with asyncio.TaskGroup() as group:
                for run in (self.trouble(), *(self.client(index) for index in range(4))):
                    group.create_task(run)
            self.troubled = False
            await self.heal()
            await self.judge()
        finally:
            await self.bury()

    async def bury(self) -> None:
        for node, _ in self.all:
            await node.bury()
        for _, link in self.all:
            await link.settle()

    # Nodes.

    async def start(self, machine: int) -> Node:
        link = FaultyStore(self.store, draw=self.draw)
        clock = LoopClock(asyncio.get_running_loop(), START_MS + self.random.randint(-3_000, 3_000))
        node = Node(
            link,
            kinds=[Ledger, Note, Tally, Meter],
            name=f"n{len(self.all)}",
            lock_id=f"machine {machine}",
            shards=SHARDS,
            clock=clock,
            draw=self.random.random,
        )
        self.all.append((node, link))
        self.links[machine:] = [link, *self.links[machine + 1 :]]
        node.start(housekeeping=True)
        try:
            await node.run(node.ownership.claim_missing())
        except StoreError:
            self.note(f"{node.name} starts without a store")
        return node

    def draw(self, operation: str, count: int) -> Fault | None:
        if not self.troubled or self.random.random() >= self.fault_rate:
            return None
        kind = self.random.choice(list(FaultKind))
        delay_ms = self.random.choice([3, 50, 400, 1_500, 4_000, 7_000])
        self.note(f"{operation} {kind.value} {delay_ms}")
        return Fault(operation=operation, kind=kind, count=count, delay_ms=delay_ms)

    async def trouble(self) -> None:
        end_ms = TROUBLE_S * 1_000
        deeds = [self.crash, self.crash, self.pause, self.cut, self.drain, self.rest, self.go_back]
        while self.ms() < end_ms:
            self.snapshots = [*self.snapshots[-2:], self.store.snapshot()]
            await asyncio.sleep(self.random.uniform(0.1, 3))
            await self.random.choice(deeds)(self.random.randrange(2))

    async def crash(self, machine: int) -> None:
        self.note(f"kill {self.nodes[machine].name}")
        await self.nodes[machine].kill()
        await asyncio.sleep(self.random.choice([0, 0, 0.5, 8]))
        self.nodes[machine] = await self.start(machine)

    async def drain(self, machine: int) -> None:
        node = self.nodes[machine]
        self.note(f"drain {node.name}")
        await node.drain()
        self.nodes[machine] = await self.start(machine)

    async def pause(self, machine: int) -> None:
        node = self.nodes[machine]
        self.note(f"stop {node.name}")
        node.process.stop()
        await asyncio.sleep(self.random.choice([0.3, 4.9, 5.5, 6.5, 9]))
        self.note(f"continue {node.name}")
        node.process.resume()

    async def cut(self, machine: int) -> None:
        link = self.links[machine]
        self.note(f"cut off {self.nodes[machine].name}")
        link.away = True
        seconds = self.random.choice([0.2, 0.9, 2.5, 5.5, 7, 9])
        asyncio.get_running_loop().call_later(seconds, setattr, link, "away", False)  # Other trouble comes meanwhile.

    async def rest(self, machine: int) -> None:
        for address in (*LEDGERS, NOTE, TALLY, METER):
            self.nodes[machine].host.residents.passivate(address)

    async def go_back(self, machine: int) -> None:
        if self.may_restore and not self.history.restored_ms:
            self.note("the store goes back in time")
            self.store.restore(self.snapshots[0])
            self.history.restored_ms.append(self.ms())

    # Clients.

    async def client(self, index: int) -> None:
        number = 0
        while self.ms() < TROUBLE_S * 1_000 + 1_000:
            await asyncio.sleep(self.random.choice([0.001, 0.02, 0.1, 0.4]))
            number += 1
            await self.act(f"{index}.{number}")

    def choose(self, id_: str) -> tuple[Address, str, Callable[..., Any], tuple[Any, ...]]:
        """An object, what is done to it, and how."""
        pick = self.random
        ledger = pick.choice(LEDGERS)
        alarm = f"a{pick.randrange(2)}.{pick.choice([0, 0, 0, pick.randrange(FAILS_MAX + 1)])}"
        other = pick.choice([address.name for address in LEDGERS])
        deeds: list[tuple[int, tuple[Address, str, Callable[..., Any], tuple[Any, ...]]]] = [
            (8, (ledger, "add", Ledger.add, (id_,))),
            (3, (ledger, "add", Ledger.add_slowly, (id_, pick.choice([0.002, 0.05, 0.6])))),
            (2, (ledger, "add", Ledger.add_twice, (id_, other))),
            (1, (ledger, "add", Ledger.write_anew, (id_,))),
            (1, (ledger, "fail", Ledger.fail, (id_,))),
            (3, (ledger, "arm", Ledger.arm, (id_, alarm, pick.choice([0, 30, 300, 3_000])))),
            (1, (ledger, "cancel", Ledger.cancel, (id_, alarm))),
            (4, (ledger, "read", Ledger.read, ())),
            (1, (ledger, "read", Ledger.replay, ())),
            (1, (ledger, "read", Ledger.look, ())),
            (2, (NOTE, "keep", Note.keep, (id_, pick.choice([100, 1_000, 6_000])))),
            (1, (NOTE, "drop", Note.drop, ())),
            (3, (NOTE, "read", Note.read, ())),
            (4, (TALLY, "hit", Tally.hit, (id_,))),
            (1, (TALLY, "hit", Tally.hit_and_say, (id_,))),
            (1, (TALLY, "hit", Tally.hit_slowly, (id_,))),
            (1, (TALLY, "read", Tally.read, ())),
            (4, (METER, "hit", Meter.hit, (id_,))),
            (1, (METER, "read", Meter.read, ())),
        ]
        return pick.choices([deed for _, deed in deeds], [weight for weight, _ in deeds])[0]

    async def act(self, id_: str) -> None:
        address, what, method, arguments = self.choose(id_)
        node = self.route(address)
        for_ms = arguments[1] if what == "keep" else 0
        op = Op(id=id_, address=address, what=what, began_ms=self.ms(), argument_ms=for_ms)
        self.history.ops.append(op)
        if method == Ledger.add_twice:
            other = Address("ledger", "t", arguments[1])
            inner = Op(id=f"{id_}+", address=other, what="inner", began_ms=op.began_ms)
            self.history.ops.append(inner)
        else:
            inner = None
        try:
            async with asyncio.timeout(60):
                op.reply = await node.run(self.turn(node, address, method, arguments))
            op.outcome = "ok"
        except (RefusedError, CommitFailedError, HandlerError, CallCycleError):
            op.outcome = "failed"
        except DeadlineExceededError as exc:
            op.outcome = "unknown" if exc.started else "failed"
        except (OutcomeUnknownError, NodeDiedError):
            op.outcome = "unknown"
        except TimeoutError:
            return  # Without an answer.
        finally:
            if inner is not None:
                inner.ended_ms = self.ms()
        op.ended_ms = self.ms()
        if address in LEDGERS and op.outcome == "ok" and not self.history.at_a_seam(op):
            reply, stored = op.reply, self.store.log(address)
            self.history.hold(reply == stored[: len(reply)], f"answered before it was stored: {op}, {stored}")  # type: ignore[arg-type]  # A ledger replies its ids.

    async def turn(self, node: Node, address: Address, method: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """The fast way where it is open, else the ordinary one, as the edge of a node does it."""
        if address in (TALLY, METER) and method != Tally.hit_slowly:
            reply = node.host.try_now(address, method, *arguments)
            if reply is not NOT_NOW:
                return reply
        return await node.host.call(address, method, *arguments, deadline_ms=PATIENCE_MS)

    def route(self, address: Address) -> Node:
        """Mostly the node that owns the object."""
        shard = shard_of(address.encode(), SHARDS)
        owners = [node for node in self.nodes if node.ownership.shards[shard].open]
        if owners and self.random.random() < 0.9:
            return self.random.choice(owners)
        return self.random.choice(self.nodes)

    # The end.

    async def heal(self) -> None:
        """No more trouble: what is due must ring, what is dirty must be stored."""
        self.note("healing")
        for link in self.links:
            link.away = False
        await asyncio.sleep(HEALING_S)

    async def judge(self) -> None:
        for address in LEDGERS:  # Before the last node, which would ring what the others have forgotten.
            self.history.settled[address] = self.store.log(address)
            self.history.stored_alarms[address] = self.store.alarms(address)
        for node in self.nodes:
            await node.drain()
        last = await self.start(0)
        await asyncio.sleep(10)  # It has claimed what was not free at once.
        for address in LEDGERS:
            self.history.final[address] = await last.call(address, Ledger.read)
        for address, read in ((NOTE, Note.read), (TALLY, Tally.read), (METER, Meter.read)):
            op = Op(id="end", address=address, what="read", began_ms=self.ms())
            op.reply = await last.call(address, read)
            op.outcome, op.ended_ms = "ok", self.ms()
            self.history.ops.append(op)
        await self.find_all(last)
        self.history.check()

    async def find_all(self, node: Node) -> None:
        """A listing shows exactly the objects that are there, in order, page by page."""
        for value in ("0", "1", "2"):
            logs = {address: self.store.log(address) for address in LEDGERS}
            expected = [(len(log), address) for address, log in logs.items() if listed_under(log) == value]
            found, after = [], None
            while True:
                page = await node.run(node.host.calls.find(Ledger, "t", "length", value, after=after, limit=2))
                found += [(row.sort_ms, row.address) for row in page.rows]
                after = page.after
                if after is None:
                    break
            self.history.hold(sorted(expected) == found, f"found under {value}: {found}, not {expected}")
            count = await node.run(node.host.calls.count(Ledger, "t", "length", value))
            self.history.hold(len(expected) == count, f"counted {count}, not {expected}")


def simulate(seed: int) -> History:
    """Run one seed and judge it."""

    async def main() -> History:
        world = World(seed)
        await world.run()
        return world.history

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_ms=600_000)) as runner:
        return runner.run(main())
