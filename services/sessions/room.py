"""A room: one document that several people change at once, and who of them is there.

The owner puts patches into one order and gives each a number, `seq`. A patch is a JSON merge patch (RFC 7396); one that
was made on an older state is applied all the same, so of two changes of one member the later counts, and changes of
different members both do. The sender hears `ack` and the others `patched`, both after the commit. Cursors and presence
are told and never stored. Who comes back within 1,000 patches gets those that it missed, and else the document.

    to the room      {"type": "patch", "base_seq": 7, "merge_patch": {...}, "id": "mine"}
                     {"type": "sync", "after": 7, "id": "mine"}
                     {"type": "cursor", "cursor": ...}   {"type": "presence", "presence": ...}
    from the room    hello, members, ack, patched, missed, joined, left, cursor, presence

Who comes in hears `hello`, with the document, and `members`, with the others; who says `sync` hears `missed` and
`members`. Frames of one socket are answered in their order. The session manager hosts rooms, at paths of their own
(`services.sessions.routes.rooms`).

Source: RFC 7396 (merge patch).
"""

from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from services.sessions.bounds import DAY_MS
from services.sessions.merge_patch import merged
from shared import bounds
from shared.objects.changes import check_size
from shared.objects.errors import DomainError
from shared.objects.handler import DurableObject, readonly
from shared.objects.sockets import Socket

DOCUMENT_BYTES_MAX = 256 * 1024  # Twice as much would be more than one message, and than a page wants to draw.
MEMBER_BYTES_MAX = 120 * 1024  # One value of the store, which each change of a member writes anew.
MEMBERS_MAX = 200  # People who see each other's cursors; each is told of each.
HISTORY_PATCHES = 1_000
HISTORY_SLACK = 100  # Trimmed that seldom.
HISTORY_PATCH_BYTES_MAX = 4 * 1024  # A larger one is not kept: who missed it gets the document.
PRESENCE_BYTES_MAX = 1024
PATCH_MEMBERS_MAX = bounds.TURN_KEYS_MAX - 1  # Each is a key of the turn, and one is the size of the document.
NAME_LENGTH_MAX = 64  # Of a member: it stands at a cursor.
KEEP_MS = 30 * DAY_MS  # Behind the last patch; then the room is empty again.
_MEMBER = "m/"
_HEAD = "head"
assert (HISTORY_PATCHES + HISTORY_SLACK) * (HISTORY_PATCH_BYTES_MAX + 512) < bounds.JOURNAL_BYTES_MAX
assert DOCUMENT_BYTES_MAX + HISTORY_SLACK * 512 <= bounds.SOCKET_MESSAGE_BYTES_MAX
assert MEMBERS_MAX * (PRESENCE_BYTES_MAX + 6 * NAME_LENGTH_MAX + 128) <= bounds.SOCKET_MESSAGE_BYTES_MAX
assert MEMBER_BYTES_MAX < bounds.VALUE_BYTES_MAX


class RoomFullError(DomainError):
    """200 people are in the room."""

    code: ClassVar[str] = "room_full"


class DocumentTooLargeError(DomainError):
    """The document would have over 256 KiB, or a member of it over 120 KiB. Nothing was changed."""

    code: ClassVar[str] = "document_too_large"

    def __init__(self, what: str, size_max: int) -> None:
        super().__init__(f"{what} would have more than {size_max} bytes.")
        self.size_max = size_max


class StaleDocumentError(DomainError):
    """The document has another number than the one that was named. Nothing was changed."""

    code: ClassVar[str] = "precondition_failed"

    def __init__(self, seq: int) -> None:
        super().__init__(f"The last patch of the document is {seq}.")


class BadPatchError(DomainError):
    """The patch is no object, is nested too deeply, or was made on a state that there never was."""

    code: ClassVar[str] = "bad_patch"


class Patch(Struct, frozen=True, tag_field="type", tag="patch", forbid_unknown_fields=True):
    """Change the document. `id` comes back with the `ack`."""

    base_seq: int
    merge_patch: dict[str, Any]
    id: str = ""


class Cursor(Struct, frozen=True, tag_field="type", tag="cursor", forbid_unknown_fields=True):
    """Where the sender is; null: nowhere."""

    cursor: Any


class PresenceFrame(Struct, frozen=True, tag_field="type", tag="presence", forbid_unknown_fields=True):
    """What the sender does; remembered with its socket."""

    presence: Any


class Sync(Struct, frozen=True, tag_field="type", tag="sync", forbid_unknown_fields=True):
    """Tell what was missed behind `after`. `id` comes back with `missed`."""

    after: int = -1
    id: str = ""


class Member(Struct, frozen=True):
    """Somebody in the room. `name` is what the application said when it asked for the ticket."""

    id: str
    name: str
    presence: Any = None


class Person(Struct, frozen=True):
    """What a socket of a room remembers."""

    name: str = ""
    presence: Any = None


class Document(Struct, frozen=True):
    """The document, and the number of the last patch that it has."""

    seq: int
    document: dict[str, Any]


