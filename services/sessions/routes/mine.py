"""What users do about their own sessions, with the token or the cookie: `/v1/session...`, and whoami."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody

from services.sessions.challenges import CrossSiteError, SignedOutError, StepUpError
from services.sessions.cookies import clear_cookies
from services.sessions.front import TheFront
from services.sessions.own import MyCall, MyToken, has_cookie
from services.sessions.principal import Principal
from services.sessions.records import Denied, SessionView, view_of
from services.sessions.refusals import ImpersonationError
from services.sessions.schemas import OwnSession, OwnSessions, Revoked, RevokeOwn, Rotated, Whoami
from shared.errors import UnauthenticatedError
from shared.http.calls import WRITE_PROBLEMS, AnyRequest
from shared.http.errors import UnsupportedMediaTypeError
from shared.objects.errors import DeadlineExceededError

_MINE = (UnauthenticatedError, SignedOutError)
_CHANGE = (*WRITE_PROBLEMS, *_MINE, CrossSiteError, UnsupportedMediaTypeError)
_NOT_ENDED = ("unknown", "superseded")
"""Why a token does not count whose session may go on."""
_LEAVING = {"clear-site-data": '"cache","cookies","storage"'}


@get("/v1/session", by_session=True, problems=(*_MINE, DeadlineExceededError), of_object=True, tags=["own"])
async def get_own(me: MyCall) -> SessionView:
    """The session of the token that asks."""
    standing = me.presence.standing
    return view_of(me.presence.session_id, standing.session, standing.seen, me.policy)


@get("/v1/session/list", by_session=True, problems=(*_MINE, DeadlineExceededError), of_object=True, tags=["own"])
async def list_own(me: MyCall, front: TheFront, request: AnyRequest) -> OwnSessions:
    """All sessions of the user who asks. Who acts in the user's name sees that session alone."""
    current = me.presence.session_id
    impersonated = me.presence.standing.session.actor is not None
    views: Sequence[SessionView] = await front.call(
        request, me.located.address, Principal.listing, front.desk.rules(me.tenant)
    )
    shown = [
        view
        for view in views
        if view.id == current or (not impersonated and (view.actor is None or me.policy.show_impersonation))
    ]
    return OwnSessions(sessions=tuple(OwnSession(current=view.id == current, session=view) for view in shown))


@post("/v1/session/rotate", status_code=200, by_session=True, problems=_CHANGE, durable=True, tags=["own"])
async def rotate(my_token: MyToken, front: TheFront, request: AnyRequest) -> Response[Rotated]:
    """Replace the token. Whoever asks again within the window, or from another tab, gets the same one.

    Whoever sent the cookie gets another one (`Set-Cookie`), and no token that a script could read.
    """
    grant = await front.desk.rotate(my_token)
    if isinstance(grant, Denied):
        raise SignedOutError(grant.reason)
    verdict = await front.desk.stand(my_token)
    if isinstance(verdict, Denied):  # Ended in between, or its windows are 0: the name is that of the successor's.
        located = front.desk.located(grant.token.encode())
        assert located is not None, "it was made here"
        verdict = await front.desk.stand(located)
    if isinstance(verdict, Denied):
        raise SignedOutError(verdict.reason)
    given = front.granted(my_token.tenant, verdict.principal, grant)
    if has_cookie(request):
        shown = Rotated(principal=given.principal, token=None, set_cookie=None, session=given.session)
        return Response(shown, headers={"set-cookie": given.set_cookie})
    return Response(Rotated(**msgspec.structs.asdict(given)))


@post(
    "/v1/session/logout", status_code=204, by_session=True, problems=_CHANGE, durable=True, of_object=True, tags=["own"]
)
async def logout(my_token: MyToken, front: TheFront, request: AnyRequest) -> Response[None]:
    """End the session of the token that asks. One that has ended is no error, so the call may be repeated."""
    rules = front.desk.rules(my_token.tenant)
    verdict = await front.desk.stand(my_token)
    if isinstance(verdict, Denied) and verdict.reason in _NOT_ENDED:
        raise SignedOutError(verdict.reason)
    await front.call(request, my_token.address, Principal.revoke, my_token.session_id, "logout", rules)
    answer = Response(None, status_code=204, headers=_LEAVING)
    answer.cookies.extend(clear_cookies(rules.policy))
    return answer


@post(
    "/v1/session/revoke",
    status_code=200,
    by_session=True,
    problems=(*_CHANGE, StepUpError, ImpersonationError),
    durable=True,
    of_object=True,
    tags=["own"],
)
async def revoke_own(me: MyCall, front: TheFront, data: JSONBody[RevokeOwn], request: AnyRequest) -> Revoked:
    """End one of the user's sessions, also this one, or all others. The user must have authenticated lately."""
    me.check_may_manage(front.host.store_clock.now_ms())
    address, rules = me.located.address, front.desk.rules(me.tenant)
    if data.others:
        count = await front.call(request, address, Principal.revoke_all, rules, me.presence.session_id, "revoked")
    else:
        count = int(await front.call(request, address, Principal.revoke, data.session, "revoked", rules))
    return Revoked(revoked=count)


@get("/v1/whoami", by_session=True, problems=(*_MINE, StepUpError, DeadlineExceededError), tags=["gateways"])
async def whoami(request: AnyRequest) -> Whoami:
    """Who the user of a request is, for gateways: any method, path below and query. `X-Session-...` fields say it."""
    # `services.sessions.whoami` answers before it can come here.
    raise AssertionError(f"the fast lane answers {request.url.path}")


HANDLERS: Sequence[Any] = (get_own, list_own, rotate, logout, revoke_own, whoami)
