"""A bounded cache in memory for what can be had again: forgotten by age, by use, and by size.

It never holds more than `entries_max` entries, nor more than `bytes_max` bytes where a size is
told; what was used longest ago leaves first. Nothing is told once it is `ttl_ms` old, however often
it is used. `get_or_load` makes one call for all who ask for a key at the same time.

What it costs the reader: an answer can be stale by as much as `ttl_ms`, here only, so two processes
can disagree. Keep nothing in it that must be right now, and nothing that cannot be had again.

For one event loop; every step takes constant time and there is no task in the background, so old
entries leave when others come. An ordered dict, because the oldest key of a plain one from which
many were taken is found only by walking over their gaps (13 to 55 us at 65,536 keys, where this takes 2).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeAlias, TypeVar

from shared.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_Entry: TypeAlias = tuple[V, int, int]  # Value, until when (monotonic), bytes. Plain: a gateway's checks make many.


class _Loading(Generic[V]):
    """A load under way. Once `ended` it has `loaded` a value, or an error, or neither: who loaded was cancelled."""

    __slots__ = ("ended", "error", "loaded", "value")

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.loaded = False
        self.value: V
        self.error: Exception | None = None


def _weightless(_: object) -> int:
    return 0


class Cache(Generic[K, V]):
    """Values by key. `hits`, `misses` and `evictions` (for want of room, not for age) count from the start.

    `size_of` tells the bytes of a value; it goes with `bytes_max`. A value larger than that is not kept.
    """

    __slots__ = (
        "_bytes_max",
        "_clock",
        "_entries",
        "_entries_max",
        "_loading",
        "_size_of",
        "_ttl_ms",
        "evictions",
        "hits",
        "misses",
        "size_bytes",
    )

    def __init__(
        self,
        clock: Clock,
        *,
        entries_max: int,
        ttl_ms: int,
        bytes_max: int = 0,
        size_of: Callable[[V], int] = _weightless,
    ) -> None:
        assert entries_max > 0
        assert ttl_ms > 0
        assert (bytes_max > 0) == (size_of is not _weightless), "a bound in bytes and a size go together"
        self._clock = clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()  # Used longest ago first.
        self._loading: dict[K, _Loading[V]] = {}
        self._entries_max = entries_max
        self._ttl_ms = ttl_ms
        self._bytes_max = bytes_max
        self._size_of = size_of
        self.size_bytes = self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        """How many entries are held, those among them that are too old to be told."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which becomes the last used; None if there is none that is young enough."""
        entry = self._find(key)
        return None if entry is None else entry[0]

    def put(self, key: K, value: V) -> None:
        """Keep the value from now on, in place of another. A load of the key that is under way is not kept."""
        self._loading.pop(key, None)
        self._keep(key, value)

    def pop(self, key: K) -> V | None:
        """Forget the key and return its value, if there was one. A load that is under way is not kept."""
        self._loading.pop(key, None)
        entry = self._remove(key)
        return entry[0] if entry is not None and self._clock.monotonic_ms() < entry[1] else None

    async def get_or_load(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value; if there is none, what `load()` returns, which is kept. None is a value here.

        Who asks while the key is being loaded waits for that load, and shares its end: the value, or
        the error, after which the next one to ask loads again. If who loads is cancelled, one of
        those who wait loads instead. `load` must not ask for its own key: it would wait for itself.

        Raises:
            Exception: what `load` raised; nothing was kept.
        """
        while True:
            entry = self._find(key)
            if entry is not None:
                return entry[0]
            loading = self._loading.get(key)
            if loading is None:
                return await self._load(key, load)
            await loading.ended.wait()
            if loading.error is not None:
                raise loading.error
            if loading.loaded:
                return loading.value

    async def _load(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        loading = self._loading[key] = _Loading[V]()
        try:
            loading.value = value = await load()
            loading.loaded = True
            if self._loading.get(key) is loading:  # Else it was forgotten or replaced meanwhile.
                self._keep(key, value)
            return value
        except Exception as error:
            loading.error = error
            raise
        finally:
            if self._loading.get(key) is loading:
                del self._loading[key]
            loading.ended.set()

    def _find(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is not None and self._clock.monotonic_ms() < entry[1]:
            self._entries.move_to_end(key)
            self.hits += 1
            return entry
        self.misses += 1
        return None

    def _keep(self, key: K, value: V) -> None:
        self._remove(key)
        now_ms = self._clock.monotonic_ms()
        size_bytes = self._size_of(value)
        if size_bytes > self._bytes_max:
            self.evictions += 1
            return
        self._entries[key] = (value, now_ms + self._ttl_ms, size_bytes)
        self.size_bytes += size_bytes
        self._make_room(now_ms)

    def _make_room(self, now_ms: int) -> None:
        """Let go what is over the bounds, and up to two that are old: one comes in, so the old ones run out."""
        old_left = 2
        while True:
            key = next(iter(self._entries))
            old = now_ms >= self._entries[key][1]
            if len(self._entries) > self._entries_max or self.size_bytes > self._bytes_max:
                self.evictions += not old
            elif old and old_left:
                old_left -= 1
            else:
                return
            self._remove(key)

    def _remove(self, key: K) -> _Entry[V] | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry[2]
        return entry
