"""How replicated documents behave, one rule a function."""

from shared.storage import keys
from shared.storage.interface import Store
from tests.storage.bench import Bench, Rule

ROWS = 1_000
"""Documents that one answer carries."""


async def versions(store: Store, revision: int = 0, prefix: str = "rl") -> list[tuple[bytes, int, bytes | None]]:
    """What changed after a revision, without the times."""
    changes = await store.documents_since(prefix, revision)
    return [(document.field, document.version, document.body) for document in changes.documents]


async def a_document_is_written_if_unchanged(bench: Bench) -> None:
    """Compare and set: a wrong expected version writes nothing and is told the stored one."""
    put = bench.store.document_put
    assert (True, 1) == await put("rl", b"d", b"1", expected=0)
    before = await bench.dump()
    assert (False, 1) == await put("rl", b"d", b"2", expected=0)
    assert (False, 1) == await put("rl", b"d", b"2", expected=2)
    assert before == await bench.dump()
    assert (True, 2) == await put("rl", b"d", b"2", expected=1)
    assert [(b"d", 2, b"2")] == await versions(bench.store)


async def any_version_may_be_overwritten(bench: Bench) -> None:
    """-1 expects nothing, whether there is a document or not."""
    put = bench.store.document_put
    assert (True, 1) == await put("rl", b"d", b"", expected=-1)
    assert (True, 2) == await put("rl", b"d", b"line\nline", expected=-1)
    assert [(b"d", 2, b"line\nline")] == await versions(bench.store)


async def versions_go_on_after_a_deletion(bench: Bench) -> None:
    """A deleted document counts as absent, is reported as deleted, and its next version is a new number."""
    put = bench.store.document_put
    await put("rl", b"d", b"1", expected=0)
    assert (False, 1) == await put("rl", b"d", None, expected=7)
    assert (True, 0) == await put("rl", b"d", None, expected=1)
    assert [(b"d", 2, None)] == await versions(bench.store)
    assert (True, 3) == await put("rl", b"d", b"3", expected=0)
    assert [(b"d", 3, b"3")] == await versions(bench.store)


async def deleting_what_is_absent_writes_nothing(bench: Bench) -> None:
    """It succeeds, unless a version was expected, and leaves no trace either way."""
    put = bench.store.document_put
    assert (True, 0) == await put("rl", b"d", None, expected=-1)
    assert (True, 0) == await put("rl", b"d", None, expected=0)
    assert (False, 0) == await put("rl", b"d", None, expected=3)
    assert {} == (await bench.dump()).documents


async def changes_come_oldest_first_and_once(bench: Bench) -> None:
    """A document appears at its newest change; who is up to date is told nothing."""
    for field in (b"a", b"b", b"a"):
        await bench.store.document_put("rl", field, b"x", expected=-1)
    assert [(b"b", 1, b"x"), (b"a", 2, b"x")] == await versions(bench.store)
    assert [(b"a", 2, b"x")] == await versions(bench.store, 2)
    changes = await bench.store.documents_since("rl", 3)
    assert (3, [], False) == (changes.revision, list(changes.documents), changes.more)


async def a_store_gone_back_in_time_starts_over(bench: Bench) -> None:
    """A revision that the store never reached is answered from the start."""
    await bench.store.document_put("rl", b"a", b"x", expected=-1)
    changes = await bench.store.documents_since("rl", 99)
    assert (1, [b"a"]) == (changes.revision, [document.field for document in changes.documents])


async def prefixes_are_apart(bench: Bench) -> None:
    """The shared documents and those of a service count on their own."""
    await bench.store.document_put(keys.SHARED, b"a", b"shared", expected=0)
    await bench.store.document_put("rl", b"a", b"own", expected=0)
    assert [(b"a", 1, b"shared")] == await versions(bench.store, prefix=keys.SHARED)
    assert [(b"a", 1, b"own")] == await versions(bench.store)


async def many_changes_come_in_pages(bench: Bench) -> None:
    """`more` says to ask again from `revision`; no change is skipped or told twice."""
    names = [b"%04d" % n for n in range(ROWS + 1)]
    for name in names:
        await bench.store.document_put("rl", name, b"x", expected=0)
    first = await bench.store.documents_since("rl", 0)
    second = await bench.store.documents_since("rl", first.revision)
    assert (True, False, ROWS + 1) == (first.more, second.more, second.revision)
    assert names == [document.field for page in (first, second) for document in page.documents]


RULES: tuple[Rule, ...] = (
    a_document_is_written_if_unchanged,
    any_version_may_be_overwritten,
    versions_go_on_after_a_deletion,
    deleting_what_is_absent_writes_nothing,
    changes_come_oldest_first_and_once,
    a_store_gone_back_in_time_starts_over,
    prefixes_are_apart,
    many_changes_come_in_pages,
)
