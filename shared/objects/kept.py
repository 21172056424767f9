"""What an object keeps beside its state, and past its end: what it remembers (`once`), and what it sent (`messages`).

Made when an object first has any of it. What it remembers leaves by its own expiry alone, and what it sent
once it is delivered: neither `delete_all` nor the object's expiry takes it away.
"""

from collections.abc import Iterable

from shared.storage.interface import Entry, Loaded, ObjectWrite


class KeptChanges:
    """What a turn did, or several that wait for a commit together. An entry that is None is forgotten.

    `withdrawn` are messages that the store has, and none of `messages`.
    """

    __slots__ = ("entries", "messages", "withdrawn")

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry | None] = {}
        self.messages: dict[bytes, bytes] = {}
        self.withdrawn: set[bytes] = set()

    def join(self, later: "KeptChanges") -> None:
        """Take in the changes of a later turn."""
        self.entries |= later.entries
        self.messages |= later.messages
        self.withdrawn |= later.withdrawn

    def add_to(self, write: ObjectWrite) -> None:
        """Have a commit carry the changes."""
        for field, entry in self.entries.items():
            if entry is None:
                write.entry_removes.append(field)
            else:
                write.entries[field] = entry
        write.outbox_removes.extend(sorted(self.withdrawn))
        write.outbox_adds.update(self.messages)


class Kept:
    """What there is after all finished turns. `sent` is what a commit carries that is on its way."""

    __slots__ = ("entries", "outstanding", "sent")

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.outstanding: set[bytes] = set()
        """The ids of messages that nobody has received yet, dead letters among them."""
        self.sent: KeptChanges | None = None

    @classmethod
    def load(cls, loaded: Loaded) -> "Kept | None":
        """What the store has; None if that is nothing."""
        if not loaded.entries and not loaded.outbox:
            return None
        kept = cls()
        kept.entries = dict(loaded.entries)
        kept.outstanding = {message.message_id for message in loaded.outbox}
        return kept

    def merge(self, changes: KeptChanges) -> None:
        """Take in a finished turn."""
        for field, entry in changes.entries.items():
            if entry is None:
                self.entries.pop(field, None)
            else:
                self.entries[field] = entry
        self.delivered(changes.withdrawn)
        self.outstanding.update(changes.messages)

    def take(self, pending: KeptChanges | None) -> None:
        """A commit carries these changes."""
        if pending is not None:
            self.sent = self.sent or KeptChanges()
            self.sent.join(pending)

    def landed(self) -> None:
        """The store has all that was taken."""
        self.sent = None

    def rewritten(self, pending: KeptChanges | None) -> KeptChanges:
        """All that the store may not have, to be taken again."""
        everything = KeptChanges()
        everything.entries.update(self.entries)
        for changes in (self.sent, pending):
            if changes is not None:
                everything.messages |= changes.messages
                everything.withdrawn |= changes.withdrawn
        self.sent = None
        return everything

    def delivered(self, message_ids: Iterable[bytes]) -> None:
        """These messages have left the store."""
        self.outstanding.difference_update(message_ids)
