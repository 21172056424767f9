"""The limiter object: all that one subject of a tenant has used, under every policy, checked in one turn.

Guarantees:

- Never more than the limit in any window, and several limits all or nothing, because one turn in
  one place sees and changes them all.
- After a crash, what was admitted since the last confirmed checkpoint is forgotten: at most what
  passed in the last 250 ms and the flight under way (1 s if the store is slow; then checks wait),
  and never more than the limit. A planned move, and a `reset`, forget nothing: both are stored first.
- Nothing stays for ever: a subject whose windows have drained is deleted, in memory with the next
  checkpoint and in the store by its expiry.

Time: a timeline of its own, CLOCK_BOOTTIME plus an offset that never changes while the object is in
memory, so no correction of any wall clock can shorten a window. A checkpoint stores its own time
next to the latest time that the store's clock could show. The next owner goes on from there by what
has surely passed since, by the earliest time the store's clock can show: uncertainty lengthens a
window, it never shortens one.

Cost: a check of two limits takes about 1.5 us, of which half is the answer. Memory: about 400 bytes
a subject under a policy of two limits, plus 8 for each hit that still counts; with all that the host
keeps of it, 1,000 bytes with 8 hits a limit (`benchmarks/memory.py`).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar, Literal

import msgspec

from services.ratelimiter.compiled import CompiledPolicy, Decision
from services.ratelimiter.policy import STATE_BYTES_MAX, STORED_OVERHEAD_BYTES, SubjectFullError
from services.ratelimiter.schemas import LimitState, PolicyUsage
from services.ratelimiter.window import Window
from shared.objects.handler import Checkpoint, DurableObject, readonly


class StoredUsage(msgspec.Struct, frozen=True, array_like=True):
    """One policy's windows as stored, by the names of the limits."""

    policy: str
    version: int
    windows: tuple[tuple[str, bytes], ...]


class StoredLimiter(msgspec.Struct, frozen=True, array_like=True):
    """A whole limiter as stored. `own_ms` is its own time, `store_ms` the latest the store's clock could show then."""

    own_ms: int
    store_ms: int
    usages: tuple[StoredUsage, ...]


class _Past(msgspec.Struct, frozen=True, gc=False):
    """What is known of the policy of loaded windows until the first check under it."""

    name: str
    version: int
    limit_names: tuple[str, ...]


class _Usage(msgspec.Struct, gc=False):
    """The windows of one policy."""

    policy: CompiledPolicy | _Past
    windows: tuple[Window, ...]

    def drained_at_ms(self) -> int:
        """When the last hit of it stops counting; 0 if nothing is used."""
        return max([window.drained_at_ms() for window in self.windows])

    def stored(self) -> StoredUsage:
        """Its stored form."""
        encoded = [window.encode() for window in self.windows]
        policy = self.policy
        return StoredUsage(policy.name, policy.version, tuple(zip(policy.limit_names, encoded, strict=True)))


_EXPIRY_STEP_MS = 1_000  # Up to so much later than it could, the store drops a subject.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredLimiter).decode


