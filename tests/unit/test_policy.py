"""Policies and profiles: what is accepted can be enforced, what is refused says where and why."""

from typing import Any

import msgspec
import pytest

from services.ratelimiter.book import PolicyBook
from services.ratelimiter.policy import (
    STATE_BYTES_MAX,
    Policy,
    PolicyRecord,
    Profile,
    UnknownPolicyError,
    UnknownProfileError,
    decode_policy,
    encode_record,
)
from services.ratelimiter.publishing import Condition, condition_of
from shared.errors import InvalidInputError
from shared.http.decoding import strict_decoder
from shared.objects.config import Documents
from shared.telemetry.metrics import Metrics
from shared.testing.clock import ManualClock, run_virtual
from shared.testing.store import MemoryStore

decode = strict_decoder(Policy)
decode_gateway = strict_decoder(Profile)


def limit(**members: Any) -> dict[str, Any]:
    return {"name": "burst", "limit": 10, "window_ms": 1_000, **members}


def policy_of(*limits: dict[str, Any], **members: Any) -> Policy:
    return decode(msgspec.json.encode({"limits": limits, **members}))


def test_a_policy_has_defaults() -> None:
    """A limit without algorithm slides, a policy without `on_error` is open."""
    policy = policy_of(limit())
    assert (policy.limits[0].algorithm, policy.on_error) == ("sliding_window", "open")


@pytest.mark.parametrize(
    ("members", "where"),
    [
        ({"limit": 0}, "$.limits[0].limit"),
        ({"limit": 10**9 + 1}, "$.limits[0].limit"),
        ({"limit": 1.0}, "$.limits[0].limit"),
        ({"limit": "1"}, "$.limits[0].limit"),
        ({"limit": True}, "$.limits[0].limit"),
        ({"window_ms": 0}, "$.limits[0].window_ms"),
        ({"window_ms": 400 * 86_400_000 + 1}, "$.limits[0].window_ms"),
        ({"name": ""}, "$.limits[0].name"),
        ({"name": "a" * 65}, "$.limits[0].name"),
        ({"name": "burst\n"}, "$.limits[0].name"),
        ({"name": 'a"b'}, "$.limits[0].name"),
        ({"name": "100%d"}, "$.limits[0].name"),
        ({"name": "bürst"}, "$.limits[0].name"),
        ({"name": "-x"}, "$.limits[0].name"),
        ({"algorithm": "gcra"}, "$.limits[0].algorithm"),
        ({"algorithm": "sliding_log\n"}, "$.limits[0].algorithm"),
        ({"algorithm": "sliding_log", "limit": 100_001}, "$.limits[0]"),
        ({"surprise": 1}, "$.limits[0]"),
    ],
)
def test_a_bad_limit_is_refused_where_it_is_bad(members: dict[str, Any], where: str) -> None:
    """Bounds, types, names and unknown members are checked, and the place is told."""
    with pytest.raises(InvalidInputError) as caught:
        policy_of(limit(**members))
    assert where == caught.value.where


def test_an_unknown_algorithm_is_told_what_is_known() -> None:
    """The refusal names what is supported."""
    with pytest.raises(InvalidInputError, match="Expected sliding_window or sliding_log"):
        policy_of(limit(algorithm="gcra"))


@pytest.mark.parametrize(
    "limits",
    [
        [],
        [limit(name=f"n{number}") for number in range(9)],
        [limit(), limit(limit=20)],
        [limit(algorithm="sliding_log", limit=60_000), limit(name="b", algorithm="sliding_log", limit=4_000)],
        [limit(algorithm="sliding_log", limit=60_000, window_ms=40 * 86_400_000)],
    ],
)
def test_limits_that_cannot_hold_together_are_refused(limits: list[dict[str, Any]]) -> None:
    """None, too many, two of one name, or more log than can be stored of one subject."""
    with pytest.raises(InvalidInputError):
        policy_of(*limits)


def test_the_largest_policies_are_accepted() -> None:
    """Eight limits, the largest log, the largest limit, the longest window."""
    eight = [limit(name=f"n{number}", limit=10**9, window_ms=400 * 86_400_000) for number in range(8)]
    assert policy_of(*eight).stored_bytes_max < STATE_BYTES_MAX
    assert policy_of(limit(algorithm="sliding_log", limit=60_000)).stored_bytes_max < STATE_BYTES_MAX


