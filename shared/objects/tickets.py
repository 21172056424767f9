"""Tickets: what a page shows in place of a key to open a socket. Each opens one socket, once, within 30 s.

An application that has authenticated its user asks for one with its own API key, and says what the socket is to
remember of that user; the page never sees the key. Kept as digests, in the memory of the node alone: one that is lost
with its node is asked for again.

Source: OWASP ASVS 5.0 V4.4.3 (dedicated tokens for WebSockets).
"""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from shared import bounds
from shared.clock import Clock
from shared.objects.address import Address
from shared.objects.errors import OverloadedError

_SECRET_BYTES = 32


def _always() -> bool:
    return True


class Grant(NamedTuple):
    """What a ticket, or a key, opens."""

    address: Address
    tags: tuple[str, ...] = ()
    attachment: bytes = b"null"
    """JSON."""
    valid: Callable[[], bool] = _always
    """Whether what it rests on still counts; asked for as long as the socket is open."""


class Tickets:
    """The tickets of one node that can still be used, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: OrderedDict[bytes, tuple[int, Grant]] = OrderedDict()
        self._by_tenant: Counter[str] = Counter()

    def issue(self, grant: Grant) -> str:
        """A new ticket.

        Raises:
            OverloadedError: the tenant has 20,000 that were neither used nor have expired.
        """
        self._expire()
        tenant = grant.address.tenant
        if self._by_tenant[tenant] >= bounds.TICKETS_PER_TENANT_MAX:
            raise OverloadedError("Too many tickets are out", retry_after_ms=bounds.RETRY_AFTER_MS)
        ticket = secrets.token_urlsafe(_SECRET_BYTES)
        self._grants[_digest(ticket)] = (self._clock.monotonic_ms() + bounds.TICKET_MS, grant)
        self._by_tenant[tenant] += 1
        return ticket

    def redeem(self, ticket: str) -> Grant | None:
        """What it opens, this once; None: it is none, was used, or is too old."""
        self._expire()
        found = self._grants.pop(_digest(ticket), None)
        if found is None:
            return None
        self._less(found[1])
        return found[1]

    def _expire(self) -> None:
        now_ms = self._clock.monotonic_ms()
        while self._grants and next(iter(self._grants.values()))[0] <= now_ms:
            _, (_, grant) = self._grants.popitem(last=False)
            self._less(grant)

    def _less(self, grant: Grant) -> None:
        tenant = grant.address.tenant
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode("utf-8", "surrogatepass")).digest()
