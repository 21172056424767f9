"""What a worker shows to say which task it has, and by which lease: one opaque token.

It names the queue, the run, the step and the attempt, so that an answer finds its way without a search; and a secret of
the lease, so that nobody can make one up, or answer another step with the one that they have.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from services.workflows.refusals import UnknownSerialError

_PREFIX = "tsk_"


class Lease(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One lease of one task: its number in its queue, which attempt of which run it is, which lease, and a secret."""

    number: int
    run: str
    serial: int
    nth: int
    secret: bytes


class Ticket(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A task of a worker. `path` is that of its step.

    `watched`: the step has a heartbeat, so that the run itself wants to hear that the worker lives.
    """

    queue: str
    path: str
    lease: Lease
    watched: bool = False

    @property
    def run(self) -> str:
        """The run that waits for it."""
        return self.lease.run

    @property
    def serial(self) -> int:
        """Which attempt of the step it is."""
        return self.lease.serial


def token_of(ticket: Ticket) -> str:
    """The token, of letters, digits, hyphens and underscores."""
    return _PREFIX + urlsafe_b64encode(msgspec.msgpack.encode(ticket)).rstrip(b"=").decode()


def ticket_of(token: str) -> Ticket:
    """The ticket whose token it is.

    Raises:
        UnknownSerialError: it is no token.
    """
    encoded = token.removeprefix(_PREFIX).encode(errors="replace")
    try:
        return msgspec.msgpack.decode(urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)), type=Ticket)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UnknownSerialError("such task") from error
