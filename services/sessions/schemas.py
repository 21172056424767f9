"""What goes over the wire: requests are closed structs, decoded strictly; answers are open to new fields."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from services.sessions.bounds import LABEL_BYTES_MAX, METHODS_MAX, ROLES_MAX, USER_AGENT_LENGTH_MAX, WORD_BYTES_MAX
from services.sessions.policy import Policy
from services.sessions.records import Ended, Event, SessionView
from services.sessions.room import NAME_LENGTH_MAX
from services.sessions.session import Actor
from shared.bounds import NAME_BYTES_MAX
from shared.http.tickets import SessionRef

# Words stand in header fields, between commas.
Word = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*(?!\n)$",
        max_length=WORD_BYTES_MAX,
        description="1 to 64 letters, digits and '._:/@+-', beginning with a letter or digit",
    ),
]
Moment = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(max_length=LABEL_BYTES_MAX)]
Methods = Annotated[tuple[Word, ...], Meta(max_length=METHODS_MAX)]
Roles = Annotated[tuple[Word, ...], Meta(max_length=ROLES_MAX)]
TokenText = Annotated[str, Meta(max_length=1_024)]
Why = Literal["logout", "revoked"]


class ActorIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who acts in the principal's name, and why. Wants the scope `sessions:impersonate`."""

    sub: Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    reason: Annotated[str, Meta(min_length=1, max_length=256)]
    ticket: Annotated[str, Meta(max_length=128)] = ""


class Upgrade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An anonymous session that ends with this login, and which of its data the new one gets."""

    token: TokenText
    keep: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=64)] = ()


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user has signed in: how, from where, and what the application keeps with the session."""

    acr: Word = "aal1"
    amr: Methods = ()
    roles: Roles = ()
    auth_ms: Moment | None = None
    """When the user has authenticated, in Unix ms; now unless it is said."""
    client: Annotated[str, Meta(max_length=64)] = ""
    label: Label = ""
    address: Annotated[str, Meta(max_length=64)] = ""
    user_agent: Annotated[str, Meta(max_length=2_048, description=f"Cut at {USER_AGENT_LENGTH_MAX}.")] = ""
    data: dict[str, Any] = {}
    actor: ActorIn | None = None
    upgrade: Upgrade | None = None


class CreateAnonymous(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A visitor whom nobody knows yet."""

    client: Annotated[str, Meta(max_length=64)] = ""
    label: Label = ""
    address: Annotated[str, Meta(max_length=64)] = ""
    user_agent: Annotated[str, Meta(max_length=2_048)] = ""
    data: dict[str, Any] = {}


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A token, shown once, the cookie to hand it out with, and its session."""

    principal: str
    token: str
    set_cookie: str
    session: SessionView


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """A token that takes the place of another: in the body for whoever sent one, in `Set-Cookie` for the cookie."""

    principal: str
    token: str | None
    """null for a request with the cookie: no script is to have what the browser keeps from it."""
    set_cookie: str | None
    session: SessionView


class Authenticated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user has authenticated once more. `roles` stay where they are not said."""

    acr: Word
    amr: Methods
    roles: Roles | None = None
    at_ms: Moment | None = None


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions of a principal that count, oldest first."""

    sessions: tuple[SessionView, ...]


class OwnSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session of the user who asks; `current`: the one that they ask with."""

    current: bool
    session: SessionView


class OwnSessions(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions of the user who asks."""

    sessions: tuple[OwnSession, ...]


class RevokeMany(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End all sessions of a principal, or all but one."""

    except_session: Annotated[str, Meta(max_length=64)] = ""
    reason: Why = "revoked"


class RevokeOwn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End one session of the user who asks, the current one too, or all others."""

    session: Annotated[str, Meta(max_length=64)] = ""
    others: bool = False

    def __post_init__(self) -> None:
        if bool(self.session) == self.others:
            raise ValueError("Say either session or others")


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions ended with this call. None of their tokens counts any more."""

    revoked: int


class Cutoff(msgspec.Struct, frozen=True, kw_only=True):
    """All sessions of the tenant that began at `not_before_ms` or earlier are over."""

    not_before_ms: int


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """The policy in force; version 0: the defaults."""

    version: int
    policy: Policy


class IntrospectToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to be looked at."""

    token: TokenText


class Introspection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token stands for (RFC 7662); where it stands for nothing, `active` is all."""

    active: bool
    sub: str = ""
    sid: str = ""
    tenant: str = ""
    client_id: str = ""
    iat: int = 0
    exp: int = 0
    auth_time: int = 0
    acr: str = ""
    amr: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    act: Actor | None = None


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """What the header fields of the answer say, as JSON. Moments are Unix seconds."""

    principal: str
    anonymous: bool
    tenant: str
    session: str
    acr: str
    amr: tuple[str, ...]
    roles: tuple[str, ...]
    auth_time: int
    expires: int
    actor: str


class NumberedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a principal; numbers have no gaps."""

    seq: int
    event: Event


class ExportView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is held of a principal."""

    principal: str
    anonymous: bool
    created_ms: int
    disabled_ms: int
    erased_ms: int
    sessions: tuple[SessionView, ...]
    data: dict[str, Any]
    ended: tuple[Ended, ...]
    events: tuple[NumberedEvent, ...]


class EnterRoom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who comes into a room, and in whose session."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
    """What the others see of them."""
    session: SessionRef | None = None
    """The ticket and its socket end with this session, within a second, by the code 4401."""


class Patched(msgspec.Struct, frozen=True, kw_only=True):
    """The document was changed: the number of the patch, by which sockets of the room tell it."""

    seq: int
