"""What every question and every order of an operator begins with: an object's kind, its shard, and its owner's word."""

from typing import Any

from shared.errors import NotFoundError
from shared.objects.address import Address, shard_of
from shared.objects.errors import UnavailableError
from shared.objects.handler import Kind
from shared.objects.host import Host
from shared.objects.ownership import Ownership, Shard
from shared.storage.interface import Loaded, LoadOrder, Store


class Inspecting:
    """The objects of one service, as this node reaches them."""

    def __init__(self, host: Host, store: Store, ownership: Ownership) -> None:
        self._host = host
        self._store = store
        self._shards = ownership.shards
        self._numbers = [shard.index for shard in ownership.shards]

    def _kind(self, address: Address) -> Kind:
        return self._kind_of(address.kind)

    def _kind_of(self, name: str) -> Kind:
        kind = self._host.kind(name)
        if kind is None:
            raise NotFoundError(f"kind {name!r}; hosted here: {', '.join(sorted(self._host.kinds))}")
        return kind

    def _shard(self, address: Address) -> Shard:
        return self._shards[shard_of(address.encode(), len(self._shards))]

    async def _load(self, address: Address, kind: Kind, shard: Shard) -> Loaded:
        order = LoadOrder(shard.index, shard.fence, address.encode(), kind.native)
        (loaded,) = (await self._store.load([order])).objects
        check_owned(loaded.seq)
        return loaded

    async def _run(self, address: Address, operation: Any, *args: Any) -> Any:
        return await self._host.call(address, operation, *args, durability="committed")


def check_owned(seq: int) -> None:
    """Raises UnavailableError if an answer with this `seq` was fenced."""
    if seq < 0:
        raise UnavailableError("This node does not own the object at the moment")
