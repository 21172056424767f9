"""Names for what one object cannot carry: many readers, many writers, many users.

An object runs one turn at a time, on one node, so one that everybody calls is the bottleneck,
however many nodes there are. Then its author gives it several names. Which way is the author's
choice, because each gives something up:

    spread     read-heavy     a read touches one of n, a write all n; readers see different ages
    isolate    write-heavy    a write touches one of n, a read all n; no rule over the whole
    stick      user-bound     each user has one of n; a user is no larger than one object

Everything here is pure, and the same in every process and release: names are stored, so the hash
can never change (tests pin it). The why and when: docs/explanation/naming.md.

Sources: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm" (arXiv 1406.2294);
RFC 7693 (BLAKE2).
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias

Pick: TypeAlias = Callable[[int], int]
"""From n, an index below n: `random.randrange`, or `same_for(reader)`."""

_MULTIPLIER = 2862933555777941757
_UINT64 = (1 << 64) - 1


def spread(name: str, n: int, pick: Pick) -> str:
    """The replica that a reader asks: one of `name#0` to `name#n-1`.

    For what is read much and written seldom. A read costs one call and load falls to 1/n; a write costs
    n (`spread_all`). Given up: while a write is under way some replicas have it and some do not, and
    one that fails half-way leaves it so until it is made again. A pick at random evens the load out
    best, but a reader can see the new value and then the old one; `same_for(reader)` spares it that.
    """
    index = pick(n)
    assert 0 <= index < n, "a pick is below n"
    return f"{name}#{index}"


def spread_all(name: str, n: int) -> list[str]:
    """Every replica, in the order in which a writer writes them: always the same, so two writers meet at the first.

    When n grows, write the new replicas before readers know of it; when it falls, stop the reads first.
    """
    assert n >= 1
    return [f"{name}#{index}" for index in range(n)]


def isolate(name: str, n: int, by: str) -> str:
    """The part that the writer `by` writes: one of `name~0` to `name~n-1`, always the same for one writer.

    For what is written much and can be summed: counts, tallies, last-seen times. A write costs one call
    and writers of different parts never wait for each other; a read costs n (`isolate_all`) and adds up.
    Given up: the parts are read one after another, so the sum is of no single moment; and no turn
    sees the whole, so "never more than 100 in all" cannot be kept. The busiest writer is not split.
    """
    return f"{name}~{stick(by, n)}"


def isolate_all(name: str, n: int) -> list[str]:
    """Every part, for a reader to add up. When n falls, the parts that are left out must be added to others first."""
    assert n >= 1
    return [f"{name}~{index}" for index in range(n)]


def stick(user: str, n: int) -> int:
    """The place of a user among n, from 0: the same for ever, and nearly the same when n changes.

    Users fall evenly on all places. From n to n+1, one in n+1 of them moves, each to the new place; back,
    only those of the last place move. Given up: only the last place can be taken away, and busy users who
    share a place cannot be parted. A user who moves leaves its state behind: carry it over.
    """
    return jump(int.from_bytes(blake2b(user.encode(errors="surrogatepass"), digest_size=8).digest(), "big"), n)


def same_for(reader: str) -> Pick:
    """The pick that is always the same for one reader, so that its reads never go back in time."""
    return lambda n: stick(reader, n)


def jump(key: int, n: int) -> int:
    """Jump consistent hash of a 64-bit key onto n places, O(log n); in whole numbers, so alike on every machine."""
    assert n >= 1
    place, following = 0, 0
    while following < n:
        place = following
        key = (key * _MULTIPLIER + 1) & _UINT64
        following = ((place + 1) << 31) // ((key >> 33) + 1)
    return place
