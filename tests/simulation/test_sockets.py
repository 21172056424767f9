"""Live connections on the core: what clients see, in which order, and what they are told when something may be missing."""

import asyncio
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from shared import bounds
from shared.objects.errors import CommitFailedError, DomainError, TooLargeError
from shared.objects.handler import Alarm, DurableObject
from shared.objects.sockets import Close, Socket
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, run_with_kit
from shared.testing.sockets import Client


class Word(Struct, frozen=True, forbid_unknown_fields=True):
    """What is said in a hall."""

    say: Annotated[str, Meta(max_length=100_000)]


class SilenceError(DomainError):
    """Nobody speaks here."""

    code = "silence"


class Hall(DurableObject):
    """Keeps every word, and tells it to all."""

    kind = "hall"

    def on_socket_open(self, socket: Socket) -> None:
        if socket.attachment(str | None) == "stranger":
            raise SilenceError("No strangers")
        self.storage.put("opened", self.storage.get("opened", int, default=0) + 1)
        socket.send({"words": list(self.words())})

    def on_socket_message(self, socket: Socket, message: Word) -> None:
        match message.say:
            case "silence":
                raise SilenceError("No")
            case "fault":
                self.sockets.send("never heard")
                raise ValueError
            case "whisper":
                self.sockets.send("psst", but=socket)
                return
            case "leave":
                socket.send("farewell")
                socket.close(4000, "as you wish")
                return
            case "name":
                socket.attach("bert")
                assert socket.attachment(str) == "bert"
                return
            case "who":
                socket.send(socket.attachment(str | None))
                return
        self.add(message.say)

    def on_socket_close(self, socket: Socket, code: int) -> None:
        self.storage.put("closed", code)
        self.sockets.send({"left": code})

    def words(self) -> tuple[str, ...]:
        return self.storage.get("words", tuple[str, ...], default=())

    def add(self, word: str) -> None:
        words = (*self.words(), word)
        self.storage.put("words", words)
        self.sockets.send({"word": word, "count": len(words)})

    async def twice(self, word: str) -> None:
        self.add(word)
        await self.commit()
        self.add(word)
        raise SilenceError("Not twice")

    def closed(self) -> int:
        return self.storage.get("closed", int, default=0)

    def tagged(self, tag: str) -> int:
        self.sockets.send("tagged", tag=tag)
        return len(self.sockets.all(tag))

    def shout(self, size: int) -> None:
        self.sockets.send("x" * size)

    def ring(self) -> None:
        self.alarms.set("bell", at_ms=self.clock.now_ms() + 1_000)

    def on_alarm(self, alarm: Alarm) -> None:
        self.sockets.send(alarm.name)


def hall(kit: Kit) -> Any:
    """The hall of these tests."""
    return kit.at(Hall, "acme", "one")


async def entered(kit: Kit, **grant: Any) -> Client:
    """A client that has been welcomed."""
    client = await kit.connect(hall(kit), **grant)
    assert "words" in await client.message()
    return client


def test_everybody_hears_a_word_in_the_order_of_the_turns_and_with_numbers_without_gaps() -> None:
    """A message is a turn; what it sends comes to all, numbered from 1 for each socket."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        await anna.send({"say": "a"})
        await anna.send({"say": "b"})
        heard = [await bert.frame(), await bert.frame()]
        assert heard == [
            {"seq": 2, "message": {"word": "a", "count": 1}},
            {"seq": 3, "message": {"word": "b", "count": 2}},
        ]
        assert (await anna.frame())["message"] == {"word": "a", "count": 1}
        assert kit.stored(hall(kit))["words"] == ["a", "b"]

    run_with_kit(scenario, kinds=[Hall])


def test_nothing_is_heard_before_its_commit() -> None:
    """While the store is silent a word is with nobody; when it answers, all hear it."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        await anna.send({"say": "a"})
        await asyncio.sleep(0.15)
        assert (0, 0) == (anna.waiting(), bert.waiting())
        assert await bert.message() == {"word": "a", "count": 1}

    run_with_kit(scenario, kinds=[Hall])


