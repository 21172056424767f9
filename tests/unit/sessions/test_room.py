"""Rooms in virtual time: one order of patches, who is there, what was missed, and the bounds."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions import room
from services.sessions.merge_patch import merged
from services.sessions.room import DocumentTooLargeError, Room, RoomFullError, StaleDocumentError
from shared.testing.kit import Kit, run_with_kit
from shared.testing.sockets import Client


async def entered(kit: Kit, name: str) -> tuple[Client, dict[str, Any]]:
    """Somebody who has come in, and what they were told: `hello`, with the others among it."""
    client = await kit.connect(kit.at(Room, "acme", "one"), attachment={"name": name})
    hello, members = await client.message(), await client.message()
    assert ("hello", "members") == (hello["type"], members["type"])
    return client, {**hello, "members": members["members"]}


def patch(base_seq: int, id_: str = "", **members: Any) -> dict[str, Any]:
    """A frame with a patch."""
    return {"type": "patch", "base_seq": base_seq, "merge_patch": members, "id": id_}


def test_who_patches_hears_ack_and_the_others_what_changed() -> None:
    """Both with the number of the patch, after its commit."""

    async def scenario(kit: Kit) -> None:
        anna, hello = await entered(kit, "anna")
        assert ([], 0, {}) == (hello["members"], hello["seq"], hello["document"])
        bert, hello = await entered(kit, "bert")
        assert [{"id": anna.id, "name": "anna", "presence": None}] == hello["members"]
        assert {"type": "joined", "member": {"id": bert.id, "name": "bert", "presence": None}} == await anna.message()
        await anna.send(patch(0, "mine", title="Hello"))
        assert {"type": "ack", "seq": 1, "id": "mine"} == await anna.message()
        assert {"type": "patched", "seq": 1, "by": anna.id, "merge_patch": {"title": "Hello"}} == await bert.message()

    run_with_kit(scenario, kinds=[Room])


def test_of_two_changes_of_one_member_the_later_counts_and_of_two_members_both_do() -> None:
    """Made on the same state, in the order in which they came."""

    async def scenario(kit: Kit) -> None:
        (anna, _), (bert, _) = await entered(kit, "anna"), await entered(kit, "bert")
        await anna.send(patch(0, a=1, both={"x": 1}))
        await kit.advance(20)
        await bert.send(patch(0, b=2, both={"x": 2, "y": 2}))
        await kit.advance(20)
        assert {"a": 1, "b": 2, "both": {"x": 2, "y": 2}} == (await kit.at(Room, "acme", "one").document()).document

    run_with_kit(scenario, kinds=[Room])


def test_cursors_and_presence_are_told_and_never_stored() -> None:
    """Presence is known to who comes later, a cursor is not; the store has none of them."""

    async def scenario(kit: Kit) -> None:
        (anna, _), (bert, _) = await entered(kit, "anna"), await entered(kit, "bert")
        await anna.message()
        await anna.send({"type": "cursor", "cursor": {"at": 7}})
        await anna.send({"type": "presence", "presence": "typing"})
        assert {"type": "cursor", "by": anna.id, "cursor": {"at": 7}} == await bert.message()
        assert {"type": "presence", "by": anna.id, "presence": "typing"} == await bert.message()
        _, hello = await entered(kit, "carl")
        assert ["typing", None] == [member["presence"] for member in hello["members"]]
        assert {} == kit.stored(kit.at(Room, "acme", "one"))

    run_with_kit(scenario, kinds=[Room])


def test_who_leaves_is_told_to_the_others() -> None:
    """And is no member any more."""

    async def scenario(kit: Kit) -> None:
        (anna, _), (bert, _) = await entered(kit, "anna"), await entered(kit, "bert")
        await anna.message()
        await bert.close()
        assert {"type": "left", "id": bert.id} == await anna.message()
        assert ["anna"] == [member.name for member in await kit.at(Room, "acme", "one").members()]

    run_with_kit(scenario, kinds=[Room])


def test_who_comes_back_gets_what_was_missed_and_else_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches as long as all are kept; one that was too large to be kept is in the document. Then who is there."""
    monkeypatch.setattr(room, "HISTORY_PATCHES", 4)
    monkeypatch.setattr(room, "HISTORY_SLACK", 1)

    async def scenario(kit: Kit) -> None:
        one = kit.at(Room, "acme", "one")
        for number in range(3):
            await one.patch({"n": number})
        anna, _ = await entered(kit, "anna")
        bert, _ = await entered(kit, "bert")
        await anna.message()

        async def sync(after: int) -> Any:
            await anna.send({"type": "sync", "after": after, "id": f"behind {after}"})
            missed, members = await anna.message(), await anna.message()
            assert ("missed", f"behind {after}") == (missed["type"], missed["id"])
            assert [bert.id] == [member["id"] for member in members["members"]]
            return missed

        missed = await sync(1)
        assert [(2, {"n": 1}), (3, {"n": 2})] == [(each["seq"], each["merge_patch"]) for each in missed["patches"]]
        await one.patch({"long": "x" * 5_000})
        await anna.message()
        for after in (3, -1, 99):
            missed = await sync(after)
            assert (4, 2) == (missed["seq"], missed["document"]["n"])
        for number in range(9):
            await one.patch({"n": number})
            await anna.message()
        assert 8 == (await sync(4))["document"]["n"]
        assert len(kit.journal(one)) <= 5

    run_with_kit(scenario, kinds=[Room])


