"""Sides of a comparison, measured in turn: a busy minute of the machine falls on all of them, not on one.

A side is a server that runs already and a way to load it for some seconds. What is reported are medians over the
rounds and the ratio of medians; a single round says little on a machine that does other work.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """One round of one side: requests a second, and what a request cost in microseconds of CPU."""

    rate: float
    server_us: float
    """CPU of the process that answers."""
    store_us: float = 0.0
    """CPU of its store, where that is a process of its own."""


class Side(NamedTuple):
    """What is measured: a name for people, and one round of it."""

    name: str
    measure: Callable[[], Sample]


class Aim(NamedTuple):
    """What our rate should be as a multiple of a peer's: at least so much, and what is aimed at."""

    peer: str
    least: float
    aim: float


def alternate(sides: Sequence[Side], rounds: int) -> dict[str, list[Sample]]:
    """The samples of each side, by its name: a round of every side, then the next round, from another side on."""
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for number in range(rounds):
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            samples[side.name].append(side.measure())
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """The medians of the figures, each for itself."""
    return Sample(*(statistics.median(figures) for figures in zip(*samples, strict=True)))


def report(samples: dict[str, list[Sample]], ours: str, aims: Sequence[Aim]) -> list[str]:
    """A line for each side, then one for each aim that says whether it is reached."""
    medians = {name: median(rounds) for name, rounds in samples.items()}
    lines = [
        f"{name:<34} {rate:>9,.0f}/s   {server_us:>6,.0f} us CPU of the server, {store_us:>5,.0f} of its store"
        f"   (rounds {min(rounds).rate:,.0f} to {max(rounds).rate:,.0f}/s)"
        for (name, (rate, server_us, store_us)), rounds in zip(medians.items(), samples.values(), strict=True)
    ]
    for peer, least, aim in aims:
        ratio = medians[ours].rate / medians[peer].rate
        verdict = "missed" if ratio < least else "held" if ratio < aim else "held, and the aim reached"
        lines.append(f"{ours} / {peer}: {ratio:.2f} (at least {least:g}, aim {aim:g}): {verdict}")
    return lines


def percentile(ordered: Sequence[int], share: float) -> int:
    """The smallest of the figures, in ascending order, that at least `share` of them do not pass (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
