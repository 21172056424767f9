"""The rules of the store, tried on the real scripts and on the store in memory."""

import asyncio
from typing import Any

import pytest

from shared.storage import keys
from shared.storage.interface import StoreInDoubtError
from shared.storage.redis.client import Script
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey, start_valkey
from tests.storage import (
    commit_rules,
    document_rules,
    full_rules,
    lease_rules,
    listing_rules,
    part_rules,
    quarantine_rules,
)
from tests.storage.bench import SERVICE, Bench, Rule, ValkeyBench, on_memory, on_valkey
from tests.storage.lease_rules import own

RULES = (
    lease_rules.RULES
    + commit_rules.RULES
    + part_rules.RULES
    + listing_rules.RULES
    + document_rules.RULES
    + full_rules.RULES
    + quarantine_rules.RULES
)


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


# The same with every further part, to be spoilt from the 23rd argument on.
_PARTS = [
    *_GOOD[:9],
    64 + 8,
    *_GOOD[10:],
    *(2, 1, 2, "j1", "j2"),
    *(1, "xother", 1, "xstatus", b"\x017 1\npmember"),
    *(1, "e", 1, "f", 10**14, "reply"),
    *(1, "0" * 16, 1, "1" * 16, "message"),
]


def _with_parts(place: int, value: object) -> list[object]:
    place += len(_GOOD)
    return [*_PARTS[:place], value, *_PARTS[place + 1 :]]


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
        pytest.param(_changed(9, 2), id="gone_without_parts"),
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
        pytest.param(_with_parts(0, "none"), id="journal_keep"),
        pytest.param(_with_parts(1, 0), id="journal_number_0"),
        pytest.param(_with_parts(1, 10**16), id="journal_number_large"),
        pytest.param(_with_parts(2, 3), id="journal_more"),
        pytest.param(_with_parts(9, "row"), id="row"),
        pytest.param(_with_parts(14, "noon"), id="entry_time"),
        pytest.param(_with_parts(14, 10**17), id="entry_time_large"),
        pytest.param(_with_parts(18, 2), id="messages_more"),
        pytest.param(_PARTS[:-1], id="message_missing"),
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


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        pytest.param(_GOOD, {b"a": b"1"}, id="plain"),
        pytest.param(_PARTS, {b"a": b"1", b"xstatus": b"\x017 1\npmember"}, id="parts"),
    ],
)
def test_well_formed_arguments_write(args: list[object], fields: dict[bytes, bytes], server: Valkey) -> None:
    """What the test above spoils is good as it is."""

    async def rule(bench: Bench) -> None:
        fence = await own(bench.store)
        reply = await _commit_raw(bench, [fence.epoch if arg == "EPOCH" else arg for arg in args])
        assert 1 == reply[1]
        assert {b"o": fields} == (await bench.dump()).shards[0].objects

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
    if len(args) > len(_GOOD) + 1:
        names += (
            keys.journal(SERVICE, 0, b"o"),
            keys.entries(SERVICE, 0, b"o"),
            keys.messages(SERVICE, 0, b"o"),
            keys.outbox(SERVICE, 0),
            keys.index_rows(SERVICE, 0, b""),
        )
    return await bench.store.command("EVAL", Script("commit").text, len(names), *names, *args)
