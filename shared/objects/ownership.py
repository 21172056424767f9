"""The shards this node owns: claimed, renewed, proven with every commit, suspended.

A lease is valid here from the moment its renewal was *sent* until a margin before the store lets
it lapse, on a clock that counts while the machine sleeps. Past that nothing starts. The loop that
runs the handlers also renews, so an owner that hangs loses its shards.

A shard that is not surely ours is suspended: nothing starts, memory stays. The next claim tells what
became of it. Ours all along (a claim of ours was never answered): memory goes on. Older than what was
confirmed: the store went back in time or lost its data, see `on_rollback`. Another's: `on_lost`.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Sequence

from shared import bounds
from shared.objects.store_clock import StoreClock
from shared.storage.interface import INCARNATION_BYTES, Claimed, ClaimOrder, Fence, Store, StoreError, owner_mark
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

_NAMED = 8  # Shards that a line of the log names.
_log = logs.get_logger()


class Shard:
    """One shard as this node sees it. `seq` is the number of its last confirmed commit."""

    __slots__ = (
        "doubt_turns",
        "fence",
        "flying",
        "in_doubt",
        "index",
        "open",
        "predecessor",
        "seen",
        "seq",
        "valid_until_ms",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.fence = Fence(0, b"")  # The newest that we know of; without a token nothing of the shard is in memory.
        self.predecessor = b""  # The token of the other process after which we came.
        self.seq = 0
        self.seen = 0  # The `seq` of when we lost it: whoever had it since, the store may not have fewer commits.
        self.valid_until_ms = -1
        self.open = False
        self.flying = False  # A commit of this shard is on its way: the store's `seq` may be one ahead.
        self.in_doubt = False  # That commit was not answered at the first try.
        self.doubt_turns = 0  # Turns that were taken on since then.

    def close(self) -> None:
        """Nothing starts in it any more."""
        self.open = False
        self.valid_until_ms = -1

    def landed(self) -> None:
        """The fate of the commit that was on its way is known."""
        self.flying = self.in_doubt = False
        self.doubt_turns = 0


class Ownership:
    """Claims and renews all shards of one service on one store."""

    def __init__(
        self,
        store: Store,
        store_clock: StoreClock,
        metrics: Metrics,
        *,
        shards: int,
        node: str,
        lock_id: str,
        ttl_ms: int,
    ) -> None:
        self._store = store
        self._store_clock = store_clock
        self._metrics = metrics
        self._node = node
        self._lock_id = lock_id
        self.ttl_ms = ttl_ms
        self.valid_ms = ttl_ms - ttl_ms // bounds.LEASE_MARGIN_DIVISOR
        self.shards = [Shard(index) for index in range(shards)]
        self._incarnation = secrets.token_bytes(INCARNATION_BYTES)
        self._claims = 0
        self._claiming = asyncio.Lock()  # Answers to claims are taken in the order in which these were sent.
        self._suspended = asyncio.Event()
        self.on_open: Callable[[Sequence[Shard]], None] | None = None
        self.on_lost: Callable[[Sequence[Shard]], None] | None = None
        self.on_rollback: Callable[[Sequence[Shard]], None] | None = None

    @property
    def mark(self) -> str:
        """By which the leases of this process are found in a store; of no use as a token."""
        return owner_mark(self._incarnation)

    @property
    def open_shards(self) -> int:
        """How many shards this node owns and serves."""
        return sum(shard.open for shard in self.shards)

    def slack_ms(self) -> int:
        """The time that is left on the shortest lease; 0 if none is held."""
        now = self._store_clock.monotonic_ms()
        return max(0, min((shard.valid_until_ms - now for shard in self.shards if shard.open), default=0))

    async def claim_missing(self) -> None:
        """Claim every shard that is not ours; open those that were granted, forget those that another has.

        Raises:
            StoreError: the store did not answer.
        """
        async with self._claiming:
            missing = [(shard, shard.fence) for shard in self.shards if not shard.open]
            if not missing:
                return
            leases = await self._claim(missing, refence=False)
            opened = [shard for (shard, _), lease in zip(missing, leases, strict=True) if lease.granted]
            self._forget([shard for (shard, _), lease in zip(missing, leases, strict=True) if not lease.granted])
            for shard in opened:
                shard.open = True
        if opened:
            if self.on_open:
                self.on_open(opened)
            self._metrics.ownership_changes("acquired", len(opened))
            _log.info(logs.LEASES_ACQUIRED, shards=len(opened))

    async def refence(self, held: Sequence[tuple[Shard, Fence]]) -> Sequence[Claimed]:
        """Replace our tokens, so that copies of our own late commands are refused from here on.

        Each answer tells of the last commit before all that we have claimed since the given fence.

        Raises:
            StoreError: the store did not answer.
        """
        async with self._claiming:
            return await self._claim(held, refence=True)

    def is_own(self, token: bytes) -> bool:
        """Whether this process has claimed under `token`."""
        return token.startswith(self._incarnation)

    async def renew(self) -> None:
        """Extend every open lease; suspend those that are not ours any more, or older than what was confirmed.

        Raises:
            StoreError: the store did not answer; leases run on until their local validity ends.
        """
        held = [(shard, shard.seq) for shard in self.shards if shard.open]
        if not held:
            return
        sent_ms = self._store_clock.monotonic_ms()
        fences = [shard.fence for shard, _ in held]
        renewals = await self._store.renew(
            [(shard.index, fence) for (shard, _), fence in zip(held, fences, strict=True)], ttl_ms=self.ttl_ms
        )
        self._store_clock.observe(renewals.now_ms, sent_ms=sent_ms, received_ms=self._store_clock.monotonic_ms())
        doubtful = []
        for (shard, seq), fence, stored in zip(held, fences, renewals.seqs, strict=True):
            if shard.fence is not fence:
                continue  # Fenced anew meanwhile.
            if stored < 0 or (stored < seq and not shard.flying):
                doubtful.append(shard)
            else:
                self.extend(shard, sent_ms)
        self.suspend(doubtful)

    def extend(self, shard: Shard, sent_ms: int) -> None:
        """A step that was sent at `sent_ms` proved that the lease is ours."""
        shard.valid_until_ms = max(shard.valid_until_ms, sent_ms + self.valid_ms)

    def suspend(self, shards: Iterable[Shard]) -> None:
        """Stop serving what is not surely ours until it is claimed again, which is tried at once.

        What is in memory stays for then, when the store tells whether it is still true. Safe to call twice.
        """
        closing = [shard for shard in shards if shard.open]
        if not closing:
            return
        for shard in closing:
            shard.close()
        self._metrics.ownership_changes("lost", len(closing))
        _log.warning(logs.LEASES_LOST, shards=len(closing), first=[shard.index for shard in closing[:_NAMED]])
        self._suspended.set()

    async def release(self) -> None:
        """Give up what we hold, so that the next owner need not wait."""
        held = [shard for shard in self.shards if shard.open]
        for shard in held:
            shard.close()
        if held:
            self._metrics.ownership_changes("released", len(held))
            with contextlib.suppress(StoreError):
                await self._store.release([(shard.index, shard.fence) for shard in held])

    async def run(self) -> None:
        """Renew and claim for ever; what was suspended is claimed without waiting for the next renewal."""
        every_ms = self.ttl_ms // bounds.LEASE_RENEWALS_PER_TTL
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_ms / 1000):
                    await self._suspended.wait()
            self._suspended.clear()
            try:
                await self.renew()
                self._suspended.clear()
                await self.claim_missing()
            except StoreError as exc:
                _log.warning(logs.STORE_AWAY, error=str(exc))

    async def _claim(self, held: Sequence[tuple[Shard, Fence]], *, refence: bool) -> Sequence[Claimed]:
        """Ask for shards, each of which we knew under a fence; take over what is granted."""
        self._claims += 1
        token = self._incarnation + self._claims.to_bytes(8, "big")
        orders = [ClaimOrder(shard=shard.index, known_epoch=fence.epoch, refence=refence) for shard, fence in held]
        sent_ms = self._store_clock.monotonic_ms()
        claims = await self._store.claim(
            orders, token=token, node=self._node, lock_id=self._lock_id, ttl_ms=self.ttl_ms
        )
        self._store_clock.observe(claims.now_ms, sent_ms=sent_ms, received_ms=self._store_clock.monotonic_ms())
        granted = [
            (shard, fence, lease) for (shard, fence), lease in zip(held, claims.leases, strict=True) if lease.granted
        ]
        self._look_back(granted)
        for shard, _, lease in granted:
            self._adopt(shard, lease, token, sent_ms)
        return claims.leases

    def _look_back(self, granted: Iterable[tuple[Shard, Fence, Claimed]]) -> None:
        """Find out whether somebody else has written since we knew the shards, or the store has gone back in time."""
        another, earlier = [], []
        for shard, fence, lease in granted:
            if not shard.fence.token:  # Nothing is remembered of it but how far it was.
                if lease.seq < shard.seen:
                    earlier.append(shard)
                continue
            before = lease.previous_token
            behind = lease.seq < shard.seq
            if before and not self.is_own(before) and not (behind and before == shard.predecessor):
                another.append(shard)
            if behind or not before or (self.is_own(before) and before != fence.token):
                earlier.append(shard)
        self._forget(another)
        if earlier and self.on_rollback:
            self.on_rollback(earlier)

    def _forget(self, shards: Iterable[Shard]) -> None:
        """Another process has claimed the shards: what we remember is old."""
        lost = [shard for shard in shards if shard.fence.token]
        for shard in lost:
            shard.fence, shard.seen, shard.seq = Fence(0, b""), shard.seq, 0
        if lost and self.on_lost:
            self.on_lost(lost)

    def _adopt(self, shard: Shard, lease: Claimed, token: bytes, sent_ms: int) -> None:
        shard.fence = Fence(lease.epoch, token)
        shard.seq = lease.seq
        shard.valid_until_ms = sent_ms + self.valid_ms
        if not self.is_own(lease.previous_token):
            shard.predecessor = lease.previous_token