def test_a_patch_that_cannot_be_is_refused_and_changes_nothing() -> None:
    """Of a state that never was, too deep, or too large for the document or a member."""

    async def scenario(kit: Kit) -> None:
        anna, _ = await entered(kit, "anna")
        deep: Any = 1
        for _ in range(40):
            deep = {"x": deep}
        await anna.send(patch(1, a=1))
        await anna.send(patch(0, a=deep))
        found = [(await anna.frame())["refused"]["code"] for _ in range(2)]
        assert ["bad_patch", "bad_patch"] == found
        one = kit.at(Room, "acme", "one")
        with pytest.raises(DocumentTooLargeError):
            await one.patch({"a": "x" * room.MEMBER_BYTES_MAX})
        for name in ("a", "b"):
            await one.patch({name: "x" * 110_000})
        with pytest.raises(DocumentTooLargeError):
            await one.patch({"c": "x" * 110_000})
        await one.patch({"a": None, "c": "x" * 110_000})
        assert ["b", "c"] == sorted((await one.document()).document)
        await anna.send({"type": "cursor", "cursor": "x" * 1_025})
        while "refused" not in (frame := await anna.frame()):
            assert "patched" == frame["message"]["type"]
        assert "too_large" == frame["refused"]["code"]

    run_with_kit(scenario, kinds=[Room])


