"""What clients and handlers of a simulated run saw, and whether the promises of the core allow it.

The objects make it easy to tell. A *ledger* keeps the ids of all turns that counted, in their order, and every reply is
the whole of it: so histories are linearizable just where all replies are prefixes of one another, in real-time order. A
checkpointed *tally* replies its total: what was lost shows as a total that goes back. A *note* is a register that expires.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from shared import bounds
from shared.objects.address import Address

SLACK_MS = 60
"""What a reply may take from the node to the client, and clocks may differ."""
DETECTION_MS = 2_500
"""How long after the store went back memory may still be older: a renewal, and its answer."""


class Op(msgspec.Struct, kw_only=True):
    """One call of a client, from when it was made to its answer. `reply` is None unless `outcome` is "ok"."""

    id: str
    address: Address
    what: str
    began_ms: int
    argument_ms: int = 0
    ended_ms: int = -1
    outcome: str = "unknown"  # Or "ok", or "failed": surely without effect.
    reply: tuple[str, ...] | int | str | None = None

    def __str__(self) -> str:
        reply = f"{len(self.reply)} ids" if isinstance(self.reply, tuple) else repr(self.reply)
        return f"{self.began_ms:6}-{self.ended_ms:6} {self.address.name} {self.what} {self.id} {self.outcome} {reply}"


class Alarmed(msgspec.Struct, frozen=True):
    """An alarm in a ledger: `arm:<id>:<name>:<due>`, `rang::<name>:<due>`, `cancel:<id>:<name>:`."""

    verb: str
    name: str
    due_ms: int

    @classmethod
    def read(cls, entry: str) -> "Alarmed | None":
        """What the entry of a ledger says about alarms."""
        verb, _, rest = entry.partition(":")
        if verb not in ("arm", "rang", "cancel"):
            return None
        _, name, due = rest.split(":")
        return cls(verb, name, int(due or 0))


def id_of(entry: str) -> str:
    """The id of the call that made an entry."""
    return entry.split(":")[1] if ":" in entry else entry


class History:
    """All that happened in one run. `broken` gathers what must not happen."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.events: list[str] = []
        self.broken: list[str] = []
        self.restored_ms: list[int] = []
        self.final: dict[Address, tuple[str, ...]] = {}
        self.settled: dict[Address, tuple[str, ...]] = {}  # When all trouble was over, on the nodes that had it.
        self.stored_alarms: dict[Address, dict[str, int]] = {}
        self.turn_ms: dict[str, int] = {}
        self._inside: set[tuple[int, Address]] = set()

    def enter(self, activation: int, address: Address) -> None:
        """A turn begins. One that lost its owner may still run beside its successor's, to no effect."""
        self.hold((activation, address) not in self._inside, f"turns of {address} overlap")
        self._inside.add((activation, address))

    def leave(self, activation: int, address: Address) -> None:
        """A turn ends."""
        self._inside.discard((activation, address))

    def at_a_seam(self, op: Op) -> bool:
        """Whether the store went back during the call, or so shortly before that memory may not have noticed."""
        return any(op.began_ms - DETECTION_MS < restored_ms <= op.ended_ms for restored_ms in self.restored_ms)

    def hold(self, truth: object, otherwise: str) -> None:
        """Note what is broken, unless it holds."""
        if not truth:
            self.broken.append(otherwise)

    def check(self) -> None:
        """Judge the whole run."""
        by_address: dict[Address, list[Op]] = defaultdict(list)
        for op in self.ops:
            by_address[op.address].append(op)
            self.hold(op.ended_ms >= 0, f"no answer: {op}")
        for address, ops in by_address.items():
            if address.kind == "ledger":
                self._check_ledger(address, ops)
            elif address.kind == "note":
                self._check_note(ops)
            else:
                self._check_tally(ops)

    def _eras(self, ops: Sequence[Op]) -> list[list[Op]]:
        """The operations between one restored store and the next, those at its seams left out; the last era is last."""
        starts = [-1_000_000, *self.restored_ms]
        ends = [*self.restored_ms, 1 << 60]
        return [
            [op for op in ops if op.began_ms >= start + DETECTION_MS and op.ended_ms < end]
            for start, end in zip(starts, ends, strict=True)
        ]

    def _check_ledger(self, address: Address, ops: Sequence[Op]) -> None:
        log = self.final[address]
        ids = [id_of(entry) for entry in log if not entry.startswith("rang:")]
        self.hold(len(ids) == len(set(ids)), f"a turn counted twice: {address} {log}")
        eras = self._eras(ops)
        for op in eras[-1]:
            self.hold(op.outcome != "failed" or op.id not in ids, f"failed, and yet it counts: {op}")
            self.hold(op.outcome != "ok" or op.what == "read" or op.id in ids, f"acknowledged and lost: {op}")
        for era in eras:
            self._check_order([op for op in era if op.outcome == "ok"])
            self._check_failed(era)
        for op in eras[-1]:
            if isinstance(op.reply, tuple):
                self.hold(log[: len(op.reply)] == op.reply, f"not a prefix of what is stored: {op}")
        if not self.restored_ms:
            self._check_alarms(address, self.settled[address])

    def _check_order(self, answered: Sequence[Op]) -> None:
        """Each reply extends all that were there before the call was made; a write is the end of its own reply."""
        for op in answered:
            assert isinstance(op.reply, tuple)
            if op.what != "read":
                self.hold(op.reply and id_of(op.reply[-1]) == op.id, f"a reply without its own write: {op}")
        longest: tuple[str, ...] = ()
        done = sorted(answered, key=lambda op: op.ended_ms)
        next_done = 0
        for op in sorted(answered, key=lambda op: op.began_ms):
            while next_done < len(done) and done[next_done].ended_ms < op.began_ms:
                reply = done[next_done].reply
                assert isinstance(reply, tuple)
                longest = max(longest, reply, key=len)
                next_done += 1
            assert isinstance(op.reply, tuple)
            self.hold(op.reply[: len(longest)] == longest, f"older than what was answered before: {op}")

    def _check_failed(self, era: Sequence[Op]) -> None:
        seen = {id_of(entry) for op in era if isinstance(op.reply, tuple) for entry in op.reply}
        for op in era:
            self.hold(op.outcome != "failed" or op.id not in seen, f"failed, and yet it was seen: {op}")

    def _check_alarms(self, address: Address, log: Sequence[str]) -> None:
        """In the ledger's order: what rings is armed; what is armed at the end is stored, and not overdue."""
        armed: dict[str, int] = {}
        for entry in log:
            alarm = Alarmed.read(entry)
            if alarm is None:
                continue
            if alarm.verb == "arm":
                armed[alarm.name] = alarm.due_ms
            elif alarm.verb == "rang":
                self.hold(armed.pop(alarm.name, None) == alarm.due_ms, f"rang and was not armed: {address} {entry}")
            else:
                armed.pop(alarm.name, None)
        stored = self.stored_alarms.get(address, {})
        self.hold(not armed, f"due and never rang: {address} {armed}, stored {stored}")
        self.hold(not stored, f"stored and not armed: {address} {stored}")

    def _check_tally(self, ops: Sequence[Op]) -> None:
        """What is lost was acknowledged within one second: that of the checkpoint that was not confirmed."""
        for era in self._eras(ops):
            live: list[Op] = []
            ended = sorted((op for op in era if op.outcome == "ok"), key=lambda op: op.ended_ms)
            for op in ended:
                assert isinstance(op.reply, int)
                least = op.reply + (op.what == "read")
                lost = [other for other in live if other.ended_ms < op.began_ms and _value(other) >= least]
                if lost:
                    turns_ms = [self.turn_ms[each.id] for each in lost]
                    span_ms = max(turns_ms) - min(turns_ms)
                    self.hold(
                        span_ms <= bounds.CHECKPOINT_STALE_MS + SLACK_MS,
                        f"acknowledged over {span_ms} ms and lost: {lost[0]} ... {lost[-1]}, seen by {op}",
                    )
                    live = [other for other in live if other not in lost]
                if op.what != "read":
                    live.append(op)

    def _check_note(self, ops: Sequence[Op]) -> None:
        """A read finds a value that no answered later write had replaced before, or nothing where that may be."""
        for era in self._eras(ops):
            for read in era:
                if read.what == "read" and read.outcome == "ok":
                    allowed = _allowed([op for op in ops if op.what != "read" and op.began_ms <= read.ended_ms], read)
                    seam = self.restored_ms and read.reply not in allowed
                    self.hold(seam or read.reply in allowed, f"a note reads {read.reply!r}, not {allowed}: {read}")


def _value(op: Op) -> int:
    assert isinstance(op.reply, int)
    return op.reply


def _allowed(writes: Sequence[Op], read: Op) -> set[str]:
    """The values that a read may find."""
    writes = [write for write in writes if write.outcome != "failed"]
    allowed: set[str] = set()
    answered = [write for write in writes if write.outcome == "ok" and write.ended_ms < read.began_ms]
    if not answered:
        allowed.add("")
    for write in writes:
        if any(later.began_ms > write.ended_ms >= 0 for later in answered if write.outcome == "ok"):
            continue
        if write.what == "drop":
            allowed.add("")
            continue
        if write.began_ms + write.argument_ms <= read.ended_ms + SLACK_MS:
            allowed.add("")
        late_ms = write.ended_ms if write.outcome == "ok" else read.ended_ms
        if late_ms + write.argument_ms + SLACK_MS >= read.began_ms:
            allowed.add(write.id)
    return allowed