def test_a_record_keeps_ten_versions() -> None:
    """The newest policy and the nine before it, newest first."""
    record = PolicyRecord(policy=policy_of(limit(limit=1)))
    for version in range(1, 15):
        record = record.followed_by(policy_of(limit(limit=version + 1)), version=version, changed_ms=version * 10)
    assert 15 == record.policy.limits[0].limit
    assert list(range(14, 5, -1)) == [past.version for past in record.history]
    assert all(past.policy.limits[0].limit == past.version for past in record.history)
    assert record == decode_policy(encode_record(record))


@pytest.mark.parametrize(
    "members",
    [
        {"deny_status": 500},
        {"deny_status": "403"},
        {"subject_header": "X-Upper"},
        {"subject_header": "x-sub\n"},
        {"subject_header": "x sub"},
        {"subject_header": "authorization"},
        {"subject_header": "x-tenure-key"},
        {"policy": ""},
        {"check_id": 1},
        {"tenant": "other"},
    ],
)
def test_a_bad_profile_is_refused(members: dict[str, Any]) -> None:
    """A profile can only name a header that is not ours or the client's, and a status that gateways know."""
    with pytest.raises(InvalidInputError):
        decode_gateway(msgspec.json.encode({"policy": "api", "subject_header": "x-sub", **members}))


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "expected"),
    [
        (None, None, Condition()),
        ('"v3"', None, Condition(version=3)),
        (' "v12" ', None, Condition(version=12)),
        ("*", None, Condition(exists=True)),
        (None, "*", Condition(exists=False)),
    ],
)
def test_conditions_are_read(if_match: str | None, if_none_match: str | None, expected: Condition) -> None:
    """One strong tag or a star."""
    assert expected == condition_of(if_match, if_none_match)


@pytest.mark.parametrize(
    ("if_match", "if_none_match"),
    [("v3", None), ('W/"v3"', None), ('"v0"', None), ('"v1", "v2"', None), ("", None), (None, '"v1"'), ("*", "*")],
)
def test_other_conditions_are_refused(if_match: str | None, if_none_match: str | None) -> None:
    """A condition that is not understood must not be taken for none."""
    with pytest.raises(InvalidInputError):
        condition_of(if_match, if_none_match)


@pytest.mark.parametrize(
    ("condition", "holds_for"),
    [
        (Condition(), [0, 1, 2]),
        (Condition(version=2), [2]),
        (Condition(exists=True), [1, 2]),
        (Condition(exists=False), [0]),
    ],
)
def test_conditions_hold_for_what_they_say(condition: Condition, holds_for: list[int]) -> None:
    """Version 0 stands for none."""
    assert holds_for == [version for version in range(3) if condition.holds(version)]


def test_the_book_follows_the_documents() -> None:
    """What is put is in force at once, what is deleted is gone, and what cannot be read changes nothing."""

    async def scenario() -> None:
        clock = ManualClock()
        documents = Documents(MemoryStore(clock), "rl", clock)
        await documents.put("policy", "acme", "old", encode_record(PolicyRecord(policy=policy_of(limit()))), expected=0)
        book = PolicyBook(documents, Metrics(clock))
        assert (1, 10) == (book.policy("acme", "old").version, book.policy("acme", "old").cost_max)
        await documents.put("policy", "acme", "old", b'{"policy":{"limits":7}}', expected=1)
        assert 1 == book.policy("acme", "old").version
        profile = Profile(policy="old", subject_header="x-sub")
        await documents.put("profile", "acme", "edge", encode_record(profile), expected=0)
        assert (b"x-sub", 429) == (
            book.profile("acme", "edge").subject_header,
            book.profile("acme", "edge").deny_status,
        )
        assert (["edge"], []) == (book.profiles_under("acme", "old"), book.profiles_under("other", "old"))
        await documents.delete("policy", "acme", "old", expected=None)
        await documents.delete("profile", "acme", "edge", expected=None)
        with pytest.raises(UnknownPolicyError):
            book.policy("acme", "old")
        with pytest.raises(UnknownProfileError):
            book.profile("acme", "edge")

    run_virtual(scenario)
