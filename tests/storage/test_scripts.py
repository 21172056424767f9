"""The rules of the store, tried on the real scripts and on the store in memory."""

import asyncio
from typing import Any

import pytest

from shared.storage import keys
from shared.storage.interface import StoreInDoubtError
from shared.storage.redis.client import Script
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey, start_valkey
from tests.storage import commit_rules, document_rules, full_rules, lease_rules
from tests.storage.bench import SERVICE, Bench, Rule, ValkeyBench, on_memory, on_valkey
from tests.storage.lease_rules import own

RULES = lease_rules.RULES + commit_rules.RULES + document_rules.RULES + full_rules.RULES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_valkey_keeps_the_rule(rule: Rule, server: Valkey) -> None:
    """The scripts on the real server do what the rule says."""
    on_valkey(rule, server.url)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_memory_keeps_the_rule(rule: Rule) -> None:
    """The store of the tests does what the rule says."""
    on_memory(rule)


# One good section, with one put, one delete, one alarm to set, one to remove and one dead alarm.
_GOOD = [1_000, 0, 1, "EPOCH", "one", 0, "c1", 1, "o", 8, 5, 1, "a", "1", 1, "b", 1, "x", 7, 1, "y", 1, "z", 9]


def _changed(place: int, value: object) -> list[object]:
    return [*_GOOD[:place], value, *_GOOD[place + 1 :]]


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(_changed(0, "soon"), id="ttl"),
        pytest.param(_changed(2, 2), id="sections"),
        pytest.param(_changed(7, 2), id="objects"),
        pytest.param(_changed(7, "two"), id="objects_no_number"),
        pytest.param(_changed(9, "flags"), id="flags"),
        pytest.param(_changed(10, "expiry"), id="expiry"),
        pytest.param(_changed(11, -1), id="puts_negative"),
        pytest.param(_changed(11, 2), id="puts_more"),
        pytest.param(_changed(14, 0), id="deletes_fewer"),
        pytest.param(_changed(16, 10**9), id="alarms_more"),
        pytest.param(_changed(18, "noon"), id="alarm_time"),
        pytest.param(_changed(18, "nan"), id="alarm_time_nan"),
        pytest.param(_changed(23, ""), id="dead_alarm_time"),
        pytest.param(_GOOD[:-1], id="one_less"),
        pytest.param([*_GOOD, "more"], id="one_more"),
        pytest.param([], id="none"),
    ],
)
def test_malformed_arguments_write_nothing(args: list[object], server: Valkey) -> None:
    """Arguments are checked to the last one before the first write."""

    async def rule(bench: Bench) -> None:
        fence = await own(bench.store)
        before = await bench.dump()
        with pytest.raises(StoreInDoubtError):
            await _commit_raw(bench, [fence.epoch if arg == "EPOCH" else arg for arg in args])
        assert before == await bench.dump()

    on_valkey(rule, server.url)


def test_well_formed_arguments_write(server: Valkey) -> None:
    """What the test above spoils is good as it is."""

    async def rule(bench: Bench) -> None:
        fence = await own(bench.store)
        reply = await _commit_raw(bench, [fence.epoch if arg == "EPOCH" else arg for arg in _GOOD])
        assert 1 == reply[1]
        assert {b"o": {b"a": b"1"}} == (await bench.dump()).shards[0].objects

    on_valkey(rule, server.url)


def test_answered_commits_survive_a_crash(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With every write on the disk before its answer, `kill -9` loses nothing that was answered."""
    with start_valkey(tmp_path_factory.mktemp("durable"), durable=True) as server:

        async def run() -> None:
            store = RedisStore(server.url, service=SERVICE)
            fence = await own(store)
            await commit_rules.apply(store, fence, [commit_rules.EVERYTHING])
            before = await ValkeyBench(store).dump()
            await store.close()
            server.restart()
            assert before == await ValkeyBench(store).dump()
            await commit_rules.apply(store, fence, [commit_rules.EVERYTHING], seq=1)
            await store.close()

        asyncio.run(run())


async def _commit_raw(bench: Bench, args: list[Any]) -> Any:
    assert isinstance(bench, ValkeyBench)
    names = [
        keys.lease(SERVICE, 0),
        keys.alarms(SERVICE, 0),
        keys.dead_alarms(SERVICE, 0),
        keys.index(SERVICE, 0),
        keys.expiries(SERVICE, 0),
        keys.state(SERVICE, 0, b"o"),
    ]
    return await bench.store.command("EVAL", Script("commit").text, len(names), *names, *args)
