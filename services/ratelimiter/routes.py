"""The documented routes of the limiter. What a fast lane answers first has its contract here."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.response.base import ASGIResponse

from services.ratelimiter.batch import decide_batch, degraded
from services.ratelimiter.checking import API_DEADLINE_MS, CHECK, KIND, Checker
from services.ratelimiter.compiled import Headers, json_headers
from services.ratelimiter.gate import Gate
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.policy import (
    CostTooLargeError,
    Policy,
    PolicyInUseError,
    Profile,
    SubjectFullError,
    UnknownPolicyError,
    UnknownProfileError,
)
from services.ratelimiter.publishing import Publishing, condition_of, etag
from services.ratelimiter.schemas import (
    BatchRequest,
    BatchResult,
    CheckRequest,
    CheckResult,
    Denial,
    PolicyList,
    PolicyView,
    ProfileList,
    ProfileView,
    Rollback,
    SubjectUsage,
)
from services.ratelimiter.subjects import SUBJECTS, check_subject, subject_of
from shared.errors import ConflictError, PreconditionFailedError
from shared.http.arrival import arrival_of
from shared.http.auth import Caller, require
from shared.objects.address import Address
from shared.objects.errors import DeadlineExceededError, NoRoomError, TooLargeError
from shared.objects.host import Host
from shared.storage.interface import StoreFullError

READ = "limits:read"
WRITE = "limits:write"

IfMatch = Annotated[str | None, HeaderParameter(name="If-Match", description='The version to replace, like "v3".')]
IfNoneMatch = Annotated[str | None, HeaderParameter(name="If-None-Match", description="* to create only.")]
Text: TypeAlias = FromPath[str]
Checks: TypeAlias = NamedDependency[Checker]
Shelf: TypeAlias = NamedDependency[Publishing]
TheGate: TypeAlias = NamedDependency[Gate]
TheHost: TypeAlias = NamedDependency[Host]
AnyRequest = Request[Any, Any, Any]
_CHECK_PROBLEMS = (UnknownPolicyError, CostTooLargeError, SubjectFullError)
_WRITE_PROBLEMS = (PreconditionFailedError, ConflictError, TooLargeError, StoreFullError)
_DENIED = ResponseSpec(
    data_container=Denial,
    media_type="application/problem+json",
    description="Over the limit; 403 where the profile says so.",
    generate_examples=False,
)
T = TypeVar("T")


def _created(view: type[Any]) -> dict[int, ResponseSpec]:
    """What a PUT answers where there was nothing of the name."""
    return {201: ResponseSpec(data_container=view, description="It is new.", generate_examples=False)}


class Prepared(Response[T]):
    """An answer whose header fields and body are bytes already, sent as they are."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(cast("Any", body), status_code=status)
        self._fields = headers

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """The ASGI application that sends it."""
        response = ASGIResponse(body=cast("bytes", self.content), status_code=self.status_code)
        response.headers.headers[:] = self._fields
        return response


@post(
    "/v1/check",
    status_code=200,
    guards=[require(CHECK)],
    problems=_CHECK_PROBLEMS,
    repeated_keys=True,
    tags=["checks"],
)
async def check(credential: Caller, checker: Checks, data: JSONBody[CheckRequest]) -> Response[CheckResult]:
    """Decide one check. Denials are 200 too; `allowed` says which, and Retry-After when to come again."""
    policy = checker.policy(credential.tenant, data.policy, data.cost)
    check_subject(data.subject, "$.subject")
    decision = await checker.check(
        credential.tenant, policy, data.subject, cost=data.cost, peek=data.peek, deadline_ms=API_DEADLINE_MS
    )
    if decision is None:
        body = degraded(policy, data.subject)
        return Prepared(200, json_headers(body), body)
    body = policy.body(decision, data.subject)
    return Prepared(200, policy.api_headers(decision, body), body)


@post("/v1/check/batch", status_code=200, guards=[require(CHECK)], repeated_keys=True, tags=["checks"])
async def check_batch(credential: Caller, checker: Checks, data: JSONBody[BatchRequest]) -> Response[BatchResult]:
    """Decide up to 1,000 checks. Each stands alone: an error of one is told in its place."""
    body = await decide_batch(checker, credential.tenant, data.checks)
    return Prepared(200, json_headers(body), body)


@get(
    "/check/p/{profile:str}",
    guards=[require(CHECK)],
    by_gateway=True,
    problems=(UnknownProfileError, UnknownPolicyError, SubjectFullError),
    responses={429: _DENIED},
    tags=["gateways"],
)
async def check_for_gateway(credential: Caller, gate: TheGate, profile: Text, request: AnyRequest) -> Response[None]:
    """Decide for a gateway: 200 without a body, or the profile's `deny_status` with a problem document.

    Any method and any sub-path below this one mean the same: they, the query and the body are the
    gateway's client's, and are not read.
    """
    fields = arrival_of(request.scope).fields
    return Prepared(*await gate.answer(credential, profile, fields, list(request.scope["headers"])))


@get("/v1/policies", guards=[require(READ)], tags=["policies"], sync_to_thread=False)
def list_policies(credential: Caller, shelf: Shelf) -> PolicyList:
    """All policies of the tenant, by name."""
    return PolicyList(policies=shelf.policies(credential.tenant))


@get("/v1/policies/{name:str}", guards=[require(READ)], tags=["policies"], sync_to_thread=False)
def get_policy(credential: Caller, shelf: Shelf, name: Text) -> Response[PolicyView]:
    """A policy as it is in force."""
    return _versioned(shelf.policy(credential.tenant, name))


