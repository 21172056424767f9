"""Reads of the store on behalf of a turn: what comes back is the object's own, as its owner has confirmed it.

A turn may be held up by a read, and its object may lose its owner meanwhile. So each read is fenced, and one that
finds less than was confirmed, or another owner, is made again once a claim has told whose the object is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from shared.objects.errors import CommitFailedError, UnavailableError
from shared.storage.interface import Fence, JournalPage, Loaded, LoadOrder, Store, StoreError
from shared.storage.listings import OutboxMessage

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.host import Host
    from shared.objects.ownership import Ownership

_TRY_MS = 5_000
_RETRY_MS = 200


class Found(Protocol):
    """An answer with the `seq` of the object's shard, which is -1 if fenced."""

    @property
    def seq(self) -> int:
        """The number of the shard's last commit."""
        ...


F = TypeVar("F", bound=Found)


class TurnReads:
    """Reads for the turns of one host."""

    def __init__(self, host: "Host", store: Store, ownership: "Ownership") -> None:
        self._host = host
        self._store = store
        self._ownership = ownership

    async def journal(self, activation: "Activation", *, after: int, rows: int) -> Sequence[tuple[int, bytes]]:
        """Stored entries of the object's journal behind a position; raises as `_ask`."""
        shard = activation.shard.index

        def read(fence: Fence) -> Awaitable[JournalPage]:
            return self._store.journal(shard, fence, activation.object_id, after=after, rows=rows)

        return (await self._ask(activation, read)).entries

    async def outbox(self, activation: "Activation") -> Sequence[OutboxMessage]:
        """What the store has of the object's messages, oldest first; raises as `_ask`."""

        async def read(fence: Fence) -> Loaded:
            order = LoadOrder(activation.shard.index, fence, activation.object_id, activation.kind.native)
            (loaded,) = (await self._store.load([order])).objects
            return loaded

        return (await self._ask(activation, read)).outbox

    async def _ask(self, activation: "Activation", read: Callable[[Fence], Awaitable[F]]) -> F:
        """What a read finds. Asks again for 5 s if the store does not answer.

        A shard with another owner, or of a store that went back in time, is suspended until a claim tells.

        Raises:
            UnavailableError: the store does not answer.
            CommitFailedError: the object left memory.
        """
        clock, shard = self._host.store_clock, activation.shard
        until_ms = clock.monotonic_ms() + _TRY_MS
        cause: StoreError | None = None
        while not activation.closed:
            if shard.open:
                fence, seq = shard.fence, shard.seq
                try:
                    found = await read(fence)
                except StoreError as exc:
                    cause = exc
                else:
                    if shard.fence is not fence or activation.closed:
                        continue  # Fenced anew meanwhile: read under the new fence.
                    if found.seq >= seq:
                        return found
                    self._ownership.suspend([shard])  # Not ours, or the store went back in time: a claim will tell.
            if clock.monotonic_ms() >= until_ms:
                raise UnavailableError("The store does not answer") from cause
            await asyncio.sleep(_RETRY_MS / 1000)
        raise CommitFailedError("the object left memory during the turn")
