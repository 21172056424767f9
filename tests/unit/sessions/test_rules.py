"""Time-outs, limits with their ties, presets and merge patches: the pure rules of sessions."""

from typing import Any

import msgspec
import pytest

from services.sessions.expiry import Lifetime, ends, lifetime_from, lifetime_under
from services.sessions.limits import Candidate, Room, room_for
from services.sessions.merge_patch import merged
from services.sessions.policy import Limits, Policy
from services.sessions.session import Seen

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@pytest.mark.parametrize(
    ("preset", "absolute_ms", "idle_ms"),
    [
        ("aal1", 30 * DAY_MS, 0),
        ("aal2", DAY_MS, HOUR_MS),
        ("aal3", 12 * HOUR_MS, 15 * MINUTE_MS),
        ("office", 8 * HOUR_MS, 30 * MINUTE_MS),
    ],
)
def test_presets_are_those_of_nist(preset: Any, absolute_ms: int, idle_ms: int) -> None:
    """And what is said beside them counts instead."""
    assert (absolute_ms, idle_ms) == Policy(preset=preset).time_outs
    assert (HOUR_MS, 0) == Policy(preset=preset, absolute_ms=HOUR_MS, idle_ms=0).time_outs


def test_a_use_that_an_earlier_release_has_stored_is_read() -> None:
    """It had an address, which was always empty; and that release reads what this one stores."""
    stored = msgspec.msgpack.encode({"at_ms": 5, "address": "", "generation": 2, "generation_ms": 4})
    assert Seen(5, 2, 4) == msgspec.msgpack.decode(stored, type=Seen)
    assert {"at_ms": 5, "generation": 2, "generation_ms": 4} == msgspec.msgpack.decode(
        msgspec.msgpack.encode(Seen(5, 2, 4))
    )


@pytest.mark.parametrize(
    ("lifetime", "used_ms", "expected"),
    [
        (Lifetime(1_000, 100, 0), 1_050, (1_100, "absolute_timeout")),
        (Lifetime(1_000, 100, 30), 0, (1_030, "idle_timeout")),
        (Lifetime(1_000, 100, 30), 1_040, (1_070, "idle_timeout")),
        (Lifetime(1_000, 100, 30), 1_070, (1_100, "absolute_timeout")),
        (Lifetime(1_000, 100, 30), 1_099, (1_100, "absolute_timeout")),
    ],
)
def test_the_earlier_time_out_ends_a_session(lifetime: Lifetime, used_ms: int, expected: tuple[int, str]) -> None:
    """Use moves the idle one, never the absolute one."""
    assert expected == ends(lifetime, used_ms)


@pytest.mark.parametrize(
    ("given", "today", "expected"),
    [
        ((HOUR_MS, 0), (DAY_MS, 0), (HOUR_MS, 0)),
        ((DAY_MS, 0), (HOUR_MS, 0), (HOUR_MS, 0)),
        ((DAY_MS, 0), (DAY_MS, MINUTE_MS), (DAY_MS, MINUTE_MS)),
        ((DAY_MS, MINUTE_MS), (DAY_MS, 0), (DAY_MS, MINUTE_MS)),
        ((DAY_MS, HOUR_MS), (DAY_MS, MINUTE_MS), (DAY_MS, MINUTE_MS)),
    ],
)
def test_the_shorter_of_the_policies_counts(
    given: tuple[int, int], today: tuple[int, int], expected: tuple[int, int]
) -> None:
    """No idle time-out is the longest of all."""
    policy = Policy(absolute_ms=today[0], idle_ms=today[1])
    left = lifetime_under(Lifetime(5, *given), policy, impersonated=False)
    assert Lifetime(5, *expected) == left


def test_an_impersonation_gets_an_hour_at_most() -> None:
    """Whatever the policy gives to others, and under it where that is less."""
    assert HOUR_MS == lifetime_from(0, Policy(), impersonated=True).absolute_ms
    assert MINUTE_MS == lifetime_from(0, Policy(absolute_ms=MINUTE_MS), impersonated=True).absolute_ms


def live(*rows: tuple[str, str, int, int]) -> list[Candidate]:
    return [Candidate(*row) for row in rows]


FOUR = live(("a", "ios", 1, 9), ("b", "web", 2, 3), ("c", "web", 2, 8), ("d", "ios", 4, 3))


@pytest.mark.parametrize(
    ("limits", "client", "expected"),
    [
        (Limits(total=5), "web", Room()),
        (Limits(total=4), "web", Room(("b",))),
        (Limits(total=4), "ios", Room(("a",))),
        (Limits(total=4), "tv", Room(("a",))),
        (Limits(total=3), "web", Room(("b", "c"))),
        (Limits(total=2), "web", Room(("b", "c", "a"))),
        (Limits(total=4, on_limit="evict_lru"), "web", Room(("b",))),
        (Limits(total=4, on_limit="evict_lru"), "ios", Room(("d",))),
        (Limits(total=4, on_limit="evict_lru"), "tv", Room(("b",))),
        (Limits(total=9, per_client={"web": 2}), "web", Room(("b",))),
        (Limits(total=9, per_client={"web": 1}), "web", Room(("b", "c"))),
        (Limits(total=9, per_client={"web": 1}), "ios", Room()),
        (Limits(total=3, per_client={"web": 2}), "web", Room(("b", "c"))),
        (Limits(total=2, per_client={"web": 2}), "web", Room(("b", "c", "a"))),
        (Limits(total=4, on_limit="reject"), "web", Room(refused_by=("b", "c", "a", "d"))),
        (
            Limits(total=9, per_client={"web": 2}, on_limit="reject"),
            "web",
            Room(refused_by=("b", "c"), of_client=True),
        ),
        (Limits(total=9, per_client={"web": 2}, on_limit="reject"), "ios", Room()),
    ],
)
def test_s06_who_makes_room_is_decided_to_the_last_tie(limits: Limits, client: str, expected: Room) -> None:
    """S-06: the same client first, then the policy's order, then who began first, then the id; both limits together."""
    assert expected == room_for(client, FOUR, limits)
    assert expected == room_for(client, FOUR[::-1], limits)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7396_shows(target: Any, patch: Any, expected: Any) -> None:
    """Every example of its appendix; the target stays as it was."""
    before = msgspec.json.encode(target)
    assert expected == merged(target, patch)
    assert before == msgspec.json.encode(target)


def test_a_patch_may_not_be_deep() -> None:
    """Thirty-two objects in each other, and no more."""
    patch: Any = 1
    for _ in range(32):
        patch = {"a": patch}
    assert patch == merged({}, patch)
    with pytest.raises(ValueError, match="At most 32"):
        merged({}, {"a": patch})


@pytest.mark.parametrize(
    "members",
    [
        {"preset": "aal4"},
        {"idle_ms": 59_999},
        {"absolute_ms": 59_999},
        {"limits": {"total": 0}},
        {"limits": {"total": 201}},
        {"limits": {"on_limit": "drop"}},
        {"rotation_grace_ms": 300_001},
        {"elevation_overlap_ms": 60_001},
        {"cache_seconds": 11},
        {"cookie_domain": "a b"},
        {"unknown": 1},
    ],
)
def test_a_policy_that_cannot_be_right_is_refused(members: dict[str, Any]) -> None:
    """Each of its bounds."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(members, Policy)
