"""What applications do with the sessions of their users, with an API key: `/v1/principals/{principal}/...`."""

from typing import Any

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody

from services.sessions.beginning import begin, begin_anonymous
from services.sessions.challenges import IfMatchRequiredError
from services.sessions.front import (
    IfMatch,
    MergePatch,
    Name,
    TheFront,
    check_merge_patch,
    etag,
    only_if_match,
    version_in,
)
from services.sessions.paths import session_path
from services.sessions.principal import Principal
from services.sessions.records import Authentication, Data, Export, SessionView
from services.sessions.refusals import (
    DataTooLargeError,
    ImpersonationError,
    PrincipalDisabledError,
    PrincipalErasedError,
    SessionEndedError,
    SessionLimitError,
    StaleDataError,
    UnknownSessionError,
)
from services.sessions.schemas import (
    Authenticated,
    CreateAnonymous,
    CreateSession,
    ExportView,
    Granted,
    NumberedEvent,
    Revoked,
    RevokeMany,
    SessionList,
)
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, WRITE_PROBLEMS, AnyRequest, idempotency_key
from shared.objects.errors import (
    DeadlineExceededError,
)

CREATE, READ, DATA = "sessions:create", "sessions:read", "sessions:data"
ELEVATE, REVOKE, ADMIN, PRIVACY = "sessions:elevate", "sessions:revoke", "sessions:admin", "sessions:privacy"
_SESSION = "/v1/principals/{principal_name:str}/sessions/{session_id:str}"
_OF_SESSION = (UnknownSessionError, SessionEndedError)
_BEGIN = (*KEYED_PROBLEMS, SessionLimitError, PrincipalDisabledError, PrincipalErasedError, DataTooLargeError)
Text = FromPath[str]


