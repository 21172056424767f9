"""Each part of the commit protocol is needed: without it the model breaks, with all of them it holds.

The shortest way to break a variant and the number of states of a sound one are pinned, so that a
model that has become weaker by accident is seen.
"""

from typing import NamedTuple

import pytest

from tests.simulation.commit_model import (
    APPLIED_THEN_FAILED,
    FAILED_THEN_APPLIED,
    LOST_UPDATE,
    Rules,
    check,
)
from tests.support.environment import PROVE


class Broken(NamedTuple):
    """A variant that lacks a part, the property that it breaks, and in how few steps."""

    lacks: str
    rules: Rules
    violation: str
    steps: int


class Sound(NamedTuple):
    """A variant that has all it needs for what can go wrong, and how many states it has."""

    name: str
    rules: Rules
    states: int


BROKEN = (
    Broken(
        "all but the lease",
        Rules(epoch=False, token=False, version=False, commit_id=False, refence=False, decide=False),
        LOST_UPDATE,
        6,
    ),
    Broken(
        "all but the epoch",
        Rules(token=False, version=False, commit_id=False, refence=False, decide=False, epoch_from_clock=False),
        LOST_UPDATE,
        8,
    ),
    Broken(
        "version and commit id",
        Rules(version=False, commit_id=False, refence=False, decide=False),
        LOST_UPDATE,
        8,
    ),
    Broken(
        "commit id",
        Rules(commit_id=False, refence=False, decide=False),
        APPLIED_THEN_FAILED,
        6,
    ),
    Broken(
        "version, one failover",
        Rules(version=False, refence=False, decide=False, failovers=1),
        LOST_UPDATE,
        7,
    ),
    Broken(
        "new token before reporting failure, one failover",
        Rules(refence=False, decide=False, failovers=1),
        FAILED_THEN_APPLIED,
        13,
    ),
    Broken(
        "WAIT before a definite answer, one failover",
        Rules(failovers=1),
        FAILED_THEN_APPLIED,
        10,
    ),
)
BROKEN_SLOWLY = Broken(
    "WAIT on the new token, two failovers",
    Rules(decide=False, failovers=2),
    FAILED_THEN_APPLIED,
    16,
)
SOUND = (
    Sound("one primary", Rules(refence=False), 200_065),
    Sound("WAIT, one failover", Rules(failovers=1, wait=True), 194_531),
    Sound("WAIT, two failovers", Rules(failovers=2, wait=True), 252_279),
)
SOUND_SLOWLY = Sound("new token before reporting failure, one failover", Rules(decide=False, failovers=1), 841_559)
SOUND_AT_FULL_SIZE = (
    Sound(
        "three failovers, four in flight, three resends",
        Rules(failovers=3, wait=True, in_flight_max=4, resends_max=3),
        657_029,
    ),
    Sound("four commits, four claims", Rules(failovers=2, wait=True, commits_max=4, claims_max=4), 3_796_209),
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.lacks)
def test_a_protocol_that_lacks_a_part_breaks(variant: Broken) -> None:
    """The property that breaks is the one that the missing part protects."""
    _breaks(variant)


@pytest.mark.slow
def test_a_fence_that_can_be_rolled_back_breaks() -> None:
    """With two failovers the new token itself is lost, unless it was on the replica first."""
    _breaks(BROKEN_SLOWLY)


@pytest.mark.slow
@pytest.mark.parametrize("variant", SOUND, ids=lambda variant: variant.name)
def test_the_whole_protocol_holds_in_every_state(variant: Sound) -> None:
    """No reachable state breaks a property."""
    _holds(variant)


@pytest.mark.slow
def test_a_new_token_makes_one_failover_safe() -> None:
    """Without replica acknowledgement, an answer after re-fencing still holds over one failover."""
    _holds(SOUND_SLOWLY)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not PROVE, reason="full size, several GiB of memory: make prove")
@pytest.mark.parametrize("variant", SOUND_AT_FULL_SIZE, ids=lambda variant: variant.name)
def test_the_whole_protocol_holds_within_wider_bounds(variant: Sound) -> None:
    """More commits, claims, copies and failovers bring nothing new."""
    _holds(variant)


def _breaks(variant: Broken) -> None:
    verdict = check(variant.rules)

    assert variant.violation == verdict.violation
    assert variant.steps == len(verdict.path), verdict.path


def _holds(variant: Sound) -> None:
    verdict = check(variant.rules)

    assert verdict.violation is None, verdict.path
    assert variant.states == verdict.states