class Limiter(DurableObject):
    """One subject of one tenant. The address's name is the subject."""

    __slots__ = ("_ahead_ms", "_others", "_recent")

    kind: ClassVar[str] = "limiter"
    durability: ClassVar[Literal["committed", "checkpointed"]] = "checkpointed"
    indexed: ClassVar[bool] = False
    native: ClassVar[bool] = True
    keep_ms: ClassVar[int] = 3_600_000  # Reading a subject again costs more than ten checks of it.

    def on_activate(self) -> None:
        """Take in what is stored, and fix the own timeline."""
        clock = self.clock
        loaded = self.loaded
        self._recent: _Usage | None = None
        self._others: tuple[_Usage, ...] = ()  # Of further policies, the most recent first.
        if not loaded:
            self._ahead_ms = _one(clock.upper_ms() - clock.monotonic_ms())
            return
        stored = _decode(loaded)
        passed_ms = max(0, clock.lower_ms() - stored.store_ms)
        self._ahead_ms = stored.own_ms + passed_ms - clock.monotonic_ms()
        usages = tuple(_loaded(usage) for usage in stored.usages)
        self._recent, self._others = usages[0], usages[1:]

    def check(self, policy: CompiledPolicy, cost: int, peek: bool) -> Decision:  # noqa: FBT001  # Turns take their arguments by place.
        """Take `cost` (at most `policy.cost_max`) from every limit of the policy, if all of them have it.

        A cost of 0 asks for 1 and takes nothing, as `peek` asks for `cost` and takes nothing.

        Raises:
            SubjectFullError: what the subject has used under other policies leaves no room in its state.
        """
        now_ms = self.clock.monotonic_ms() + self._ahead_ms
        usage = self._recent
        if usage is None or usage.policy is not policy:
            usage = self._usage_under(policy, now_ms)
        windows = usage.windows
        wanted = cost or 1
        for window in windows:
            if not window.fits(now_ms, wanted):
                return _denial(windows, now_ms, wanted)
        numbers: list[int] = []
        taken = 0 if peek else cost
        for window in windows:
            if taken:
                window.take(now_ms, taken)
            used = window.used
            rule = window.rule
            numbers.append(rule.limit - used)
            numbers.append(window.oldest_ms() + rule.window_ms - now_ms if used else 0)
        if taken:
            self.dirty()
        return Decision(allowed=True, numbers=tuple(numbers))

    @readonly
    def usage(self) -> tuple[PolicyUsage, ...]:
        """What counts at the moment, for every policy under which anything does."""
        now_ms = self.clock.monotonic_ms() + self._ahead_ms
        return tuple(_usage_view(usage, now_ms) for usage in self._live(now_ms))

    def reset(self, policy: str | None) -> bool:
        """Forget what was used, under one policy or all. Says whether anything counted.

        Call it with `durability="committed"`, so that no crash brings the usage back after the answer.
        """
        now_ms = self.clock.monotonic_ms() + self._ahead_ms
        live = self._live(now_ms)
        kept = [] if policy is None else [usage for usage in live if usage.policy.name != policy]
        if len(kept) == len(live):
            return False
        self._keep(kept)
        self.dirty()
        return True

    def on_checkpoint(self) -> Checkpoint:
        """Everything that still counts; nothing left: delete the object."""
        now_ms = self.clock.monotonic_ms() + self._ahead_ms
        live: list[_Usage] = []
        drained_ms = 0
        for usage in self._every():
            usage_drained_ms = usage.drained_at_ms()
            if usage_drained_ms > now_ms:
                live.append(usage)
                drained_ms = max(drained_ms, usage_drained_ms)
        self._keep(live)
        if not live:
            return Checkpoint(b"")
        store_ms = self.clock.upper_ms()
        state = _encode(StoredLimiter(now_ms, store_ms, tuple(usage.stored() for usage in live)))
        return Checkpoint(state, _one(-(-(store_ms + drained_ms - now_ms) // _EXPIRY_STEP_MS) * _EXPIRY_STEP_MS))

    def _usage_under(self, policy: CompiledPolicy, now_ms: int) -> _Usage:
        """Make the usage under `policy` the recent one; a policy that has changed keeps what was used."""
        found = next((usage for usage in self._every() if usage.policy.name == policy.name), None)
        others = [usage for usage in self._live(now_ms) if usage is not found]
        if found is None or found.policy is not policy:
            before = {} if found is None else dict(zip(found.policy.limit_names, found.windows, strict=True))
            titled = zip(policy.limit_names, policy.rules, strict=True)
            known = [before.get(name) or Window(rule) for name, rule in titled]
            _check_room(others, known, policy)
            windows = [window.conformed(rule, now_ms) for window, rule in zip(known, policy.rules, strict=True)]
            found = _Usage(policy, tuple(windows))
        self._keep([found, *others])
        return found

    def _every(self) -> Iterator[_Usage]:
        if self._recent is not None:
            yield self._recent
            yield from self._others

    def _live(self, now_ms: int) -> list[_Usage]:
        return [usage for usage in self._every() if usage.drained_at_ms() > now_ms]

    def _keep(self, usages: Sequence[_Usage]) -> None:
        self._recent = usages[0] if usages else None
        self._others = tuple(usages[1:])


def _denial(windows: Sequence[Window], now_ms: int, wanted: int) -> Decision:
    numbers: list[int] = []
    retry_after_ms = 0
    for window in windows:
        wait_ms = window.retry_after_ms(now_ms, wanted)
        retry_after_ms = max(retry_after_ms, wait_ms)
        numbers += (window.remaining(now_ms), wait_ms or window.reset_ms(now_ms))
    return Decision(allowed=False, numbers=tuple(numbers), retry_after_ms=retry_after_ms)


def _check_room(others: Sequence[_Usage], windows: Sequence[Window], policy: CompiledPolicy) -> None:
    """Raises SubjectFullError if what is stored of the subject could pass its bound with these windows in it."""
    rules = [*policy.rules, *(window.rule for usage in others for window in usage.windows)]
    every = [*windows, *(window for usage in others for window in usage.windows)]
    size = sum(window.stored_bytes_max(rule) + STORED_OVERHEAD_BYTES for window, rule in zip(every, rules, strict=True))
    if size > STATE_BYTES_MAX:
        raise SubjectFullError("This subject has live usage under too many policies.")


def _loaded(stored: StoredUsage) -> _Usage:
    names = tuple(name for name, _ in stored.windows)
    windows = tuple(Window.decode(window) for _, window in stored.windows)
    return _Usage(_Past(stored.policy, stored.version, names), windows)


@lru_cache(maxsize=64)
def _one(number: int) -> int:
    """The same number. What many subjects have in common is kept once, and not 32 bytes in each."""
    return number


def _usage_view(usage: _Usage, now_ms: int) -> PolicyUsage:
    limits = tuple(
        LimitState(
            name=name,
            limit=window.rule.limit,
            window_ms=window.rule.window_ms,
            remaining=window.remaining(now_ms),
            reset_ms=window.reset_ms(now_ms),
        )
        for name, window in zip(usage.policy.limit_names, usage.windows, strict=True)
    )
    return PolicyUsage(policy=usage.policy.name, version=usage.policy.version, limits=limits)
