"""Tenants and keys are listed and taken back as they are stored, whoever wrote them."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from shared.errors import ConflictError, NotFoundError
from shared.objects.config import Documents, VersionMismatchError
from shared.runtime.provision import (
    create_key,
    create_tenant,
    list_keys,
    list_tenants,
    revoke_key,
    set_tenant_disabled,
)
from shared.storage.keys import SHARED
from shared.storage.records import key_digest
from shared.testing.clock import ManualClock
from shared.testing.store import MemoryStore

DAY_MS = 24 * 3_600_000
UNREADABLE = [b"", b"{", b"\xff", b'{"created_ms":"yesterday"}']


class Office:
    """Documents of one operator, with a second who writes to the same store."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        store = MemoryStore(self.clock)
        self.documents = Documents(store, SHARED, self.clock)
        self.others = Documents(store, SHARED, self.clock)

    async def key(self, tenant: str, *, expires_days: int | None = None) -> str:
        return await create_key(
            self.documents,
            tenant,
            scopes=frozenset({"limits:read", "limits:check"}),
            label="ci",
            expires_days=expires_days,
            clock=self.clock,
        )


def with_office(scenario: Callable[[Office], Awaitable[None]]) -> None:
    """Run a scenario with the tenants acme and beta."""

    async def run() -> None:
        office = Office()
        for name in ("beta", "acme"):
            await create_tenant(office.documents, name, clock=office.clock)
        await scenario(office)

    asyncio.run(run())


def test_a_tenant_is_disabled_and_enabled_without_loss() -> None:
    """The state changes and is told with its moment; what a later release has written stays; twice is once."""

    async def scenario(office: Office) -> None:
        created_ms = office.clock.now_ms()
        body = msgspec.json.encode({"created_ms": created_ms, "of_a_later_release": [1, 2]})
        await office.documents.put("tenant", "acme", "acme", body, expected=None)
        office.clock.advance(5_000)
        for _ in range(2):
            await set_tenant_disabled(office.documents, "acme", disabled=True)
            office.clock.advance(1_000)
        acme, beta = list_tenants(office.documents)
        assert ("acme", "disabled", created_ms, created_ms + 5_000) == msgspec.structs.astuple(acme)
        assert ("beta", "enabled", created_ms, created_ms) == msgspec.structs.astuple(beta)

        await set_tenant_disabled(office.documents, "acme", disabled=False)
        stored = office.documents.get("tenant", "acme", "acme")
        assert stored is not None
        expected = {"created_ms": created_ms, "of_a_later_release": [1, 2], "disabled": False}
        assert expected == msgspec.json.decode(stored.body)

    with_office(scenario)


def test_a_tenant_that_is_not_there_cannot_be_disabled() -> None:
    """A misspelt name is told, and does not become a tenant."""

    async def scenario(office: Office) -> None:
        with pytest.raises(NotFoundError, match="There is no tenant 'acne'"):
            await set_tenant_disabled(office.documents, "acne", disabled=True)
        assert ["acme", "beta"] == [tenant.name for tenant in list_tenants(office.documents)]

    with_office(scenario)


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_cannot_be_read_is_listed_and_left_alone(body: bytes) -> None:
    """A tenant and a key of another release have a line each; the tenant is not written over, the key can go."""

    async def scenario(office: Office) -> None:
        await office.documents.put("tenant", "acme", "acme", body, expected=None)
        await office.documents.put("key", "acme", "00ff", body, expected=None)
        assert "unreadable" == list_tenants(office.documents)[0].state
        (key,) = list_keys(office.documents, "acme", clock=office.clock)
        assert ("unreadable", "00ff", (), None) == (key.state, key.id, key.scopes, key.created_ms)
        with pytest.raises(ConflictError, match="not of this release"):
            await set_tenant_disabled(office.documents, "acme", disabled=True)
        await revoke_key(office.documents, "acme", "00ff")
        assert [] == list_keys(office.documents, "acme", clock=office.clock)

    with_office(scenario)


