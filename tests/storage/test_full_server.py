"""The whole core on a real server that runs out of memory, and gets room again because objects go."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.objects.address import Address
from shared.objects.errors import NoRoomError
from shared.objects.handler import DurableObject
from shared.runtime.node import open_node
from shared.settings import NodeSettings
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import start_valkey
from tests.storage.bench import SERVICE
from tests.support.simulated import core

ROOM_BYTES = 2_000_000
"""What the server may take beyond what it uses when it is empty."""


class Blob(DurableObject):
    """Something that takes room."""

    kind = "blob"

    def fill(self) -> None:
        self.storage.put("bytes", bytes(100_000))

    def empty(self) -> None:
        self.storage.delete_all()

    def size(self) -> int:
        return self.storage.size


def test_objects_that_go_make_room_on_a_full_server(tmp_path: Path) -> None:
    """Writes are refused for certain, what was stored stays readable, and after deletions writes are taken again."""
    addresses = [Address("blob", "acme", str(number)) for number in range(100)]

    async def run(url: str) -> None:
        store = RedisStore(url, service=SERVICE)
        async with core(store, kinds=[Blob]) as running:
            info = (await store.command("INFO", "memory")).decode()
            used_bytes = int(info.partition("used_memory:")[2].split()[0])
            await store.command("CONFIG", "SET", "maxmemory", str(used_bytes + ROOM_BYTES))
            filled = []
            with suppress(NoRoomError):
                for address in addresses:
                    await running.host.call(address, Blob.fill)
                    filled.append(address)
            assert 0 < len(filled) < len(addresses)
            refused = addresses[len(filled)]
            assert [0, 100_000] == [
                await running.host.call(one, Blob.size) // 1_000 * 1_000 for one in (refused, filled[0])
            ]
            for address in filled:
                await running.host.call(address, Blob.empty)
            await running.host.call(refused, Blob.fill)
        await store.close()

    with start_valkey(tmp_path) as server:
        asyncio.run(run(server.url))


def test_a_node_starts_on_a_full_store_that_knows_it_and_on_no_other(tmp_path: Path) -> None:
    """After a restart it serves what is there; where nothing can be set up it says so in one sentence."""

    async def start(url: str) -> int:
        settings = NodeSettings(redis_url=url, shards=2, data_dir=str(tmp_path))
        async with open_node(settings, service="ratelimiter", prefix=SERVICE, kinds=[Blob]) as node:
            return node.ownership.open_shards

    with start_valkey(tmp_path) as server:
        server.configure("maxmemory", "1")
        with pytest.raises(ConfigurationError, match="The store is full"):
            asyncio.run(start(server.url))
        server.configure("maxmemory", "0")
        assert 2 == asyncio.run(start(server.url))
        server.configure("maxmemory", "1")
        assert 2 == asyncio.run(start(server.url))
