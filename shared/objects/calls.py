"""Calls from one object to another: `await self.objects.at(Account, tenant, "42").debit(5)`.

The chain of objects that wait for each other travels along, so a call that would wait for itself
fails at once and names the cycle. It is a chain of activations and not of names: a caller that has left
memory is known as such, though its successor has taken its name.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from shared.objects.address import Address
from shared.objects.handler import DurableObject
from shared.objects.listings import Cursor, Page

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.host import Host

current_chain: ContextVar[tuple["Activation", ...]] = ContextVar("current_chain", default=())
"""The objects whose turns wait for the code that runs now, outermost first."""


class ObjectCalls:
    """The way from a handler to other objects."""

    __slots__ = ("_host",)

    def __init__(self, host: "Host") -> None:
        self._host = host

    def at(self, kind: type[DurableObject], tenant: str, name: str) -> Any:
        """A stub of the object: its handlers as coroutine functions, wherever the object lives."""
        return _Stub(self._host, kind, Address(kind.kind, tenant, name))

    async def find(
        self,
        kind: type[DurableObject],
        tenant: str,
        name: str,
        value: str,
        *,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page:
        """Objects of `kind` by their rows in an index: see `Listings.find`.

        From within a turn, earlier turns of the object are stored first: it finds what they wrote, not its own writes.
        """
        await self._host.store_earlier_turns()
        return await self._host.listings.find(kind, tenant, name, value, after=after, limit=limit)

    async def count(self, kind: type[DurableObject], tenant: str, name: str, value: str) -> int:
        """How many objects of `kind` have `value` in an index; the rest as `find`."""
        await self._host.store_earlier_turns()
        return await self._host.listings.count(kind, tenant, name, value)


class _Stub:
    __slots__ = ("_address", "_host", "_kind")

    def __init__(self, host: "Host", kind: type[DurableObject], address: Address) -> None:
        self._host, self._kind, self._address = host, kind, address

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._kind, name)

        async def call(*args: Any) -> Any:
            return await self._host.call_from_turn(self._address, method, *args)

        return call
