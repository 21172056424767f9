"""The sockets of a host's objects, mirrored from their ingresses, and the gate that what turns say to them passes.

What a turn says is held as its reply is: until everything that it could have seen is confirmed. If that fails, or
nobody knows, each ingress is told that something may be missing, and tells the client.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from shared.objects.activation import Activation, Call
from shared.objects.address import Address
from shared.objects.errors import UnavailableError
from shared.objects.sockets import Attach, Attached, Outgoing, Output, Sender

if TYPE_CHECKING:
    from shared.objects.host import Host


class _Held(Call):
    """Outputs behind the gate; they take the place of a call, and leave or fail as its reply would."""

    __slots__ = ("_outputs", "_sender")

    def __init__(self, sender: Sender, outputs: list[tuple[Attached, Output]]) -> None:
        super().__init__(_nothing, (), future=asyncio.get_running_loop().create_future(), arrived_ms=0)
        self._sender = sender
        self._outputs = outputs

    def reply(self, _: Any) -> None:
        """The commit that they depend on is confirmed."""
        for entry, output in self._outputs:
            entry.hand(self._sender, output)

    def fail(self, _: BaseException) -> None:
        """They are not to be seen, or nobody knows whether they are."""
        for entry in dict.fromkeys(entry for entry, _ in self._outputs):
            entry.outlet.lost(entry.id)


class Mirror:
    """The sockets of all objects of one host, by object; what is recorded of them is recorded at their ingresses."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._by_address: dict[Address, dict[str, Attached]] = {}
        self._activations = 0

    def attach(self, entry: Attached) -> None:
        """A socket is there. Also when its object has a new owner, which has not heard of it."""
        self._by_address.setdefault(entry.address, {})[entry.id] = entry

    def detach(self, address: Address, socket_id: str) -> None:
        """A socket has left; unknown ones are no error."""
        entries = self._by_address.get(address, {})
        entries.pop(socket_id, None)
        if not entries:
            self._by_address.pop(address, None)

    def of(self, address: Address) -> dict[str, Attached]:
        """The sockets of an object by id, in the order in which they came."""
        return self._by_address.get(address, {})

    def entry(self, address: Address, socket_id: str) -> Attached:
        """One socket.

        Raises:
            UnavailableError: this node has not heard of it yet.
        """
        entry = self.of(address).get(socket_id)
        if entry is None:
            raise UnavailableError("The socket is not known here yet", retry_after_ms=1)
        return entry

    def outgoing(self, address: Address) -> Outgoing:
        """Where the running turn of an object puts what it says.

        Raises:
            TypeError: no turn of it runs.
        """
        activation = self._host.residents.by_address.get(address)
        if activation is None or activation.running is None:
            raise TypeError("sockets are spoken to in a turn")
        activation.outgoing = activation.outgoing or Outgoing()
        return activation.outgoing

    def said(self, address: Address) -> Outgoing | None:
        """What the running turn of an object has said so far, if anything."""
        activation = self._host.residents.by_address.get(address)
        return None if activation is None else activation.outgoing

    def let_out(self, activation: Activation) -> None:
        """The turn has ended well, or splits: what it said leaves with what it wrote."""
        outgoing, activation.outgoing = activation.outgoing, None
        assert outgoing is not None
        for entry, output in outgoing.outputs:
            if isinstance(output, Attach):
                entry.attachment = output.attachment
        held = _Held(self._sender(activation), outgoing.outputs)
        if activation.written > activation.confirmed:
            activation.gate(held, None, None)
        elif self._host.store_clock.monotonic_ms() < activation.shard.valid_until_ms:
            held.reply(None)
        else:  # It rests on the lease alone, and that has ended.
            held.fail(UnavailableError("the lease ended during the turn"))

    def unclean(self, address: Address) -> None:
        """The object has left memory, and not in good order: clients may know more, or less, than is stored."""
        for entry in self.of(address).values():
            entry.attachment = entry.outlet.attachment(entry.id)
            entry.outlet.lost(entry.id)

    def _sender(self, activation: Activation) -> Sender:
        if activation.sender is None:
            self._activations += 1
            activation.sender = (activation.shard.fence.epoch, self._activations)
        return activation.sender


def _nothing() -> None:
    """Held outputs run nothing."""