def test_two_operators_do_not_undo_each_other() -> None:
    """The one who has not seen the other's change is told so."""

    async def scenario(office: Office) -> None:
        await office.others.poll()
        await set_tenant_disabled(office.documents, "acme", disabled=True)
        with pytest.raises(ConflictError, match="just changed") as raised:
            await set_tenant_disabled(office.others, "acme", disabled=True)
        assert isinstance(raised.value.__cause__, VersionMismatchError)

    with_office(scenario)


def test_keys_are_listed_by_what_they_are_and_never_as_they_are() -> None:
    """Tenant, id, scopes, moments and the beginning of the digest; a key past its time says so."""

    async def scenario(office: Office) -> None:
        created_ms = office.clock.now_ms()
        text = await office.key("acme", expires_days=1)
        await office.key("beta")
        office.clock.advance(DAY_MS)
        acme, beta = list_keys(office.documents, None, clock=office.clock)
        assert ("acme", "expired", ("limits:check", "limits:read"), "ci") == (
            acme.tenant,
            acme.state,
            acme.scopes,
            acme.label,
        )
        assert (created_ms, created_ms, created_ms + DAY_MS) == (acme.created_ms, acme.changed_ms, acme.expires_ms)
        assert key_digest(text)[:12] == acme.digest
        assert ("beta", "valid", None) == (beta.tenant, beta.state, beta.expires_ms)
        assert text.encode() not in msgspec.json.encode([acme, beta])

    with_office(scenario)


def test_the_keys_of_one_tenant_are_listed_alone() -> None:
    """None is an empty list; a tenant that is not there is an error, so that a misspelt name is not taken for it."""

    async def scenario(office: Office) -> None:
        await office.key("acme")
        assert ["acme"] == [key.tenant for key in list_keys(office.documents, "acme", clock=office.clock)]
        assert [] == list_keys(office.documents, "beta", clock=office.clock)
        with pytest.raises(NotFoundError, match="There is no tenant 'gamma'"):
            list_keys(office.documents, "gamma", clock=office.clock)

    with_office(scenario)


def test_a_key_is_revoked_under_its_own_tenant_only() -> None:
    """An id of another tenant, or of nobody, is told and changes nothing."""

    async def scenario(office: Office) -> None:
        await office.key("acme")
        (key,) = list_keys(office.documents, "acme", clock=office.clock)
        for tenant, key_id in (("beta", key.id), ("acme", "0" * 16)):
            with pytest.raises(NotFoundError, match=f"There is no key '{key_id}' of tenant '{tenant}'"):
                await revoke_key(office.documents, tenant, key_id)
        assert [key] == list_keys(office.documents, "acme", clock=office.clock)
        await revoke_key(office.documents, "acme", key.id)
        assert [] == list_keys(office.documents, None, clock=office.clock)

    with_office(scenario)


def test_a_digest_that_two_keys_begin_with_revokes_neither() -> None:
    """It does not happen by chance; what another release wrote has no digest to go by."""

    async def scenario(office: Office) -> None:
        for name, digest in (("1", "ab" * 6 + "0" * 52), ("2", "ab" * 6 + "1" * 52)):
            record = {"digest": digest, "scopes": [], "created_ms": 0}
            await office.documents.put("key", "acme", name, msgspec.json.encode(record), expected=None)
        await office.documents.put("key", "acme", "3", b"{", expected=None)
        with pytest.raises(ConflictError, match="2 keys"):
            await revoke_key(office.documents, "acme", "ab" * 6)
        assert "2" == await revoke_key(office.documents, "acme", "ab" * 6 + "1")
        with pytest.raises(NotFoundError, match="There is no tenant 'gamma'"):
            await revoke_key(office.documents, "gamma", "ab" * 6)
        assert ["1", "3"] == [key.id for key in list_keys(office.documents, "acme", clock=office.clock)]

    with_office(scenario)
