"""How a running turn remembers and sends what outlives its object, and which keys it has touched.

For `shared.objects.once`, `shared.objects.messages` and `shared.objects.parking`; authors use those.
"""

from collections.abc import Collection, Container

from shared import bounds
from shared.objects.changes import check_size
from shared.objects.layers import Layers
from shared.storage.interface import Entry


class Keeping(Layers):
    """Layers, and what is kept of a turn beside the object's state."""

    __slots__ = ()

    def touched_keys(self) -> Container[str] | None:
        """The keys that the running turn has written; None for all of them."""
        overlay = self._overlay
        if overlay is None:
            return ()
        return None if overlay.clear else overlay.values.keys()

    def remembered(self, field: bytes) -> Entry | None:
        """What the object remembers under a field, be it expired or not, as the running turn sees it."""
        overlay = self._overlay
        if overlay is not None and overlay.kept is not None and field in overlay.kept.entries:
            return overlay.kept.entries[field]
        return None if self.kept is None else self.kept.entries.get(field)

    def has_room_to_remember(self, now_ms: int) -> bool:
        """Whether one more entry may be remembered, once those that have expired at `now_ms` are forgotten."""
        kept = self.kept
        full = kept is not None and len(kept.entries) >= bounds.ENTRIES_MAX
        return not full or bool(self._expired_entries(now_ms))

    def remember(self, field: bytes, entry: Entry, now_ms: int) -> None:
        """Remember something in the running turn; where there is no room, forget what has expired at `now_ms`."""
        entries = self._changes().of_kept().entries
        if self.kept is not None and len(self.kept.entries) >= bounds.ENTRIES_MAX:
            entries.update(dict.fromkeys(self._expired_entries(now_ms)))
        entries[field] = entry

    def post(self, message_id: bytes, message: bytes) -> None:
        """Send a message in the running turn; raises TooLargeError past the bounds of a turn and of the outbox."""
        changes = self._changes()
        sent = len(self.kept.outstanding) if self.kept else 0
        sent += len(changes.kept.messages) - len(changes.kept.withdrawn) if changes.kept else 0
        check_size("The object", sent + 1, bounds.MESSAGES_MAX, unit="messages that nobody has received")
        changes.post(message_id, message)

    def withdraw(self, message_id: bytes) -> None:
        """Have a message leave the outbox with the running turn; nobody delivers it, as it is dead."""
        self._changes().of_kept().withdrawn.add(message_id)

    def settled(self, message_ids: Collection[bytes], *, left: bool) -> None:
        """The store has what became of messages, be it that they have `left`: no later commit brings them back.

        One that would is what is stored anew because nobody knows whether an earlier commit has sent it.
        """
        sent = None if self.kept is None else self.kept.sent
        for changes in (sent, None if self._pending is None else self._pending.kept):
            if changes is not None:
                for message_id in message_ids:
                    changes.messages.pop(message_id, None)
        if self.kept is not None and left:
            self.kept.delivered(message_ids)

    def _expired_entries(self, now_ms: int) -> list[bytes]:
        entries = self.kept.entries if self.kept else {}
        return [field for field, entry in entries.items() if entry.expire_at_ms <= now_ms]
