"""Which servers may be the store: the rules, apart from any server."""

import msgspec
import pytest

from shared.storage.codec import FORMAT
from shared.storage.redis.inspect import (
    StoredConfiguration,
    StoreFacts,
    configuration_finding,
    durability_reached,
    findings,
    problems,
)

GOOD = StoreFacts(
    server="valkey 9.1.2",
    version=(7, 2, 4),
    role="master",
    cluster=False,
    eviction="noeviction",
    aof=True,
    fsync="always",
    replicas=0,
    skew_ms=3,
)


def _with(**changes: object) -> StoreFacts:
    return msgspec.structs.replace(GOOD, **changes)


def test_a_sound_server_has_no_problems() -> None:
    """Every check is made, and all are fine."""
    assert {"ok"} == {finding.level for finding in findings(GOOD)}
    assert [] == problems(GOOD, strict=True)


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"version": (6, 2, 14)}, "version", "fail"),
        ({"role": "slave"}, "role", "fail"),
        ({"cluster": True}, "role", "fail"),
        ({"eviction": "allkeys-lru"}, "eviction", "fail"),
        ({"eviction": ""}, "eviction", "warn"),
        ({"aof": False}, "durability", "warn"),
        ({"fsync": "everysec"}, "durability", "warn"),
        ({"fsync": ""}, "durability", "warn"),
        ({"skew_ms": -501}, "clock", "warn"),
    ],
)
def test_each_weakness_is_one_problem(changes: dict[str, object], check: str, level: str) -> None:
    """What would lose data silently fails; what weakens a promise warns."""
    assert [(check, level)] == [(found.check, found.level) for found in problems(_with(**changes))]


@pytest.mark.parametrize("changes", [{"aof": False}, {"fsync": "everysec"}, {"fsync": ""}])
def test_strict_durability_refuses_instead_of_warning(changes: dict[str, object]) -> None:
    """With `strict`, doubts about durability fail."""
    assert ["fail"] == [found.level for found in problems(_with(**changes), strict=True)]


def test_a_declared_level_stands_in_for_what_cannot_be_asked() -> None:
    """It is accepted, and said to be unverified."""
    hidden = _with(fsync="")
    assert [] == problems(hidden, declared="1")
    assert "level 1, declared, not verified" in [found.detail for found in findings(hidden, declared="1")]


@pytest.mark.parametrize(("strict", "level"), [(False, "warn"), (True, "fail")])
@pytest.mark.parametrize("declared", ["2", "3"])
def test_a_level_that_needs_replicas_is_not_reached(declared: str, strict: bool, level: str) -> None:
    """Nothing here waits for a replica: the node says which level is reached, or with `strict` does not start."""
    (found,) = problems(_with(replicas=2), declared=declared, strict=strict)
    assert ("durability", level) == (found.check, found.level)
    assert found.detail.startswith("level 1: replicas are not waited for")


@pytest.mark.parametrize(
    ("changes", "declared", "reached"),
    [
        ({}, "", 1),
        ({}, "0", 1),
        ({}, "3", 1),
        ({"replicas": 2}, "2", 1),
        ({"fsync": "everysec"}, "1", 0),
        ({"fsync": ""}, "", 0),
        ({"fsync": ""}, "1", 1),
        ({"fsync": ""}, "2", 0),
        ({"fsync": ""}, "3", 1),
        ({"fsync": "", "aof": False}, "1", 0),
        ({"aof": False}, "", 0),
    ],
)
def test_the_level_reached_is_what_was_found_or_vouched_for(
    changes: dict[str, object], declared: str, reached: int
) -> None:
    """What the server says counts; a declaration only fills in what it does not say. The finding names the level."""
    facts = _with(**changes)
    assert reached == durability_reached(facts, declared=declared)
    (detail,) = [found.detail for found in findings(facts, declared=declared) if found.check == "durability"]
    assert detail.startswith(f"level {reached}")


def test_failures_come_first() -> None:
    """The sentence that stops a node is that of a failure, not of a warning."""
    found = problems(_with(aof=False, eviction="volatile-ttl", skew_ms=9_000))
    assert ["fail", "warn", "warn"] == [finding.level for finding in found]


def test_the_stored_layout_must_match() -> None:
    """Another shard count or format fails; an empty store takes ours."""
    assert configuration_finding(StoredConfiguration(0, 0), shards=256).level == "ok"
    assert configuration_finding(StoredConfiguration(FORMAT, 256), shards=256).level == "ok"
    assert configuration_finding(StoredConfiguration(FORMAT, 128), shards=256).level == "fail"
    assert configuration_finding(StoredConfiguration(FORMAT + 1, 256), shards=256).level == "fail"
