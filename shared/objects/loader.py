"""Brings objects into memory: everything that is asked for while a read is under way is the next read.

Reads are fenced: the store proves in the same step that we still own the shard. A `seq` below what
we have seen confirmed means that the store went back in time. Either way the shard is suspended, and
its objects are read once it was claimed again.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from shared import bounds
from shared.errors import TenureError
from shared.objects.activation import Activation, Phase
from shared.objects.errors import HandlerError, NewerSchemaError, UnavailableError
from shared.objects.kept import Kept
from shared.objects.native import NativeState
from shared.objects.ownership import Ownership
from shared.objects.state import ObjectState
from shared.objects.tracing import begin_activation, end_activation
from shared.storage.interface import Loaded, LoadOrder, Store, StoreError
from shared.telemetry import logs
from shared.telemetry.context import TraceContext
from shared.telemetry.traces import NoSpan, Span

if TYPE_CHECKING:
    from shared.objects.host import Host

_TRY_MS = 5_000
_RETRY_MS = 200
_GONE = UnavailableError.code
_log = logs.get_logger()


class _Wanted(NamedTuple):
    """An activation that waits for its state, since when (monotonic), and the span of that if it is sampled."""

    activation: Activation
    since_ms: int
    span: Span | NoSpan | None


class Loader:
    """Loads activations in batches of at most 128."""

    def __init__(self, host: "Host", store: Store, ownership: Ownership) -> None:
        self._host = host
        self._store = store
        self._ownership = ownership
        self._clock = host.store_clock
        self._waiting: list[_Wanted] = []
        self._wake = asyncio.Event()

    def load(self, activation: Activation, trace: TraceContext | None) -> None:
        """Load an activation soon; it hears of it through `Host.loaded` or `Host.unloadable`."""
        span = begin_activation(self._host.tracer, activation.address, trace)
        self._wait(_Wanted(activation, self._clock.monotonic_ms(), span))

    async def run(self) -> None:
        """Load for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._waiting[: bounds.LOAD_OBJECTS_MAX]
                del self._waiting[: len(batch)]
                await self._load(batch)

    async def _load(self, batch: list[_Wanted]) -> None:
        batch = self._loadable(batch)
        if not batch:
            return
        fences = [wanted.activation.shard.fence for wanted in batch]
        seqs = [wanted.activation.shard.seq for wanted in batch]
        orders = [
            LoadOrder(wanted.activation.shard.index, fence, wanted.activation.object_id, wanted.activation.kind.native)
            for wanted, fence in zip(batch, fences, strict=True)
        ]
        sent_ms = self._clock.monotonic_ms()
        try:
            loads = await self._store.load(orders)
        except StoreError as exc:
            await self._again(batch, exc)
            return
        self._clock.observe(loads.now_ms, sent_ms=sent_ms, received_ms=self._clock.monotonic_ms())
        doubtful = []
        for wanted, fence, seq, loaded in zip(batch, fences, seqs, loads.objects, strict=True):
            if not _still_wanted(wanted):
                continue
            shard = wanted.activation.shard
            if shard.fence is not fence:
                self._waiting.append(wanted)  # Fenced anew meanwhile: read under the new fence.
            elif loaded.seq < seq:  # Not ours, or the store went back in time: the next claim will tell.
                self._waiting.append(wanted)
                doubtful.append(shard)
            else:
                self._open(wanted, loaded)
        self._ownership.suspend(doubtful)

    def _loadable(self, batch: list[_Wanted]) -> list[_Wanted]:
        """Those that are still wanted and whose shards are open; where the shard is suspended, look again soon."""
        wanted_ones = [wanted for wanted in batch if _still_wanted(wanted)]
        for wanted in wanted_ones:
            if not wanted.activation.shard.open and not self._too_late(wanted, None):
                asyncio.get_running_loop().call_later(_RETRY_MS / 1000, self._wait, wanted)
        return [wanted for wanted in wanted_ones if wanted.activation.shard.open]

    def _wait(self, wanted: _Wanted) -> None:
        self._waiting.append(wanted)
        self._wake.set()

    def _open(self, wanted: _Wanted, loaded: Loaded) -> None:
        activation = wanted.activation
        refusal = self._host.quarantines.loaded(activation.address, loaded.quarantine)
        if refusal is not None:
            self._fail(wanted, refusal)
            return
        now_ms = self._clock.upper_ms()
        state: NativeState | ObjectState
        try:
            if activation.kind.native:
                state = NativeState.load(loaded.fields, now_ms=now_ms)
            else:
                kind = activation.kind
                state = ObjectState.load(
                    loaded.fields, loaded.indexes, now_ms=now_ms, kind=kind.name, schema=kind.schema
                )
                state.kept = Kept.load(loaded)
        except NewerSchemaError as exc:
            _log.error(logs.OBJECT_NEWER, object=str(activation.address), stored=exc.stored, known=exc.known)
            self._host.metrics.migration(activation.kind.name, "refused")
            self._fail(wanted, exc)
            return
        except (TenureError, ValueError, KeyError) as exc:
            _log.error(logs.OBJECT_UNREADABLE, object=str(activation.address), error=str(exc))
            failure = HandlerError(activation.kind.name, "on_activate")
            failure.__cause__ = exc
            self._fail(wanted, failure)
            return
        end_activation(wanted.span)
        seconds = (self._clock.monotonic_ms() - wanted.since_ms) / 1000
        self._host.metrics.activation_duration(activation.kind.name, seconds)
        self._host.loaded(activation, state)

    def _fail(self, wanted: _Wanted, error: Exception) -> None:
        end_activation(wanted.span, error)
        self._host.unloadable(wanted.activation, error)

    async def _again(self, batch: list[_Wanted], error: StoreError) -> None:
        for wanted in batch:
            if _still_wanted(wanted) and not self._too_late(wanted, error):
                self._waiting.append(wanted)
        await asyncio.sleep(_RETRY_MS / 1000)

    def _too_late(self, wanted: _Wanted, error: StoreError | None) -> bool:
        """Give up an activation that has waited for too long."""
        if self._clock.monotonic_ms() - wanted.since_ms < _TRY_MS:
            return False
        unavailable = UnavailableError("The store does not answer")
        unavailable.__cause__ = error
        self._fail(wanted, unavailable)
        return True


def _still_wanted(wanted: _Wanted) -> bool:
    """Whether the activation still waits; the span of one that was closed meanwhile ends here."""
    if wanted.activation.phase is Phase.LOADING:
        return True
    end_activation(wanted.span, _GONE)
    return False
