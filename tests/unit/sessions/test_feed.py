"""Where the feed of a principal goes on: one rule for streams, sockets and watches."""

import pytest

from services.sessions.records import Feed


@pytest.mark.parametrize(
    ("after", "first", "last", "expected"),
    [
        (0, 1, 0, (0, False)),
        (0, 1, 7, (0, False)),
        (7, 1, 7, (7, False)),
        (3, 1, 7, (3, False)),
        (0, 5, 7, (4, False)),  # All that is kept.
        (4, 5, 7, (4, False)),  # The oldest that is kept is the next.
        (3, 5, 7, (4, True)),
        (1, 5, 7, (4, True)),
        (8, 1, 7, (0, True)),  # Begun anew.
        (8, 5, 7, (4, True)),
        (0, 5, 4, (4, False)),  # Nothing is kept.
        (4, 5, 4, (4, False)),
        (3, 5, 4, (4, True)),
        (5, 5, 4, (4, True)),
    ],
)
def test_a_feed_goes_on_behind_what_was_heard(after: int, first: int, last: int, expected: tuple[int, bool]) -> None:
    """A reset where something between is missing or the feed is another, and never for who has heard nothing."""
    assert expected == Feed(first=first, last=last, events=()).onward(after)
