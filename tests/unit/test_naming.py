"""Names that share a load: the same for ever, spread evenly, and moved as little as can be."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.naming import isolate, isolate_all, jump, same_for, spread, spread_all, stick

users = st.text(max_size=40)
counts = st.integers(1, 1_000)


# For ever the same.


@pytest.mark.parametrize(
    ("key", "n", "place"),
    [(1, 1, 0), (42, 57, 43), (0xDEAD10CC, 1, 0), (0xDEAD10CC, 666, 361), (256, 1024, 520)],
)
def test_jump_is_the_published_function(key: int, n: int, place: int) -> None:
    """Other implementations of the paper give these values for these keys."""
    assert place == jump(key, n)


@pytest.mark.parametrize(
    ("user", "places"),
    [
        ("", [0, 0, 2, 5, 62, 472, 716635]),
        ("user-1", [0, 0, 2, 4, 68, 666, 496808]),
        ("user-2", [0, 0, 0, 4, 41, 137, 953875]),
        ("ada@example.com", [0, 1, 1, 1, 85, 381, 45430]),
        ("Zoë", [0, 0, 0, 0, 85, 635, 34736]),
    ],
)
def test_a_user_has_its_place_for_ever(user: str, places: list[int]) -> None:
    """Stored names rest on these values: a release that changes them loses what was stored."""
    assert places == [stick(user, n) for n in (1, 2, 3, 10, 100, 1_000, 1_000_000)]


def test_names_have_their_form_for_ever() -> None:
    """Replicas and parts are told apart, also from those of another name."""
    assert ["prices#0", "prices#1", "prices#2"] == spread_all("prices", 3)
    assert ["visits~0", "visits~1", "visits~2"] == isolate_all("visits", 3)
    assert "prices#1" == spread("prices", 16, same_for("reader-7"))
    assert "visits~8" == isolate("visits", 16, by="writer-7")


# Whatever the name.


@given(users, counts)
def test_a_place_is_one_of_n(user, n):
    """Nobody is left without a place."""
    assert 0 <= stick(user, n) < n


@given(users, counts)
def test_one_more_place_moves_users_only_there(user, n):
    """Who moves when n grows moves to the new place; so who moves when it falls comes from the last one."""
    assert stick(user, n + 1) in {stick(user, n), n}


@given(users, counts, users)
def test_a_reader_asks_a_replica_that_was_written(name, n, reader):
    """Whichever way it picks, its name is among those that the writer touches."""
    names = spread_all(name, n)
    assert spread(name, n, same_for(reader)) in names
    assert spread(name, n, Random(n).randrange) in names
    assert n == len(set(names))


@given(users, counts, users)
def test_a_sum_finds_every_writer(name, n, writer):
    """The part of each writer is among those that a reader adds up."""
    parts = isolate_all(name, n)
    assert isolate(name, n, writer) in parts
    assert n == len(set(parts))


def test_a_string_that_is_no_unicode_has_a_place() -> None:
    """A lone surrogate is placed too; whether it may be a name is the address's to say."""
    assert 0 <= stick("\ud800", 7) < 7


# Evenly.


@pytest.mark.parametrize("n", [2, 7, 64])
def test_users_fall_evenly_on_all_places(n: int) -> None:
    """No place is further from its share than chance explains (six standard deviations)."""
    users_count = 40_000
    found = Counter(stick(f"user-{i}", n) for i in range(users_count))
    share = users_count / n
    deviation = math.sqrt(share * (1 - 1 / n))

    assert set(range(n)) == set(found)
    assert all(abs(count - share) < 6 * deviation for count in found.values())


def test_one_place_more_moves_one_share_of_the_users() -> None:
    """From 9 to 10 places about a tenth moves, where counting modulo n would move nine tenths."""
    names = [f"user-{i}" for i in range(40_000)]
    moved = sum(stick(name, 9) != stick(name, 10) for name in names)

    assert abs(moved - 4_000) < 6 * math.sqrt(4_000 * 0.9)


# What only a bug can ask for.


@pytest.mark.parametrize("n", [0, -1])
def test_no_places_are_a_bug(n: int) -> None:
    """Nothing is spread over nothing."""
    for ask in (lambda: spread_all("a", n), lambda: isolate_all("a", n), lambda: stick("a", n)):
        with pytest.raises(AssertionError):
            ask()


def test_a_pick_that_is_no_replica_is_a_bug() -> None:
    """A picker that counts from one would read what nobody writes."""
    with pytest.raises(AssertionError, match="below n"):
        spread("a", 3, lambda n: n)