@get("/v1/policies/{name:str}/versions/{version:int}", guards=[require(READ)], tags=["policies"], sync_to_thread=False)
def get_policy_version(credential: Caller, shelf: Shelf, name: Text, version: FromPath[int]) -> PolicyView:
    """A policy as it was; the last ten versions are kept."""
    return shelf.policy_version(credential.tenant, name, version)


@put(
    "/v1/policies/{name:str}",
    guards=[require(WRITE)],
    problems=_WRITE_PROBLEMS,
    responses=_created(PolicyView),
    response_description="It has a new version.",
    durable=True,
    tags=["policies"],
)
async def put_policy(
    *,
    credential: Caller,
    shelf: Shelf,
    name: Text,
    data: JSONBody[Policy],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[PolicyView]:
    """Create a policy (201) or give it a new version (200). Usage stays as it is and counts under the new limits."""
    condition = condition_of(if_match, if_none_match)
    view, created = await shelf.put_policy(credential.tenant, name, data, condition)
    return _versioned(view, created=created)


@post(
    "/v1/policies/{name:str}/rollback",
    status_code=200,
    guards=[require(WRITE)],
    problems=_WRITE_PROBLEMS,
    durable=True,
    tags=["policies"],
)
async def roll_back_policy(
    credential: Caller,
    shelf: Shelf,
    name: Text,
    data: JSONBody[Rollback],
    if_match: IfMatch = None,
) -> Response[PolicyView]:
    """Make an old version the newest one again."""
    condition = condition_of(if_match, None)
    return _versioned(await shelf.roll_back(credential.tenant, name, data.version, condition))


@delete(
    "/v1/policies/{name:str}",
    guards=[require(WRITE)],
    problems=(*_WRITE_PROBLEMS, PolicyInUseError),
    durable=True,
    tags=["policies"],
)
async def delete_policy(credential: Caller, shelf: Shelf, name: Text, if_match: IfMatch = None) -> None:
    """Delete a policy that no profile names. Checks under it are refused from then on."""
    await shelf.delete_policy(credential.tenant, name, condition_of(if_match, None))


@get("/v1/profiles", guards=[require(READ)], tags=["gateways"], sync_to_thread=False)
def list_profiles(credential: Caller, shelf: Shelf) -> ProfileList:
    """All gateway profiles of the tenant, by name."""
    return ProfileList(profiles=shelf.profiles(credential.tenant))


@get("/v1/profiles/{name:str}", guards=[require(READ)], tags=["gateways"], sync_to_thread=False)
def get_profile(credential: Caller, shelf: Shelf, name: Text) -> Response[ProfileView]:
    """A gateway profile."""
    return _versioned(shelf.profile(credential.tenant, name))


@put(
    "/v1/profiles/{name:str}",
    guards=[require(WRITE)],
    problems=_WRITE_PROBLEMS,
    responses=_created(ProfileView),
    response_description="It is replaced.",
    durable=True,
    tags=["gateways"],
)
async def put_profile(
    *,
    credential: Caller,
    shelf: Shelf,
    name: Text,
    data: JSONBody[Profile],
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response[ProfileView]:
    """Create a gateway profile (201) or replace it (200). Its policy must exist."""
    condition = condition_of(if_match, if_none_match)
    view, created = await shelf.put_profile(credential.tenant, name, data, condition)
    return _versioned(view, created=created)


@delete("/v1/profiles/{name:str}", guards=[require(WRITE)], problems=_WRITE_PROBLEMS, durable=True, tags=["gateways"])
async def delete_profile(credential: Caller, shelf: Shelf, name: Text, if_match: IfMatch = None) -> None:
    """Delete a gateway profile."""
    await shelf.delete_profile(credential.tenant, name, condition_of(if_match, None))


@get(SUBJECTS + "{subject:path}", guards=[require(READ)], of_object=True, tags=["subjects"])
async def get_subject(credential: Caller, host: TheHost, request: AnyRequest) -> SubjectUsage:
    """What a subject has used, under every policy under which anything still counts.

    Percent-encode the subject whole, slashes and dots too: every subject that can be checked can be named so.
    """
    name = subject_of(request.scope)
    address = Address(KIND, credential.tenant, name)
    policies = await host.call(address, Limiter.usage, deadline_ms=API_DEADLINE_MS)
    arrival_of(request.scope).object_requests = host.turns_of(address)
    return SubjectUsage(subject=name, policies=policies)


@delete(
    SUBJECTS + "{subject:path}",
    guards=[require(WRITE)],
    problems=(DeadlineExceededError, NoRoomError),
    durable=True,
    of_object=True,
    tags=["subjects"],
)
async def reset_subject(
    credential: Caller, host: TheHost, request: AnyRequest, policy: FromQuery[str | None] = None
) -> None:
    """Forget what a subject has used, under one policy or all. It is stored before the answer."""
    address = Address(KIND, credential.tenant, subject_of(request.scope))
    await host.call(address, Limiter.reset, policy, deadline_ms=API_DEADLINE_MS, durability="committed")
    arrival_of(request.scope).object_requests = host.turns_of(address)


HANDLERS: Sequence[Any] = (
    check,
    check_batch,
    check_for_gateway,
    list_policies,
    get_policy,
    get_policy_version,
    put_policy,
    roll_back_policy,
    delete_policy,
    list_profiles,
    get_profile,
    put_profile,
    delete_profile,
    get_subject,
    reset_subject,
)


def _versioned(view: T, *, created: bool = False) -> Response[T]:
    version: int = view.version  # type: ignore[attr-defined]  # Both views have one.
    return Response(view, status_code=201 if created else 200, headers={"etag": etag(version)})
