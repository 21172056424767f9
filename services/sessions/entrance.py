"""How somebody gets into a room: with a ticket that the application has asked for, or, for programs, with its key.

A ticket says who comes in, and may say in whose session: its socket ends with that session, as it does with the key.
"""

from services.sessions.paths import ROOMS
from services.sessions.room import Person, Room
from services.sessions.schemas import EnterRoom
from shared.http.auth import Credential, KeyRing
from shared.http.decoding import strict_decoder
from shared.http.sockets import FindRoute, SocketRoute
from shared.http.tickets import Bind, SocketGrant, Ticket, issue
from shared.objects.address import Address
from shared.objects.host import Host
from shared.objects.published import published
from shared.objects.tickets import Tickets

JOIN = "rooms:join"
"""The scope that a key needs to open a socket of a room, or to let somebody else do so."""
_SOCKET = b"socket"


def room_address(tenant: str, room: str) -> Address:
    """The object of a room."""
    return Address(Room.kind, tenant, room)


class Entrance:
    """Makes the tickets of one node."""

    def __init__(self, tickets: Tickets, keys: KeyRing, bind: Bind) -> None:
        self._tickets, self._keys, self._bind = tickets, keys, bind

    async def ticket(self, credential: Credential, room: str, asked: EnterRoom) -> Ticket:
        """A ticket for one socket of a room, for 30 s and once.

        Raises:
            UnknownSessionError, SessionEndedError: there is no such session.
            OverloadedError: the tenant has 20,000 tickets out.
            TenureError: as `Host.call`.
        """
        counts = None if asked.session is None else await self._bind(credential.tenant, asked.session)

        def valid() -> bool:
            return self._keys.stands(credential) and (counts is None or counts())

        grant = SocketGrant(attachment=Person(asked.name))
        return issue(self._tickets, room_address(credential.tenant, room), grant, valid)


def room_sockets(host: Host) -> FindRoute:
    """Finds `/v1/rooms/{room}/socket`."""
    kind, decode, rooms = host.kind(Room.kind), strict_decoder(published(Room).message), ROOMS.encode()
    assert kind is not None, "the service hosts rooms"

    def find(path: bytes) -> SocketRoute | None:
        segments = path.removeprefix(rooms).split(b"/")
        if not path.startswith(rooms) or len(segments) != 2 or segments[1] != _SOCKET:
            return None
        return SocketRoute(kind, segments[0], decode, JOIN, "room")

    return find
