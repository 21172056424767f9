"""The mark of a journal: positions, length and size, without the entries."""

from hypothesis import given
from hypothesis import strategies as st

from shared import bounds
from shared.objects.journal_mark import JournalMark

RUN_BYTES_MAX = 256 * 1024
"""Of a run: it is begun under 128 KiB, and ends with an entry of at most as much."""

sizes = st.sampled_from([1, 100, 5_000, 60_000, bounds.VALUE_BYTES_MAX])
steps = st.one_of(st.lists(sizes, min_size=1, max_size=200), st.integers(0, 600))


@given(history=st.lists(steps, max_size=12))
def test_a_mark_counts_like_the_entries_themselves(history: list[list[int] | int]) -> None:
    """Positions and length are exact; the size is never too small, and too large by less than one run."""
    mark = JournalMark()
    entries: dict[int, int] = {}
    for step in history:
        if isinstance(step, int):
            mark = mark.trimmed(step)
            entries = {position: size for position, size in entries.items() if position >= step}
        else:
            for size in step:
                entries[mark.next] = size
                mark = mark.appended(size)

        assert len(entries) == mark.length
        assert min(entries, default=mark.next) == (mark.first or mark.next)
        assert 0 <= mark.size_bytes - sum(entries.values()) <= RUN_BYTES_MAX


def test_the_mark_of_a_full_journal_is_small() -> None:
    """It is written with every commit that changes the journal."""
    mark = JournalMark()
    for _ in range(bounds.JOURNAL_ENTRIES_MAX):
        mark = mark.appended(bounds.JOURNAL_BYTES_MAX // bounds.JOURNAL_ENTRIES_MAX)

    assert len(mark.runs) < 100


def test_positions_go_on_when_everything_was_deleted() -> None:
    """There is no journal then, and the next entry is not taken for an old one."""
    mark = JournalMark().appended(1).appended(1).ended()

    assert (0, 3) == (mark.length, mark.next)
    assert JournalMark(3, 4, ((1, 9),)) == mark.appended(9)
