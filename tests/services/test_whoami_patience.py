"""How long whoami waits for its principal: as long as a gateway does, however many calls that takes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.sessions.keys import read_keys
from services.sessions.principal import Principal
from services.sessions.tokens import Tokens
from shared.objects.address import Address
from shared.storage.interface import LoadOrder, Loads
from shared.testing.store import MemoryStore
from tests.support.sessions_app import Sessions, with_sessions
from tests.support.signing_in import KEYS


def test_a_gateway_waits_no_longer_than_its_own_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the principal cannot be read, whoami says so after five seconds, and is counted."""
    load = MemoryStore.load

    async def slow(store: MemoryStore, orders: Sequence[LoadOrder]) -> Loads:
        await asyncio.sleep(20)
        return await load(store, orders)

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        await asyncio.sleep(1)
        assert service.host.residents.passivate(_address(service))
        monkeypatch.setattr(MemoryStore, "load", slow)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answer = await service.whoami(token)
        assert (504, "deadline_exceeded") == _code(answer)
        assert 4.99 < loop.time() - began_s < 5.1  # As floats have it.
        lines = (await service.ask("GET", "/metrics", app=service.admin)).body.decode().splitlines()
        assert any('"/v1/whoami"' in line and '"504"' in line for line in lines)

    with_sessions(scenario)


@pytest.mark.parametrize("load_s", [0, 3])
def test_a_successor_that_is_used_first_takes_no_longer(load_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its principal is asked twice, what it is worth and to note that; together they have the five seconds."""
    load = MemoryStore.load

    async def slow_load(store: MemoryStore, orders: Sequence[LoadOrder]) -> Loads:
        await asyncio.sleep(load_s)
        return await load(store, orders)

    async def slow_commit(store: MemoryStore, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(20)
        raise AssertionError("nobody waits for it")

    async def scenario(service: Sessions) -> None:
        granted = await service.signed_in()
        rotated = (await service.ask("POST", "/v1/session/rotate", key=granted["token"])).json()["token"]
        await service.settle(31_000)  # Its last use is stored by then, so that it may leave memory.
        if load_s:
            assert service.host.residents.passivate(_address(service))
        monkeypatch.setattr(MemoryStore, "load", slow_load)
        monkeypatch.setattr(MemoryStore, "commit", slow_commit)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert (504, "deadline_exceeded") == _code(await service.whoami(rotated))
        assert 4.99 < loop.time() - began_s < 5.1  # As floats have it.

    with_sessions(scenario)


def _code(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def _address(service: Sessions) -> Address:
    return Address(Principal.kind, "acme", Tokens(read_keys(KEYS)).principal_ref("acme", "ann").hex())