def test_a_turn_that_writes_nothing_waits_for_what_it_could_have_seen() -> None:
    """A whisper after a word leaves behind the word's commit, and not before it."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=200)
        await anna.send({"say": "a"})
        await asyncio.sleep(0.01)  # The commit is on its way.
        await bert.send({"say": "whisper"})
        await asyncio.sleep(0.15)
        assert 0 == anna.waiting()
        assert [await anna.message(), await anna.message()] == [{"word": "a", "count": 1}, "psst"]

    run_with_kit(scenario, kinds=[Hall])


def test_what_a_failed_turn_said_is_never_heard_and_its_sender_hears_why() -> None:
    """A fault and a declared error: no message leaves, the frame is refused, the socket stays open."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        await anna.send({"say": "fault"})
        await anna.send({"say": "silence"})
        refused = [(await anna.frame())["refused"], (await anna.frame())["refused"]]
        assert refused[0] == {
            "frame": 1,
            "code": "handler_failed",
            "detail": "hall/socket:message failed.",
        }
        assert refused[1] == {"frame": 2, "code": "silence", "detail": "No"}
        await anna.send({"say": "a"})
        assert await bert.frame() == {"seq": 2, "message": {"word": "a", "count": 1}}

    run_with_kit(scenario, kinds=[Hall])


def test_a_turn_that_splits_lets_out_what_it_said_before_and_nothing_after() -> None:
    """What was said before `commit` is heard though the rest of the turn fails: it is stored."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        with pytest.raises(SilenceError):
            await hall(kit).twice("a")
        assert await anna.message() == {"word": "a", "count": 1}
        assert 0 == anna.waiting()
        assert kit.stored(hall(kit))["words"] == ["a"]

    run_with_kit(scenario, kinds=[Hall])


def test_a_word_whose_commit_failed_is_refused_and_everybody_is_told_to_ask_anew() -> None:
    """The store surely did not take it: the sender's frame had no effect, and nobody heard it."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        kit.store.full = True
        await anna.send({"say": "a"})
        frames = [await anna.frame(), await anna.frame()]
        assert {"resync": {"after": 1, "received": 0}} in frames
        assert [1] == [frame["refused"]["frame"] for frame in frames if "refused" in frame]
        assert await bert.frame() == {"resync": {"after": 1, "received": 0}}
        kit.store.full = False
        await anna.send({"say": "b"})
        assert await bert.frame() == {"seq": 2, "message": {"word": "b", "count": 1}}

    run_with_kit(scenario, kinds=[Hall])


def test_a_socket_survives_that_its_object_leaves_memory() -> None:
    """Evicted and loaded again for the next word; nobody is told, since nothing is missing."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        await anna.send({"say": "a"})
        assert (await bert.frame())["seq"] == 2
        await kit.evict(hall(kit))
        await bert.send({"say": "b"})
        assert [2, 3] == [(await anna.frame())["seq"], (await anna.frame())["seq"]]
        assert await bert.frame() == {"seq": 3, "message": {"word": "b", "count": 2}}

    run_with_kit(scenario, kinds=[Hall])


def test_an_object_leaves_memory_though_sockets_are_open_and_its_alarm_reaches_them() -> None:
    """Sockets keep nothing in memory but themselves."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        await kit.advance(70_000)
        assert 0 == kit.node.host.objects_resident
        await hall(kit).ring()
        await kit.advance(1_000)
        assert "bell" == await anna.message()

    run_with_kit(scenario, kinds=[Hall])


def test_a_socket_survives_the_death_of_its_owner_and_hears_of_it() -> None:
    """The next owner knows the sockets and what they remember; each is told that something may be missing."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit, attachment="anna"), await entered(kit)
        await bert.send({"say": "name"})
        await kit.advance(10)
        await kit.kill_owner()
        assert await anna.frame() == {"resync": {"after": 1, "received": 0}}
        assert await bert.frame() == {"resync": {"after": 1, "received": 1}}
        await anna.send({"say": "who"})
        await bert.send({"say": "who"})
        assert ("anna", "bert") == (await anna.message(), await bert.message())
        assert anna.closed is None

    run_with_kit(scenario, kinds=[Hall])


def test_a_word_that_was_under_way_when_its_owner_died_is_reported_as_not_known() -> None:
    """The commit was sent and the owner died: the frame is behind `received`, and the store decides what is true."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        kit.faults.next("commit", FaultKind.DELAY, delay_ms=50)
        await anna.send({"say": "a"})
        await asyncio.sleep(0.02)
        await kit.kill_owner()
        assert await anna.frame() == {"resync": {"after": 1, "received": 0}}
        assert await bert.frame() == {"resync": {"after": 1, "received": 0}}

    run_with_kit(scenario, kinds=[Hall])


