"""What holds for all principals of a tenant: the policy, ending everything, and looking at a token."""

from litestar import Response, get, post, put
from litestar.params import JSONBody

from services.sessions.front import IfMatch, TheFront, etag, only_if_match, version_in
from services.sessions.policy import Policy, check_names
from services.sessions.records import Denied, view_of
from services.sessions.routes.principals import ADMIN
from services.sessions.schemas import Cutoff, Introspection, IntrospectToken, PolicyView
from shared.errors import PreconditionFailedError
from shared.http.auth import Caller, require
from shared.objects.errors import DeadlineExceededError
from shared.storage.interface import StoreFullError

INTROSPECT = "sessions:introspect"


@get("/v1/tenant/policy", guards=[require(ADMIN)], tags=["tenant"])
async def get_policy(credential: Caller, front: TheFront) -> Response[PolicyView]:
    """The policy in force."""
    return _versioned(front.policy(credential.tenant))


@put(
    "/v1/tenant/policy",
    guards=[require(ADMIN), only_if_match],
    problems=(PreconditionFailedError, StoreFullError),
    tags=["tenant"],
)
async def put_policy(
    *, credential: Caller, front: TheFront, data: JSONBody[Policy], if_match: IfMatch = None
) -> Response[PolicyView]:
    """Replace the policy. What it lowers counts at the next use of every session."""
    check_names(data)
    return _versioned(await front.put_policy(credential.tenant, data, version_in(if_match)))


@post(
    "/v1/tenant/sessions/revoke",
    status_code=200,
    guards=[require(ADMIN)],
    problems=(StoreFullError,),
    tags=["tenant"],
)
async def revoke_everything(credential: Caller, front: TheFront) -> Cutoff:
    """End every session of the tenant. Once this is answered no token counts that was issued before it.

    Principals that somebody listens to, by a feed or a socket, tell of it at once, thousands of them a second
    (`session.revoked`, reason `tenant`); others when a token of theirs comes, a session begins or is ended, or one
    would have ended by itself.
    """
    return Cutoff(not_before_ms=await front.end_everything(credential.tenant))


@post(
    "/v1/introspect", status_code=200, guards=[require(INTROSPECT)], problems=(DeadlineExceededError,), tags=["tenant"]
)
async def introspect(credential: Caller, front: TheFront, data: JSONBody[IntrospectToken]) -> Introspection:
    """What a token of this tenant stands for (RFC 7662). It counts as a use of its session."""
    located = front.desk.located(data.token.encode(errors="replace"))
    if located is None or located.tenant != credential.tenant:
        return Introspection(active=False)
    verdict = await front.desk.stand(located)
    if isinstance(verdict, Denied):
        return Introspection(active=False)
    standing, policy = verdict.standing, front.desk.rules(located.tenant).policy
    view = view_of(verdict.session_id, standing.session, standing.seen, policy)
    return Introspection(
        active=True,
        sub=verdict.principal,
        sid=view.id,
        tenant=located.tenant,
        client_id=view.client,
        iat=view.created_ms // 1000,
        exp=view.idle_expires_ms // 1000,
        auth_time=standing.assurance.auth_ms // 1000,
        acr=standing.assurance.acr,
        amr=standing.assurance.amr,
        roles=standing.assurance.roles,
        act=view.actor,
    )


HANDLERS = (get_policy, put_policy, revoke_everything, introspect)


def _versioned(view: PolicyView) -> Response[PolicyView]:
    return Response(view, headers={"etag": etag(view.version)})