class Room(DurableObject):
    """See the module."""

    kind = "room"

    # What people see.

    def on_socket_open(self, socket: Socket) -> None:
        """Let somebody in, unless the room is full."""
        if len(self.sockets.all()) > MEMBERS_MAX:
            raise RoomFullError(f"{MEMBERS_MAX} people are here.")
        now = self.document()
        socket.send({"type": "hello", "you": socket.id, "seq": now.seq, "document": now.document})
        self._tell_members(socket)
        self.sockets.send({"type": "joined", "member": _member(socket)}, but=socket)

    async def on_socket_message(self, socket: Socket, message: Patch | Cursor | PresenceFrame | Sync) -> None:
        """One frame of somebody."""
        match message:
            case Patch():
                seq = self._apply(message.merge_patch, message.base_seq, socket)
                socket.send({"type": "ack", "seq": seq, "id": message.id})
            case Cursor():
                _check_presence(message.cursor)
                self.sockets.send({"type": "cursor", "by": socket.id, "cursor": message.cursor}, but=socket)
            case PresenceFrame():
                _check_presence(message.presence)
                socket.attach(Person(_person(socket).name, message.presence))
                self.sockets.send({"type": "presence", "by": socket.id, "presence": message.presence}, but=socket)
            case Sync():
                missed = await self._missed(message.after)
                socket.send({"type": "missed", "id": message.id, **missed})
                self._tell_members(socket)

    def on_socket_close(self, socket: Socket, code: int) -> None:  # noqa: ARG002 - all have left alike.
        """Somebody has left."""
        self.sockets.send({"type": "left", "id": socket.id})

    # What programs see.

    @readonly
    def document(self) -> Document:
        """The document as it is stored."""
        members = self.storage.list(_MEMBER)
        found = {
            key.removeprefix(_MEMBER): msgspec.json.decode(self.storage.get(key, bytes) or b"null") for key in members
        }
        return Document(self.journal.last, found)

    def patch(self, merge_patch: dict[str, Any], expected: int | None = None) -> int:
        """Change the document, as a member would, if its last patch is `expected` (None: any); the number of the patch.

        Raises:
            StaleDocumentError: its last patch is another.
            BadPatchError, DocumentTooLargeError: it cannot be changed like that.
        """
        last = self.journal.last
        if expected is not None and expected != last:
            raise StaleDocumentError(last)
        return self._apply(merge_patch, last, None)

    @readonly
    def members(self) -> list[Member]:
        """Who is there."""
        return [_member(socket) for socket in self.sockets.all()]

    def _tell_members(self, socket: Socket) -> None:
        """A message of its own: a large document and 200 people are more than one may be."""
        others = [_member(other) for other in self.sockets.all() if other != socket]
        socket.send({"type": "members", "members": others})

    def _apply(self, merge_patch: dict[str, Any], base_seq: int, sender: Socket | None) -> int:
        if not 0 <= base_seq <= self.journal.last:
            raise BadPatchError(f"There is no state {base_seq}: the last is {self.journal.last}.")
        self._write(merge_patch)
        encoded = msgspec.json.encode(merge_patch)
        seq = self.journal.append(encoded if len(encoded) <= HISTORY_PATCH_BYTES_MAX else b"")
        if len(self.journal) >= HISTORY_PATCHES + HISTORY_SLACK:
            self.journal.trim(keep=HISTORY_PATCHES)
        self.storage.expire_at(self.clock.now_ms() + KEEP_MS)
        by = "" if sender is None else sender.id
        self.sockets.send({"type": "patched", "seq": seq, "by": by, "merge_patch": merge_patch}, but=sender)
        return seq

    def _write(self, merge_patch: dict[str, Any]) -> None:
        """Merge member by member; what does not change is not written."""
        check_size("A patch", len(merge_patch), PATCH_MEMBERS_MAX, unit="members")
        size = self.storage.get(_HEAD, int, default=0)
        changed: dict[str, bytes | None] = {}
        for name, value in merge_patch.items():
            old = self.storage.get(_MEMBER + name, bytes)
            new = None if value is None else _merge(old, value)
            size += _size(name, new) - _size(name, old)
            changed[name] = new
        if any(new and len(new) > MEMBER_BYTES_MAX for new in changed.values()):
            raise DocumentTooLargeError("A member of the document", MEMBER_BYTES_MAX)
        if size > DOCUMENT_BYTES_MAX:
            raise DocumentTooLargeError("The document", DOCUMENT_BYTES_MAX)
        for name, new in changed.items():
            if new is None:
                self.storage.delete(_MEMBER + name)
            else:
                self.storage.put(_MEMBER + name, new)
        self.storage.put(_HEAD, size)

    async def _missed(self, after: int) -> dict[str, Any]:
        """The patches behind `after`, or the document where they are not all kept, or are more than it."""
        now = self.document()
        if self.journal.first - 1 <= after <= now.seq:
            entries = await self.journal.read(after, HISTORY_PATCHES + HISTORY_SLACK, type_=bytes)
            kept = [(entry.position, entry.value) for entry in entries]
            if all(patch for _, patch in kept) and sum(len(patch) for _, patch in kept) <= DOCUMENT_BYTES_MAX:
                patches = [{"seq": seq, "merge_patch": msgspec.json.decode(patch)} for seq, patch in kept]
                return {"seq": now.seq, "patches": patches}
        return {"seq": now.seq, "document": now.document}


def _merge(old: bytes | None, patch: Any) -> bytes:
    try:
        return msgspec.json.encode(merged(None if old is None else msgspec.json.decode(old), patch, depth=1))
    except ValueError as exc:
        raise BadPatchError(str(exc)) from exc


def _size(name: str, value: bytes | None) -> int:
    return 0 if value is None else len(name.encode()) + len(value) + 4  # Quotes, colon and comma.


def _check_presence(value: Any) -> None:
    check_size("What a member shows", len(msgspec.json.encode(value)), PRESENCE_BYTES_MAX)


def _person(socket: Socket) -> Person:
    person: Person = socket.attachment(Person | None) or Person()
    return person


def _member(socket: Socket) -> Member:
    person = _person(socket)
    return Member(socket.id, person.name, person.presence)