def test_a_clean_hand_over_is_not_seen() -> None:
    """Another node owns the object in good order: the numbers go on, and there is no resync."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        await kit.hand_over()
        await anna.send({"say": "a"})
        assert await anna.frame() == {"seq": 2, "message": {"word": "a", "count": 1}}

    run_with_kit(scenario, kinds=[Hall])


def test_a_former_owner_that_wakes_up_reaches_nobody() -> None:
    """A paused owner's word is refused by the store, so it is never heard; the new owner's is."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        await anna.send({"say": "old"})
        await asyncio.sleep(0.001)  # The turn has run, and its commit is on its way.
        former = await kit.pause()
        assert "resync" in await bert.frame()
        await bert.send({"say": "new"})
        assert await bert.message() == {"word": "new", "count": 1}
        former.process.resume()
        await kit.advance(10_000)
        frames = [await anna.frame() for _ in range(anna.waiting())]
        assert [{"word": "new", "count": 1}] == [frame["message"] for frame in frames if "message" in frame]
        assert "message" not in frames[-1]
        assert ["new"] == kit.stored(hall(kit))["words"]
        assert 0 == sum("message" in frame for frame in [await bert.frame() for _ in range(bert.waiting())])

    run_with_kit(scenario, kinds=[Hall])


def test_the_death_of_the_ingress_ends_its_sockets() -> None:
    """`kill -9` of the one node there is: the client sees 1006 and connects again."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        await kit.kill()
        assert Close(1006) == anna.closed
        with pytest.raises(ConnectionError):
            await anna.frame()
        assert 0 == await hall(kit).tagged("")

    run_with_kit(scenario, kinds=[Hall])


def test_a_store_that_is_away_closes_no_socket_and_a_frame_waits_for_it() -> None:
    """Longer than a lease: the shards close, the sockets stay, and the frame counts once it is back."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        kit.faults.away = True
        await asyncio.sleep(8)
        await anna.send({"say": "a"})
        await asyncio.sleep(1)
        kit.faults.away = False
        while "message" not in (frame := await anna.frame()):
            assert "resync" in frame
        assert frame["message"] == {"word": "a", "count": 1}
        assert anna.closed is None

    run_with_kit(scenario, kinds=[Hall])


def test_a_frame_that_nobody_takes_is_refused_in_ten_seconds() -> None:
    """It had no effect, and says when to try again."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        kit.faults.away = True
        await asyncio.sleep(8)
        await anna.send({"say": "a"})
        while "refused" not in (frame := await anna.frame()):
            assert "resync" in frame
        assert ("unavailable", True) == (frame["refused"]["code"], frame["refused"]["retry_after_ms"] > 0)
        kit.faults.away = False

    run_with_kit(scenario, kinds=[Hall])


def test_a_store_that_went_back_in_time_is_told_to_every_client() -> None:
    """They have seen what is stored no more."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        before = kit.store.snapshot()
        await anna.send({"say": "a"})
        assert await anna.message() == {"word": "a", "count": 1}
        kit.store.restore(before)
        with pytest.raises(CommitFailedError):
            await hall(kit).ring()  # A turn that says nothing to anybody.
        assert await anna.frame() == {"resync": {"after": 2, "received": 1}}

    run_with_kit(scenario, kinds=[Hall])


def test_an_object_can_refuse_a_socket_before_it_is_open() -> None:
    """A declared error of `on_socket_open` is the answer; nothing of it stays."""

    async def scenario(kit: Kit) -> None:
        with pytest.raises(SilenceError):
            await kit.connect(hall(kit), attachment="stranger")
        assert (0, 0) == (await hall(kit).tagged(""), kit.ingress.open_sockets)

    run_with_kit(scenario, kinds=[Hall])


def test_a_socket_hears_nothing_before_its_opening_and_everything_after() -> None:
    """Words of turns before the opening are in what it is told at first; those after come one by one."""

    async def scenario(kit: Kit) -> None:
        words = [kit.node.run(kit.node.host.call(hall(kit)._address, Hall.add, str(word))) for word in range(20)]
        loop = asyncio.get_running_loop()
        adding = [loop.create_task(word) for word in words[:10]]
        opening = loop.create_task(kit.connect(hall(kit)))
        await asyncio.sleep(0)
        adding += [loop.create_task(word) for word in words[10:]]
        await asyncio.gather(*adding)
        client = await opening
        known = len((await client.message())["words"])
        assert list(range(known + 1, 21)) == [(await client.message())["count"] for _ in range(20 - known)]

    run_with_kit(scenario, kinds=[Hall])


