"""Replicated documents: which names they can have, and that one that cannot be read stops no other."""

import asyncio
import json

import pytest

from shared.errors import InvalidInputError
from shared.objects.config import Documents
from shared.testing.clock import ManualClock
from shared.testing.store import MemoryStore
from tests.support.log_lines import logged


@pytest.mark.parametrize("bad", ["a\x00b", "\x00", "\ud800"], ids=["nul_inside", "nul", "surrogate"])
@pytest.mark.parametrize("place", ["kind", "tenant", "name"])
def test_a_name_that_could_not_be_read_back_is_refused(place: str, bad: str) -> None:
    """Nothing is written, so no node's view of the documents can break over it; deleting it is refused alike."""

    async def run() -> None:
        store = MemoryStore(ManualClock())
        documents = Documents(store, "rl", ManualClock())
        kind, tenant, name = (bad if place == part else "good" for part in ("kind", "tenant", "name"))
        with pytest.raises(InvalidInputError) as put:
            await documents.put(kind, tenant, name, b"{}", expected=None)
        with pytest.raises(InvalidInputError) as deleted:
            await documents.delete(kind, tenant, name, expected=None)
        assert (place, place) == (put.value.where, deleted.value.where)
        assert not store.snapshot().documents

    asyncio.run(run())


@pytest.mark.parametrize("field", [b"policy\x00acme", b"a\x00b\x00c\x00d", b"\xff\x00acme\x00api", b""])
def test_a_stored_document_with_another_name_is_passed_over(field: bytes) -> None:
    """It is logged, the view stays fresh, and what was written before and after it is there."""

    async def run() -> None:
        clock = ManualClock()
        store = MemoryStore(clock)
        documents = Documents(store, "rl", clock)
        await documents.put("policy", "acme", "before", b"{}", expected=0)
        await store.document_put("rl", field, b"{}", expected=0)
        await documents.put("policy", "acme", "after", b"{}", expected=0)
        assert ["after", "before"] == [document.name for document in documents.list("policy", "acme")]
        assert documents.fresh()
        (line,) = [json.loads(line) for line in lines.getvalue().splitlines()]
        assert ("document.nameless", repr(field)) == (line["event"], line["field"])

    with logged() as lines:
        asyncio.run(run())
