"""The shards this node owns: claimed, renewed, proven with every commit, lost.

A lease is valid here from the moment its renewal was *sent* until a margin before the store lets
it lapse, on a clock that counts while the machine sleeps. Past that nothing starts. The loop that
runs the handlers also renews, so an owner that hangs loses its shards.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence

from shared import bounds
from shared.objects.store_clock import StoreClock
from shared.storage.interface import Claimed, ClaimOrder, Fence, Store, StoreError
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics

_log = logs.get_logger()


class Shard:
    """One shard as this node sees it. `seq` is the number of its last confirmed commit."""

    __slots__ = ("doubt_turns", "fence", "flying", "in_doubt", "index", "open", "seq", "valid_until_ms")

    def __init__(self, index: int) -> None:
        self.index = index
        self.fence = Fence(0, b"")
        self.seq = 0
        self.valid_until_ms = -1
        self.open = False
        self.flying = False  # A commit of this shard is on its way: the store's `seq` may be one ahead.
        self.in_doubt = False  # That commit was not answered at the first try.
        self.doubt_turns = 0  # Turns that were taken on since then.

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
        self._incarnation = secrets.token_bytes(16)
        self._claims = 0
        self.on_open: Callable[[Sequence[Shard]], Awaitable[None]] | None = None
        self.on_lost: Callable[[Shard], None] | None = None
        self.on_rollback: Callable[[Shard], None] | None = None

    @property
    def open_shards(self) -> int:
        """How many shards this node owns and serves."""
        return sum(shard.open for shard in self.shards)

    def slack_ms(self) -> int:
        """The time that is left on the shortest lease; 0 if none is held."""
        now = self._store_clock.monotonic_ms()
        return max(0, min((shard.valid_until_ms - now for shard in self.shards if shard.open), default=0))

    async def claim_missing(self) -> None:
        """Claim every shard that is not ours; open those that were granted.

        Raises:
            StoreError: the store did not answer.
        """
        missing = [shard for shard in self.shards if not shard.open]
        if not missing:
            return
        claimed = await self._claim(missing, held=False)
        opened = []
        for shard, lease in zip(missing, claimed, strict=True):
            if not lease.granted:
                continue
            if lease.previous_token != shard.fence.token and self.on_lost:
                self.on_lost(shard)  # Somebody else has written since: what we remember is old.
            elif lease.seq < shard.seq and self.on_rollback:
                self.on_rollback(shard)
            self._adopt(shard, lease)
            opened.append(shard)
        for shard in opened:
            shard.open = True
        if opened:
            if self.on_open:
                await self.on_open(opened)
            self._metrics.ownership_changes("acquired", len(opened))
            _log.info(logs.LEASES_ACQUIRED, shards=len(opened))

    async def refence(self, shards: Sequence[Shard]) -> Sequence[Claimed]:
        """Replace our tokens, so that copies of our own late commands are refused from here on.

        Raises:
            StoreError: the store did not answer.
        """
        claimed = await self._claim(shards, held=True)
        for shard, lease in zip(shards, claimed, strict=True):
            if lease.granted:
                self._adopt(shard, lease)
        return claimed

    async def renew(self) -> None:
        """Extend every open lease; close those that are lost.

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
        for (shard, seq), fence, stored in zip(held, fences, renewals.seqs, strict=True):
            if shard.fence is not fence:
                continue  # Fenced anew meanwhile.
            if stored < 0:
                self.lose(shard)
            else:
                self.extend(shard, sent_ms)
                if stored < seq and not shard.flying and self.on_rollback:
                    self.on_rollback(shard)

    def extend(self, shard: Shard, sent_ms: int) -> None:
        """A step that was sent at `sent_ms` proved that the lease is ours."""
        shard.valid_until_ms = max(shard.valid_until_ms, sent_ms + self.valid_ms)

    def lose(self, shard: Shard) -> None:
        """The shard is not ours any more. Safe to call twice."""
        if not shard.open:
            return
        self._close(shard)
        self._count_lost(shard)
        if self.on_lost:
            self.on_lost(shard)

    def suspend(self, shard: Shard) -> None:
        """The lease has run out: stop serving the shard until it is claimed again; what is in memory stays for then."""
        if shard.open:
            self._close(shard)
            self._count_lost(shard)

    async def release(self) -> None:
        """Give up what we hold, so that the next owner need not wait."""
        held = [(shard.index, shard.fence) for shard in self.shards if shard.open]
        for shard in self.shards:
            self._close(shard)
        if held:
            self._metrics.ownership_changes("released", len(held))
            with contextlib.suppress(StoreError):
                await self._store.release(held)

    async def run(self) -> None:
        """Renew and claim for ever."""
        every_ms = self.ttl_ms // bounds.LEASE_RENEWALS_PER_TTL
        while True:
            await asyncio.sleep(every_ms / 1000)
            try:
                await self.renew()
                await self.claim_missing()
            except StoreError as exc:
                _log.warning(logs.STORE_AWAY, error=str(exc))

    def _close(self, shard: Shard) -> None:
        shard.open = False
        shard.valid_until_ms = -1

    def _count_lost(self, shard: Shard) -> None:
        self._metrics.ownership_changes("lost", 1)
        _log.warning(logs.LEASE_LOST, shard=shard.index)

    async def _claim(self, shards: Iterable[Shard], *, held: bool) -> Sequence[Claimed]:
        self._claims += 1
        token = self._incarnation + self._claims.to_bytes(8, "big")
        orders = [ClaimOrder(shard=shard.index, held_token=shard.fence.token if held else b"") for shard in shards]
        sent_ms = self._store_clock.monotonic_ms()
        claims = await self._store.claim(
            orders, token=token, node=self._node, lock_id=self._lock_id, ttl_ms=self.ttl_ms
        )
        self._store_clock.observe(claims.now_ms, sent_ms=sent_ms, received_ms=self._store_clock.monotonic_ms())
        self._claimed = (token, sent_ms)
        return claims.leases

    def _adopt(self, shard: Shard, lease: Claimed) -> None:
        token, sent_ms = self._claimed
        shard.fence = Fence(lease.epoch, token)
        shard.seq = lease.seq
        shard.valid_until_ms = sent_ms + self.valid_ms