@post(
    "/v1/principals/{principal_name:str}/sessions",
    status_code=201,
    guards=[require(CREATE)],
    problems=(*_BEGIN, SessionEndedError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["sessions"],
)
async def create_session(
    *, credential: Caller, principal: Name, front: TheFront, data: JSONBody[CreateSession], request: AnyRequest
) -> Response[Granted]:
    """Sign a user in. The token is in this answer and nowhere else; the same key gets the same one again for a day."""
    grant = await begin(front, credential, principal, data, key=idempotency_key(request))
    front.asked(request, front.desk.address(credential.tenant, principal))
    granted = front.granted(credential.tenant, principal, grant)
    return Response(granted, status_code=201, headers={"location": session_path(principal, grant.session.id)})


@post(
    "/v1/anonymous",
    status_code=201,
    guards=[require(CREATE)],
    problems=(*_BEGIN, SessionEndedError),
    durable=True,
    repeatable=True,
    tags=["sessions"],
)
async def create_anonymous(
    *, credential: Caller, front: TheFront, data: JSONBody[CreateAnonymous], request: AnyRequest
) -> Granted:
    """A session of a visitor whom nobody knows yet, under a principal of its own; a login can take it over."""
    principal, grant = await begin_anonymous(front, credential, data, key=idempotency_key(request))
    return front.granted(credential.tenant, principal, grant)


@get(
    "/v1/principals/{principal_name:str}/sessions",
    guards=[require(READ)],
    problems=(DeadlineExceededError,),
    of_object=True,
    tags=["sessions"],
)
async def list_sessions(credential: Caller, principal: Name, front: TheFront, request: AnyRequest) -> SessionList:
    """The sessions of a principal, oldest first. One that nobody knows has none."""
    address = front.desk.address(credential.tenant, principal)
    rules = front.desk.rules(credential.tenant)
    return SessionList(sessions=await front.call(request, address, Principal.listing, rules))


@get(
    _SESSION, guards=[require(READ)], problems=(DeadlineExceededError, *_OF_SESSION), of_object=True, tags=["sessions"]
)
async def get_session(
    *, credential: Caller, principal: Name, session_id: Text, front: TheFront, request: AnyRequest
) -> SessionView:
    """One session; 410 with the reason while it is known that it has ended."""
    address = front.desk.address(credential.tenant, principal)
    rules = front.desk.rules(credential.tenant)
    view: SessionView = await front.call(request, address, Principal.look, session_id, rules)
    return view


@delete(
    _SESSION,
    status_code=204,
    guards=[require(REVOKE)],
    problems=WRITE_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["ending"],
)
async def revoke_session(
    *, credential: Caller, principal: Name, session_id: Text, front: TheFront, request: AnyRequest
) -> None:
    """End a session. Once this is answered no token of it counts; of one that is not there, none ever does."""
    address, rules = front.desk.address(credential.tenant, principal), front.desk.rules(credential.tenant)
    await front.call(request, address, Principal.revoke, session_id, "revoked", rules)


@post(
    "/v1/principals/{principal_name:str}/sessions/revoke",
    status_code=200,
    guards=[require(REVOKE)],
    problems=WRITE_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["ending"],
)
async def revoke_sessions(
    *, credential: Caller, principal: Name, front: TheFront, data: JSONBody[RevokeMany], request: AnyRequest
) -> Revoked:
    """End all sessions of a principal, or all but one."""
    address, rules = front.desk.address(credential.tenant, principal), front.desk.rules(credential.tenant)
    count = await front.call(request, address, Principal.revoke_all, rules, data.except_session, data.reason)
    return Revoked(revoked=count)


@post(
    _SESSION + "/authenticate",
    status_code=200,
    guards=[require(ELEVATE)],
    problems=(*KEYED_PROBLEMS, *_OF_SESSION, ImpersonationError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["sessions"],
)
async def authenticate(
    *,
    credential: Caller,
    principal: Name,
    session_id: Text,
    front: TheFront,
    data: JSONBody[Authenticated],
    request: AnyRequest,
) -> Granted:
    """The user has authenticated once more: a new token, both time-outs anew, and the old token counts no longer."""
    shown = Authentication(acr=data.acr, amr=data.amr, roles=data.roles, auth_ms=data.at_ms)
    grant = await front.desk.authenticate(credential.tenant, principal, session_id, shown, key=idempotency_key(request))
    front.asked(request, front.desk.address(credential.tenant, principal))
    return front.granted(credential.tenant, principal, grant)


@get(
    _SESSION + "/data",
    guards=[require(DATA)],
    problems=(DeadlineExceededError, *_OF_SESSION),
    of_object=True,
    tags=["data"],
)
async def get_data(
    *, credential: Caller, principal: Name, session_id: Text, front: TheFront, request: AnyRequest
) -> Response[Any]:
    """What the application keeps with a session; `{}` before it has kept anything. ETag: its version."""
    address = front.desk.address(credential.tenant, principal)
    data = await front.call(request, address, Principal.data, session_id, front.desk.rules(credential.tenant))
    return _data(data)


@put(
    _SESSION + "/data",
    guards=[require(DATA), only_if_match],
    problems=(*WRITE_PROBLEMS, *_OF_SESSION, StaleDataError, DataTooLargeError, IfMatchRequiredError),
    durable=True,
    of_object=True,
    tags=["data"],
)
async def put_data(
    *,
    credential: Caller,
    principal: Name,
    session_id: Text,
    front: TheFront,
    data: JSONBody[dict[str, Any]],
    request: AnyRequest,
    if_match: IfMatch = None,
) -> Response[Any]:
    """Replace it, if it has the version that If-Match names."""
    rules = front.desk.rules(credential.tenant)
    expected = _expected(if_match, required=rules.policy.require_if_match)
    address = front.desk.address(credential.tenant, principal)
    args = (session_id, msgspec.json.encode(data), expected, rules)
    return _data(await front.call(request, address, Principal.put_data, *args))


@patch(
    _SESSION + "/data",
    guards=[require(DATA), only_if_match],
    problems=(*WRITE_PROBLEMS, *_OF_SESSION, StaleDataError, DataTooLargeError, IfMatchRequiredError),
    durable=True,
    of_object=True,
    tags=["data"],
)
async def patch_data(
    *,
    credential: Caller,
    principal: Name,
    session_id: Text,
    front: TheFront,
    data: MergePatch,
    request: AnyRequest,
    if_match: IfMatch = None,
) -> Response[Any]:
    """Merge a patch into it (RFC 7396, `application/merge-patch+json`): null removes, arrays are replaced whole."""
    check_merge_patch(request, data)
    rules = front.desk.rules(credential.tenant)
    expected = _expected(if_match, required=rules.policy.require_if_match)
    address = front.desk.address(credential.tenant, principal)
    args = (session_id, msgspec.json.encode(data), expected, rules)
    return _data(await front.call(request, address, Principal.patch_data, *args))


@post(
    "/v1/principals/{principal_name:str}/disable",
    status_code=200,
    guards=[require(ADMIN)],
    problems=WRITE_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["ending"],
)
async def disable(credential: Caller, principal: Name, front: TheFront, request: AnyRequest) -> Revoked:
    """End all sessions of a principal and let none begin, until it is enabled."""
    address, rules = front.desk.address(credential.tenant, principal), front.desk.rules(credential.tenant)
    return Revoked(revoked=await front.call(request, address, Principal.disable, principal, rules))


@post(
    "/v1/principals/{principal_name:str}/enable",
    status_code=204,
    guards=[require(ADMIN)],
    problems=WRITE_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["ending"],
)
async def enable(credential: Caller, principal: Name, front: TheFront, request: AnyRequest) -> None:
    """Let sessions of a principal begin again that was disabled or erased."""
    address = front.desk.address(credential.tenant, principal)
    await front.call(request, address, Principal.enable, principal)


@get(
    "/v1/principals/{principal_name:str}/export",
    guards=[require(PRIVACY)],
    problems=(DeadlineExceededError,),
    of_object=True,
    tags=["privacy"],
)
async def export(credential: Caller, principal: Name, front: TheFront, request: AnyRequest) -> ExportView:
    """Everything that is held of a principal."""
    address = front.desk.address(credential.tenant, principal)
    held: Export = await front.call(request, address, Principal.export)
    return ExportView(
        principal=held.principal,
        anonymous=held.anonymous,
        created_ms=held.created_ms,
        disabled_ms=held.disabled_ms,
        erased_ms=held.erased_ms,
        sessions=held.sessions,
        data={session_id: msgspec.json.decode(body) for session_id, body in held.data.items()},
        ended=held.ended,
        events=tuple(NumberedEvent(seq=seq, event=event) for seq, event in held.events),
    )


@delete(
    "/v1/principals/{principal_name:str}",
    status_code=200,
    guards=[require(PRIVACY)],
    problems=WRITE_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["privacy"],
)
async def erase(credential: Caller, principal: Name, front: TheFront, request: AnyRequest) -> Revoked:
    """Forget a principal but for the mark that it was erased. Backups of the store are not reached."""
    address, rules = front.desk.address(credential.tenant, principal), front.desk.rules(credential.tenant)
    return Revoked(revoked=await front.call(request, address, Principal.erase, principal, rules))


HANDLERS = (
    create_session,
    create_anonymous,
    list_sessions,
    get_session,
    revoke_session,
    revoke_sessions,
    authenticate,
    get_data,
    put_data,
    patch_data,
    disable,
    enable,
    export,
    erase,
)


def _data(data: Data) -> Response[Any]:
    return Response(msgspec.json.decode(data.body), headers={"etag": etag(data.version)})


def _expected(if_match: str | None, *, required: bool) -> int | None:
    if required and if_match is None:
        raise IfMatchRequiredError
    return version_in(if_match)
