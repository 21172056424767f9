"""Brings objects into memory: everything that is asked for while a read is under way is the next read.

Reads are fenced: the store proves in the same step that we still own the shard. A `seq` below what
we have seen confirmed means that the store went back in time.
"""

import asyncio
from typing import TYPE_CHECKING

from shared import bounds
from shared.errors import TenureError
from shared.objects.activation import Activation, Phase
from shared.objects.errors import HandlerError, UnavailableError
from shared.objects.native import NativeState
from shared.objects.ownership import Ownership
from shared.objects.state import ObjectState
from shared.storage.interface import LoadOrder, Store, StoreError
from shared.telemetry import logs

if TYPE_CHECKING:
    from shared.objects.host import Host

_TRY_MS = 5_000
_RETRY_MS = 200
_log = logs.get_logger()


class Loader:
    """Loads activations in batches of at most 128."""

    def __init__(self, host: "Host", store: Store, ownership: Ownership) -> None:
        self._host = host
        self._store = store
        self._ownership = ownership
        self._clock = host.store_clock
        self._waiting: list[tuple[Activation, int]] = []
        self._wake = asyncio.Event()

    def load(self, activation: Activation) -> None:
        """Load an activation soon; it hears of it through `Host.loaded` or `Host.unloadable`."""
        self._waiting.append((activation, self._clock.monotonic_ms()))
        self._wake.set()

    async def run(self) -> None:
        """Load for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._waiting[: bounds.LOAD_OBJECTS_MAX]
                del self._waiting[: len(batch)]
                await self._load(batch)

    async def _load(self, batch: list[tuple[Activation, int]]) -> None:
        batch = [entry for entry in batch if entry[0].phase is Phase.LOADING]
        fences = [activation.shard.fence for activation, _ in batch]
        seqs = [activation.shard.seq for activation, _ in batch]
        orders = [
            LoadOrder(activation.shard.index, fence, activation.object_id, activation.kind.native)
            for (activation, _), fence in zip(batch, fences, strict=True)
        ]
        sent_ms = self._clock.monotonic_ms()
        try:
            loads = await self._store.load(orders)
        except StoreError as exc:
            await self._again(batch, exc)
            return
        self._clock.observe(loads.now_ms, sent_ms=sent_ms, received_ms=self._clock.monotonic_ms())
        for (activation, since_ms), fence, seq, loaded in zip(batch, fences, seqs, loads.objects, strict=True):
            if activation.phase is not Phase.LOADING:
                continue
            if activation.shard.fence is not fence:
                self._waiting.append((activation, since_ms))  # Fenced anew meanwhile: read under the new fence.
            elif loaded.seq < 0:
                self._ownership.lose(activation.shard)
            elif loaded.seq < seq:
                self._host.rolled_back(activation.shard)
                self._open(activation, loaded.fields)
            else:
                self._open(activation, loaded.fields)

    def _open(self, activation: Activation, fields: dict[bytes, bytes]) -> None:
        try:
            state = (NativeState if activation.kind.native else ObjectState).load(fields, now_ms=self._clock.upper_ms())
        except (TenureError, ValueError, KeyError) as exc:
            _log.error(logs.OBJECT_UNREADABLE, object=str(activation.address), error=str(exc))
            failure = HandlerError(activation.kind.name, "on_activate")
            failure.__cause__ = exc
            self._host.unloadable(activation, failure)
            return
        self._host.loaded(activation, state)

    async def _again(self, batch: list[tuple[Activation, int]], error: StoreError) -> None:
        now_ms = self._clock.monotonic_ms()
        for activation, since_ms in batch:
            if now_ms - since_ms >= _TRY_MS:
                unavailable = UnavailableError("The store does not answer")
                unavailable.__cause__ = error
                self._host.unloadable(activation, unavailable)
            else:
                self._waiting.append((activation, since_ms))
        await asyncio.sleep(_RETRY_MS / 1000)