def test_a_full_room_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody leaves."""
    monkeypatch.setattr(room, "MEMBERS_MAX", 2)

    async def scenario(kit: Kit) -> None:
        (anna, _), _ = await entered(kit, "anna"), await entered(kit, "bert")
        with pytest.raises(RoomFullError):
            await kit.connect(kit.at(Room, "acme", "one"))
        await anna.close()
        assert [] != (await entered(kit, "carl"))[1]["members"]

    run_with_kit(scenario, kinds=[Room])


def test_a_full_room_with_a_full_document_lets_people_in() -> None:
    """200 of them with all that each may show, and a document of nearly 256 KiB."""

    async def scenario(kit: Kit) -> None:
        one = kit.at(Room, "acme", "one")
        for name in ("a", "b", "c"):
            await one.patch({name: "x" * 87_000})
        shown = {"name": "\0" * room.NAME_LENGTH_MAX, "presence": "x" * (room.PRESENCE_BYTES_MAX - 2)}
        for _ in range(room.MEMBERS_MAX - 1):
            await kit.connect(one, attachment=shown)
        last = await kit.connect(one, attachment=shown)
        hello, members = await last.message(), await last.message()
        assert (3, 3, room.MEMBERS_MAX - 1) == (hello["seq"], len(hello["document"]), len(members["members"]))

    run_with_kit(scenario, kinds=[Room])


def test_a_patch_on_a_named_state_is_refused_on_any_other() -> None:
    """The number of the last patch is said; without one, whatever is there is changed."""

    async def scenario(kit: Kit) -> None:
        one = kit.at(Room, "acme", "one")
        assert [1, 2, 3] == [await one.patch({"a": 1}, 0), await one.patch({"a": 2}, 1), await one.patch({"a": 3})]
        for expected in (0, 2, 4):
            with pytest.raises(StaleDocumentError, match="is 3"):
                await one.patch({"a": 4}, expected)
        assert {"a": 3} == (await one.document()).document

    run_with_kit(scenario, kinds=[Room])


def test_a_room_that_nobody_changes_for_long_is_empty_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a month, here of ten minutes: nothing stays for ever by accident."""
    monkeypatch.setattr(room, "KEEP_MS", 600_000)

    async def scenario(kit: Kit) -> None:
        one = kit.at(Room, "acme", "one")
        await one.patch({"a": 1})
        await kit.advance(room.KEEP_MS + 10_000)
        assert {} == (await one.document()).document

    run_with_kit(scenario, kinds=[Room])


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(
                st.integers(0, 1), st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3), st.just({"x": 1}))
            ),
            st.sampled_from(["evict", "kill_owner"]),
        ),
        max_size=15,
    )
)
def test_who_follows_has_the_document_of_the_room(steps: list[Any]) -> None:
    """Over evictions and the deaths of owners, by patches, acks and what was missed."""

    async def scenario(kit: Kit) -> None:
        pages = [Page(*await entered(kit, name)) for name in ("anna", "bert")]
        running = [asyncio.get_running_loop().create_task(page.run()) for page in pages]
        for step in steps:
            if step == "evict":
                kit.node.host.residents.passivate(kit.at(Room, "acme", "one")._address)
            elif step == "kill_owner":
                await kit.kill_owner()
            else:
                who, name, value = step
                await pages[who].patch({name: value})
            await asyncio.sleep(0.003)
        await kit.advance(5_000)
        stored = await kit.at(Room, "acme", "one").document()
        for task in running:
            task.cancel()
        assert [(stored.seq, stored.document)] * 2 == [(page.seq, page.document) for page in pages]

    run_with_kit(scenario, kinds=[Room])


class Page:
    """A follower, as the example's page is one."""

    def __init__(self, client: Client, hello: dict[str, Any]) -> None:
        self.client = client
        self.seq, self.document = hello["seq"], hello["document"]
        self.sent: dict[str, dict[str, Any]] = {}
        self.early: dict[int, dict[str, Any]] = {}

    async def patch(self, merge_patch: dict[str, Any]) -> None:
        id_ = str(len(self.sent))
        self.sent[id_] = merge_patch
        await self.client.send({"type": "patch", "base_seq": self.seq, "merge_patch": merge_patch, "id": id_})

    async def run(self) -> None:
        while True:
            frame = await self.client.frame(within_ms=10**8)
            if "resync" in frame:
                await self.client.send({"type": "sync", "after": self.seq})
            elif "message" in frame:
                self._hear(frame["message"])

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "patched":
                self._take(message["seq"], message["merge_patch"])
            case "ack":
                self._take(message["seq"], self.sent[message["id"]])
            case "missed" if "document" in message:
                if message["seq"] >= self.seq:
                    self.seq, self.document = message["seq"], message["document"]
            case "missed":
                for each in message["patches"]:
                    self._take(each["seq"], each["merge_patch"])

    def _take(self, seq: int, merge_patch: dict[str, Any]) -> None:
        if seq == self.seq + 1:
            self.seq, self.document = seq, merged(self.document, merge_patch)
