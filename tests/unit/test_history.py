"""The checker of the fault proofs finds each wrong that it is there to find."""

import pytest

from tests.support.history import Append, Armed, faults_of_alarms, faults_of_appends, lateness_ms, quantile

APPENDS = [
    Append("l", "a", 1.0, "acknowledged", 2.0, 0),
    Append("l", "b", 1.5, "unknown"),
    Append("l", "c", 3.0, "acknowledged", 4.0, 2),
    Append("l", "d", 5.0, "refused", 6.0),
]


@pytest.mark.parametrize("held", [["a", "b", "c"], ["a", "b", "c", "e"]], ids=["whole", "unknown at the end"])
def test_a_true_history_has_no_faults(held: list[str]) -> None:
    """What was acknowledged is in its place; what is unknown may be there."""
    assert [] == faults_of_appends([*APPENDS, Append("l", "e", 3.5, "unknown")], {"l": held})


@pytest.mark.parametrize(
    ("held", "fault"),
    [
        (["a", "b"], "c was acknowledged at 2, but is at -1"),
        (["a", "c", "b"], "c was acknowledged at 2, but is at 1"),
        (["a", "b", "c", "b"], "b is there 2 times"),
        (["a", "b", "c", "d"], "d was refused, but is at 3"),
        (["a", "b", "c", "x"], "nobody sent x"),
        (["c", "b", "a"], "c stands before a, which was acknowledged before it was sent"),
    ],
)
def test_each_fault_is_found(held: list[str], fault: str) -> None:
    """Lost, moved, repeated, refused and yet there, of nobody, out of order."""
    assert f"l: {fault}" in faults_of_appends(APPENDS, {"l": held})


def test_alarms_that_ring_early_or_never_are_found() -> None:
    """Twice is allowed; early and never are not, and a ring of an older setting does not count."""
    armed = [Armed("b", "kept", 100), Armed("b", "early", 100), Armed("b", "never", 100), Armed("b", "stale", 100)]
    rings = {"b": {"kept": [(100, 130), (100, 160)], "early": [(100, 99)], "stale": [(50, 60)]}}

    assert ["b: early rang 1 ms early", "b: never has not rung", "b: stale has not rung"] == faults_of_alarms(
        armed, rings
    )
    assert [30, -1] == lateness_ms(armed, rings)


def test_quantiles_are_values_that_were_seen() -> None:
    """The half, most of them, and the largest."""
    values = [float(value) for value in range(100, 0, -1)]

    assert (50.0, 99.0, 100.0) == (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1))
    assert 7.0 == quantile([7.0], 0.5)