def test_the_object_hears_of_a_socket_that_has_left() -> None:
    """With its code; it is none of the others any more."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        await bert.close(1001)
        assert await anna.message() == {"left": 1001}
        assert (1001, 1) == (await hall(kit).closed(), await hall(kit).tagged(""))

    run_with_kit(scenario, kinds=[Hall])


def test_an_object_closes_a_socket_after_what_it_said() -> None:
    """The farewell comes first, then the close with its code and reason."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        await anna.send({"say": "leave"})
        assert "farewell" == await anna.message()
        with pytest.raises(ConnectionError):
            await anna.frame()
        assert Close(4000, "as you wish") == anna.closed
        await kit.advance(10)
        assert 4000 == await hall(kit).closed()

    run_with_kit(scenario, kinds=[Hall])


def test_sockets_are_found_by_their_tags() -> None:
    """Of two, the one that has it gets the message."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit, tags=("speaker",)), await entered(kit)
        assert 1 == await hall(kit).tagged("speaker")
        assert "tagged" == await anna.message()
        await kit.advance(10)
        assert 0 == bert.waiting()

    run_with_kit(scenario, kinds=[Hall])


def test_a_slow_reader_is_cut_off_and_delays_nobody() -> None:
    """W-04: its queue is full at 1 MiB, it is closed with 1013, and the others hear everything at once."""

    async def scenario(kit: Kit) -> None:
        anna, bert = await entered(kit), await entered(kit)
        bert.reading = False
        await kit.advance(1)
        for _ in range(20):
            await hall(kit).shout(100_000)
        assert 20 == len([await anna.message(within_ms=100) for _ in range(20)])
        assert kit.ingress.queued_bytes <= bounds.SOCKET_QUEUE_BYTES_MAX
        bert.reading = True
        await kit.advance(10)
        assert bert.closed is not None
        assert 1013 == bert.closed.code
        assert 0 == kit.ingress.queued_bytes

    run_with_kit(scenario, kinds=[Hall])


def test_a_thousand_slow_readers_cost_no_more_than_the_node_has_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: together they are held to a bound of the node, here of 2 MiB; those over it are cut off."""
    monkeypatch.setattr(bounds, "SOCKETS_QUEUED_BYTES_MAX", 2 * 1024 * 1024)

    async def scenario(kit: Kit) -> None:
        clients = [await entered(kit) for _ in range(50)]
        for client in clients:
            client.reading = False
        await kit.advance(1)
        for _ in range(5):
            await hall(kit).shout(50_000)
            assert kit.ingress.queued_bytes <= 2 * 1024 * 1024
        assert 0 < sum(client._wire.end.done() for client in clients) < 50

    run_with_kit(scenario, kinds=[Hall])


def test_an_idle_socket_is_closed_in_a_minute_and_a_half() -> None:
    """Nothing came from it, so nobody knows whether it is there."""

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        anna.pings = False
        await kit.advance(89_000)
        before = anna.closed
        await kit.advance(2_000)
        assert (None, Close(4408, "Say ping within 90 s")) == (before, anna.closed)

    run_with_kit(scenario, kinds=[Hall])


def test_a_message_or_a_turn_of_messages_over_its_bound_is_refused_where_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The turn fails with `TooLargeError`, and nobody hears anything of it."""
    monkeypatch.setattr(bounds, "SOCKET_TURN_OUTPUTS_MAX", 1)

    async def scenario(kit: Kit) -> None:
        anna = await entered(kit)
        with pytest.raises(TooLargeError):
            await hall(kit).shout(bounds.SOCKET_MESSAGE_BYTES_MAX)
        await entered(kit)
        with pytest.raises(TooLargeError):
            await hall(kit).shout(1)
        await kit.advance(10)
        assert 0 == anna.waiting()

    run_with_kit(scenario, kinds=[Hall])


class Checked(DurableObject):
    """A kind that cannot take sockets, as its answers leave ahead of the store."""

    kind = "checked"
    durability = "checkpointed"

    def on_socket_message(self, socket: Socket, message: Word) -> None: ...


def test_only_committed_kinds_take_sockets() -> None:
    """A message must not be heard before it is stored."""

    async def scenario(kit: Kit) -> None: ...

    with pytest.raises(AssertionError, match="must be committed"):
        run_with_kit(scenario, kinds=[Checked])


def test_sockets_are_spoken_to_in_a_turn_alone() -> None:
    """Anywhere else there is no commit that a message could wait for."""
    held: list[Hall] = []

    class Leaky(Hall):
        kind = "leaky"

        def add(self, word: str) -> None:
            held.append(self)

    async def scenario(kit: Kit) -> None:
        await kit.at(Leaky, "acme", "one").add("a")
        with pytest.raises(TypeError, match="in a turn"):
            held[0].sockets.send("late")

    run_with_kit(scenario, kinds=[Leaky])
