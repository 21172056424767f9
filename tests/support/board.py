"""A board of notes that tells every change to all who look at it, for proofs over real sockets."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from shared.objects.handler import DurableObject, public, readonly
from shared.objects.sockets import Socket

Text = Annotated[str, Meta(max_length=60_000)]


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client pins to the board."""

    text: Text


class Board(DurableObject):
    """Counts notes, and keeps the last."""

    kind = "board"

    def on_socket_open(self, socket: Socket) -> None:
        socket.send({"count": self.count(), "you": socket.attachment()})

    def on_socket_message(self, socket: Socket, message: Note) -> None:
        self.pin(message.text)

    def on_socket_close(self, socket: Socket, code: int) -> None:
        self.storage.put("closed", code)

    @public
    def pin(self, text: Text) -> int:
        """Pin a note; how many there were."""
        count = self.count() + 1
        self.storage.put_many({"count": count, "last": text})
        self.sockets.send({"text": text, "count": count})
        return count

    @public
    @readonly
    def count(self) -> int:
        """How many notes were pinned."""
        return self.storage.get("count", int, default=0)

    @public
    @readonly
    def closed(self) -> Any:
        """With what code the last socket left."""
        return self.storage.get("closed", int, default=0)
