"""What the routes of the service stand on: the desk, principals by name, and the tenant's documents."""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar.di import NamedDependency
from litestar.handlers.base import BaseRouteHandler
from litestar.params import Body, FromPath, HeaderParameter

from services.sessions.cookies import set_cookie
from services.sessions.cuts import Cuts
from services.sessions.desk import Desk, Grant
from services.sessions.directory import CUT, NAME, POLICY, Cut
from services.sessions.entrance import Entrance
from services.sessions.merge_patch import merged
from services.sessions.paths import name_in
from services.sessions.policy import Policy
from services.sessions.schemas import Granted, PolicyView
from shared.bounds import HANDLER_DEADLINE_MS
from shared.errors import InvalidInputError
from shared.http.arrival import arrival_of
from shared.http.auth import Caller, Connection
from shared.http.body import MERGE_PATCH
from shared.http.calls import AnyRequest, call_for
from shared.http.errors import UnsupportedMediaTypeError
from shared.objects.address import Address
from shared.objects.config import Documents
from shared.objects.host import Host

MergePatch: TypeAlias = Annotated[dict[str, Any], Body(media_type=MERGE_PATCH.decode())]
"""The body of a PATCH, once `check_merge_patch` has passed."""
IfMatch: TypeAlias = Annotated[
    str | None, HeaderParameter(name="If-Match", description='The version to replace, like "v3".')
]


class Front:
    """One for a node."""

    def __init__(self, desk: Desk, host: Host, documents: Documents, cuts: Cuts) -> None:
        self.desk = desk
        self.host = host
        self.cuts = cuts
        self._documents = documents

    async def call(
        self,
        request: AnyRequest,
        address: Address,
        method: Callable[..., Any],
        *args: Any,
        patience_ms: int = HANDLER_DEADLINE_MS,
    ) -> Any:
        """The reply of an object.

        Raises:
            TenureError: as `Host.call`.
        """
        return await call_for(request, self.host, address, method, *args, patience_ms=patience_ms)

    def asked(self, request: AnyRequest, address: Address) -> None:
        """Have the answer say how often the object has run."""
        arrival_of(request.scope).object_requests = self.host.turns_of(address)

    def granted(self, tenant: str, principal: str, grant: Grant) -> Granted:
        """A token as it is handed out."""
        policy = self.desk.rules(tenant).policy
        cookie = set_cookie(grant.token, grant.session, policy, self.host.store_clock.now_ms())
        return Granted(principal=principal, token=grant.token, set_cookie=cookie, session=grant.session)

    def policy(self, tenant: str) -> PolicyView:
        """The policy in force."""
        document = self._documents.get(POLICY, tenant, NAME)
        version = 0 if document is None else document.version
        return PolicyView(version=version, policy=self.desk.rules(tenant).policy)

    async def put_policy(self, tenant: str, policy: Policy, expected: int | None) -> PolicyView:
        """Replace the policy, if it has that version (None: any).

        Raises:
            VersionMismatchError: it has another.
        """
        await self._documents.put(POLICY, tenant, NAME, msgspec.json.encode(policy), expected=expected)
        return self.policy(tenant)

    async def end_everything(self, tenant: str) -> int:
        """End all sessions of a tenant; the moment up to which they began. Every node of this release knows it now."""
        moment_ms = self.host.store_clock.upper_ms()
        await self._documents.put(CUT, tenant, NAME, msgspec.json.encode(Cut(moment_ms)), expected=None)
        return self.desk.rules(tenant).not_before_ms


TheFront: TypeAlias = NamedDependency[Front]
TheEntrance: TypeAlias = NamedDependency[Entrance]
Name: TypeAlias = NamedDependency[str]
"""The principal that the path names."""
RoomName: TypeAlias = NamedDependency[str]
"""The room that the path names."""


def provide_principal(credential: Caller, principal_name: FromPath[str]) -> str:  # noqa: ARG001  # Nobody reads a name without one.
    """The principal that the path names.

    Raises:
        InvalidInputError: the segment is no name.
    """
    return name_in(principal_name, "principal")


def provide_room(credential: Caller, room_name: FromPath[str]) -> str:  # noqa: ARG001  # As above.
    """The room that the path names.

    Raises:
        InvalidInputError: the segment is no name.
    """
    return name_in(room_name, "room")


def check_merge_patch(request: AnyRequest, patch: dict[str, Any]) -> None:
    """Let only merge patches pass (RFC 7396).

    Raises:
        UnsupportedMediaTypeError: the body says that it is something else.
        InvalidInputError: it has more than 32 objects in each other.
    """
    media_type = arrival_of(request.scope).fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != MERGE_PATCH:
        raise UnsupportedMediaTypeError(f"A patch must be {MERGE_PATCH.decode()}.")
    try:
        merged({}, patch)
    except ValueError as exc:
        raise InvalidInputError(str(exc), "$") from exc


def only_if_match(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard of routes that are conditional on If-Match: another condition would be overlooked.

    Raises:
        InvalidInputError: there is one.
    """
    if b"if-none-match" in arrival_of(connection.scope).fields:
        raise InvalidInputError("Only If-Match is understood here", "header.if-none-match")


def version_in(if_match: str | None, prefix: str = "v") -> int | None:
    """The version that an If-Match names; None: any.

    Raises:
        InvalidInputError: it is neither `*` nor one of our tags.
    """
    text = "*" if if_match is None else if_match.strip()
    if text == "*":
        return None
    number = text.removeprefix(f'"{prefix}').removesuffix('"')
    if text != f'"{prefix}{number}"' or not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise InvalidInputError(f'This must be * or a version like "{prefix}3"', "header.if-match")
    return int(number)


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"v{version}"'
