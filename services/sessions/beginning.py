"""Beginning a session for a request: who may act for whom, what is stored of the client, which data is taken over."""

from typing import Any

import msgspec

from services.sessions.addresses import stored_address
from services.sessions.bounds import DATA_BYTES_MAX, LABEL_BYTES_MAX, USER_AGENT_LENGTH_MAX
from services.sessions.desk import Grant, anonymous_name
from services.sessions.front import Front
from services.sessions.merge_patch import merged
from services.sessions.principal import Principal
from services.sessions.records import Data, Denied, NewSession
from services.sessions.refusals import DataTooLargeError
from services.sessions.schemas import CreateAnonymous, CreateSession, Upgrade
from services.sessions.session import Actor
from shared.errors import InvalidInputError
from shared.http.auth import Credential
from shared.http.names import check_name, check_text
from shared.objects.address import Address

IMPERSONATE = "sessions:impersonate"


async def begin(
    front: Front, credential: Credential, principal: str, asked: CreateSession, *, key: str | None
) -> Grant:
    """Sign a user in; an anonymous session that is taken over has ended when this returns.

    Raises:
        ForbiddenError: somebody acts for the principal, and the key does not allow that.
        InvalidInputError: the address or the data cannot be, or a text is too long.
        TenureError: as `Desk.create`.
    """
    if asked.actor is not None:
        credential.require(IMPERSONATE)
        check_name(asked.actor.sub, "actor", "$.actor.sub")
    check_text(asked.label, LABEL_BYTES_MAX, "label", "$.label")
    tenant = credential.tenant
    taken, replaces = await _taken_over(front, tenant, asked.upgrade)
    policy = front.desk.rules(tenant).policy
    order = NewSession(
        principal=principal,
        acr=asked.acr,
        amr=asked.amr,
        roles=asked.roles,
        auth_ms=asked.auth_ms,
        client=asked.client,
        label=asked.label,
        address=stored_address(asked.address, policy.addresses),
        user_agent=asked.user_agent[:USER_AGENT_LENGTH_MAX],
        actor=None if asked.actor is None else Actor(**msgspec.structs.asdict(asked.actor)),
        data=_data({**taken, **asked.data}),
        replaces=replaces,
    )
    grant = await front.desk.create(tenant, order, key=key)
    if replaces is not None:  # A message does the same if we die here.
        args = (replaces[1], "upgraded", front.desk.rules(tenant))
        await front.host.call(_address(tenant, replaces[0]), Principal.revoke, *args)
    return grant


async def begin_anonymous(
    front: Front, credential: Credential, asked: CreateAnonymous, *, key: str | None
) -> tuple[str, Grant]:
    """A session of a new anonymous principal, and that one's name.

    Raises:
        InvalidInputError: the address or the data cannot be, or the label is too long.
        TenureError: as `Desk.create`.
    """
    check_text(asked.label, LABEL_BYTES_MAX, "label", "$.label")
    principal = anonymous_name(key)
    policy = front.desk.rules(credential.tenant).policy
    order = NewSession(
        principal=principal,
        acr="aal0",
        client=asked.client,
        label=asked.label,
        address=stored_address(asked.address, policy.addresses),
        user_agent=asked.user_agent[:USER_AGENT_LENGTH_MAX],
        data=_data(asked.data),
        anonymous=True,
    )
    return principal, await front.desk.create(credential.tenant, order, key=key)


async def _taken_over(
    front: Front, tenant: str, upgrade: Upgrade | None
) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """What the new session gets of an anonymous one, and which ends; nothing of one that does not count any more."""
    located = None if upgrade is None else front.desk.located(upgrade.token.encode())
    if upgrade is None or located is None or located.tenant != tenant:
        return {}, None
    verdict = await front.desk.stand(located)
    if isinstance(verdict, Denied):
        return {}, None
    if not verdict.anonymous:
        raise InvalidInputError("Only an anonymous session can be taken over", "$.upgrade.token")
    rules = front.desk.rules(tenant)
    data: Data = await front.host.call(located.address, Principal.data, located.session_id, rules)
    held = msgspec.json.decode(data.body)
    kept = {name: held[name] for name in upgrade.keep if name in held} if isinstance(held, dict) else {}
    return kept, (located.address.name, located.session_id)


def _address(tenant: str, object_name: str) -> Address:
    return Address(Principal.kind, tenant, object_name)


def _data(data: dict[str, Any]) -> bytes:
    """The data as it is stored. Raises InvalidInputError, DataTooLargeError."""
    try:
        body = msgspec.json.encode(merged({}, data))
    except ValueError as exc:
        raise InvalidInputError(str(exc), "$.data") from exc
    if len(body) > DATA_BYTES_MAX:
        raise DataTooLargeError(len(body), DATA_BYTES_MAX)
    return body
