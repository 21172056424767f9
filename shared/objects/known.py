"""What a node knows of messages that nobody has received yet: how many, of whom, and who has more of them in the store.

A receiver may have a sixteenth of what room is left. So one that takes nothing cannot fill the memory of a node, a
thousand of them leave room too, and whoever comes next is always heard of. What is past its share is passed over and
remembered as a place in the outbox of its shard: from there on it is read again once most of the rest is settled.
"""

from shared import bounds
from shared.objects.lines import Post

Behind = tuple[Post, bytes]
"""A receiver, and where messages to it are that were passed over."""


class Known:
    """Counts of one node. `total` is for looking only."""

    __slots__ = ("_of", "_passed", "due", "total")

    def __init__(self) -> None:
        self.total = 0
        """Messages that are known and not settled."""
        self.due: dict[Behind, None] = {}
        """Who has room again for what was passed over, oldest first."""
        self._of: dict[bytes, int] = {}
        self._passed: dict[bytes, set[Post]] = {}

    def take(self, post: Post, receiver: bytes, number: int) -> bool:
        """Count a message that was read; False: there is no room, it is passed over with all that follow it."""
        if self._of.get(receiver, 0) >= self._share():
            post.passed[receiver] = number
            self._passed.setdefault(receiver, set()).add(post)
            return False
        self.total += 1
        self._of[receiver] = self._of.get(receiver, 0) + 1
        post.held[receiver] = post.held.get(receiver, 0) + 1
        return True

    def settled(self, post: Post, receiver: bytes, messages: int) -> None:
        """So many messages are settled, or the business of others."""
        left = post.held[receiver] - messages
        if left:
            post.held[receiver] = left
        else:
            del post.held[receiver]
        self._forget(receiver, messages)

    def caught_up(self, post: Post, receiver: bytes) -> None:
        """Nothing to this receiver is passed over in that outbox any more."""
        del post.passed[receiver]
        self.due.pop((post, receiver), None)
        self._passed[receiver].discard(post)
        if not self._passed[receiver]:
            del self._passed[receiver]

    def close(self, post: Post) -> None:
        """The outbox is read by others, or anew."""
        for receiver in list(post.passed):
            self.caught_up(post, receiver)
        for receiver, messages in post.held.items():
            self._forget(receiver, messages)
        post.held.clear()

    def _forget(self, receiver: bytes, messages: int) -> None:
        self.total -= messages
        left = self._of[receiver] - messages
        if left:
            self._of[receiver] = left
        else:
            del self._of[receiver]
        if receiver in self._passed and left * 2 <= self._share():
            self.due.update(((post, receiver), None) for post in self._passed[receiver])

    def _share(self) -> int:
        return max(1, (bounds.MESSAGES_KNOWN_MAX - self.total) // bounds.RECEIVER_KNOWN_PART)
