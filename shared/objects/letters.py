"""What an operator can see of messages that nobody has received yet, and do to those that nobody will deliver.

The store keeps no list of dead letters: they lie in the outboxes of their shards among what is under way, in the
order in which they were given up. A look goes through the shards one after another, so many messages at a time.
"""

from typing import NamedTuple, assert_never

from shared import bounds
from shared.errors import ConflictError, NotFoundError
from shared.objects import operations
from shared.objects.address import Address
from shared.objects.inspecting import Inspecting
from shared.objects.messages import new_message_id
from shared.objects.reports import MessageReport, MessageRow, MessageShown, message_report, message_row, message_shown


class Spot(NamedTuple):
    """Where a listing goes on: behind the message of that number in the outbox of a shard."""

    shard: int
    number: int


class Letters(Inspecting):
    """The messages of one service that are in an outbox."""

    # Looking.

    async def sent(self, address: Address) -> list[MessageReport]:
        """What an object has sent and nobody has received yet, oldest first; a dead letter is as old as its death.

        Raises:
            NotFoundError: there is no such kind.
            UnavailableError: this node does not own the object.
        """
        loaded = await self._load(address, self._kind(address), self._shard(address))
        return [message_report(sent) for sent in loaded.outbox]

    async def show(self, address: Address, message_id: bytes) -> MessageShown:
        """A message that an object has sent and nobody has received yet, with what it says.

        Raises:
            NotFoundError: the object has no such message, or there is no such kind.
            UnavailableError: this node does not own the object.
        """
        loaded = await self._load(address, self._kind(address), self._shard(address))
        for sent in loaded.outbox:
            if sent.message_id == message_id:
                return message_shown(sent)
        raise _absent(address, message_id)

    async def dead(self, *, after: Spot | None, limit: int) -> tuple[list[MessageRow], Spot | None]:
        """Dead letters of all objects, and messages that cannot be read; and where the next page begins, if any.

        A page can have fewer rows than `limit`, even none, and yet a next one: it looks at so many messages at most.
        """
        spot, found, looked = after or Spot(0, 0), [], 0
        places = [(shard, spot.number if shard == spot.shard else 0) for shard in self._numbers if shard >= spot.shard]
        heads = await self._store.outbox(places, rows=1) if places else []
        for (shard, number), _ in [(place, head) for place, head in zip(places, heads, strict=True) if head]:
            spot, full = Spot(shard, number), True
            while full:
                (rows,) = await self._store.outbox([spot], rows=bounds.MESSAGE_ROWS)
                full = len(rows) == bounds.MESSAGE_ROWS
                for row in rows:
                    spot = Spot(shard, row.sent.number)
                    report = message_row(row)
                    if report is not None:
                        found.append(report)
                    if len(found) == limit:
                        return found, spot
                looked += len(rows)
                if looked >= bounds.LETTER_SCAN_ROWS:
                    return found, spot
        return found, None

    # Doing.

    async def resend(self, address: Address, message_id: bytes) -> bytes:
        """Send a dead letter again; returns the id of the new message.

        Raises:
            NotFoundError: the object has no such message, or there is no such kind.
            ConflictError: it is not dead, or another release wrote it.
        """
        self._kind(address)
        new_id = new_message_id()
        outcome = await self._run(address, operations.resend_message, message_id, new_id)
        _check_settled(outcome, address, message_id)
        return new_id

    async def drop(self, address: Address, message_id: bytes) -> None:
        """Forget a dead letter, or a message that this release cannot read.

        Raises:
            NotFoundError: the object has no such message, or there is no such kind.
            ConflictError: it is not dead.
        """
        self._kind(address)
        _check_settled(await self._run(address, operations.drop_message, message_id), address, message_id)


def _check_settled(outcome: operations.Settled, address: Address, message_id: bytes) -> None:
    match outcome:
        case "absent":
            raise _absent(address, message_id)
        case "alive":
            raise ConflictError("The message is not dead: it will be delivered, or given up.")
        case "unreadable":
            raise ConflictError("Another release wrote the message: this one cannot send it again, only drop it.")
        case "done":
            return
    assert_never(outcome)


def _absent(address: Address, message_id: bytes) -> NotFoundError:
    return NotFoundError(f"message {message_id.hex()} of {address}")
