"""A key lets in whom it was made for, for what it was made for, for as long as it is valid."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from shared import bounds
from shared.errors import ForbiddenError
from shared.http.auth import Credential, bearer_secret
from shared.objects.errors import UnavailableError
from shared.storage.records import KeyRecord, TenantRecord, key_digest, new_key_id, new_key_text
from tests.support.keyring import Keys

TENANT = "acme"


def with_keys(scenario: Callable[[Keys], Awaitable[None]]) -> None:
    """Run a scenario on keys of its own, with one tenant."""

    async def run() -> None:
        keys = Keys()
        await keys.add_tenant(TENANT)
        await scenario(keys)

    asyncio.run(run())


def test_a_key_names_its_tenant_and_scopes() -> None:
    """The credential has what the document says, and is the same object every time."""

    async def scenario(keys: Keys) -> None:
        text = await keys.add_key(TENANT, "limits:check", key_id="00000000000000ff")
        credential = keys.ring.authenticate(text.encode())
        expected = Credential(tenant=TENANT, key_id="00000000000000ff", scopes=frozenset({"limits:check"}))
        assert expected == credential
        assert keys.ring.authenticate(text.encode()) is credential

    with_keys(scenario)


def test_nothing_else_is_a_key() -> None:
    """Other keys, parts of a key, its digest, and bytes that are no text let nobody in."""

    async def scenario(keys: Keys) -> None:
        text = await keys.add_key(TENANT)
        guesses = [new_key_text(), text[:-1], text + "a", text[4:], text.swapcase(), key_digest(text), ""]
        assert [None] * len(guesses) == [keys.ring.authenticate(guess.encode()) for guess in guesses]
        assert keys.ring.authenticate(b"tnk_" + b"\xff" * 43) is None

    with_keys(scenario)


def test_a_key_expires_to_the_millisecond() -> None:
    """A-05: valid until its last moment, and not in it."""

    async def scenario(keys: Keys) -> None:
        text = (await keys.add_key(TENANT, expires_ms=keys.clock.now_ms() + 1000)).encode()
        keys.clock.advance(999)
        assert keys.ring.authenticate(text) is not None
        keys.clock.advance(1)
        assert keys.ring.authenticate(text) is None

    with_keys(scenario)


def test_a_deleted_key_is_no_key() -> None:
    """A-09: from the moment that the documents say so; another key of the tenant stays."""

    async def scenario(keys: Keys) -> None:
        gone = (await keys.add_key(TENANT, key_id="a" * 16)).encode()
        stays = (await keys.add_key(TENANT)).encode()
        await keys.documents.delete("key", TENANT, "a" * 16, expected=None)
        assert keys.ring.authenticate(gone) is None
        assert keys.ring.authenticate(stays) is not None

    with_keys(scenario)


def test_a_changed_key_has_its_new_scopes() -> None:
    """A-09: and the replaced text is no key any more."""

    async def scenario(keys: Keys) -> None:
        old = await keys.add_key(TENANT, key_id="a" * 16)
        await keys.add_key(TENANT, "limits:read", text=old, key_id="a" * 16)
        credential = keys.ring.authenticate(old.encode())
        assert credential is not None
        assert credential.scopes == {"limits:read"}
        new = await keys.add_key(TENANT, key_id="a" * 16)
        assert keys.ring.authenticate(old.encode()) is None
        assert keys.ring.authenticate(new.encode()) is not None

    with_keys(scenario)


@pytest.mark.parametrize("how", ["disabled", "deleted", "never there"])
def test_without_its_tenant_a_key_is_not_valid(how: str) -> None:
    """Disabling a tenant shuts out all its keys, and only its own; enabling lets them in again."""

    async def scenario(keys: Keys) -> None:
        await keys.add_tenant("other")
        tenant = "ghost" if how == "never there" else TENANT
        text, other = (await keys.add_key(tenant)).encode(), (await keys.add_key("other")).encode()
        if how == "disabled":
            await keys.add_tenant(TENANT, disabled=True)
        elif how == "deleted":
            await keys.documents.delete("tenant", TENANT, TENANT, expected=None)
        assert keys.ring.authenticate(text) is None
        assert keys.ring.authenticate(other) is not None
        await keys.add_tenant(tenant)
        assert keys.ring.authenticate(text) is not None

    with_keys(scenario)


def test_a_stale_view_lets_nobody_in() -> None:
    """N-07: neither known keys nor unknown ones are answered for; a poll that succeeds ends it."""

    async def scenario(keys: Keys) -> None:
        text = (await keys.add_key(TENANT)).encode()
        keys.clock.advance(bounds.DOCUMENT_STALE_MS)
        assert keys.ring.authenticate(text) is not None
        keys.clock.advance(1)
        for secret in (text, new_key_text().encode(), b"garbage"):
            with pytest.raises(UnavailableError):
                keys.ring.authenticate(secret)
        await keys.documents.poll()
        assert keys.ring.authenticate(text) is not None

    with_keys(scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"{}",
        b'{"digest":5,"scopes":[],"created_ms":1}',
        b'{"digest":"zz","scopes":[],"created_ms":1}',
    ],
)
def test_a_key_that_cannot_be_read_lets_nobody_in(body: bytes) -> None:
    """L-06: it replaces the key it was, hurts no other key, and stops nothing."""

    async def scenario(keys: Keys) -> None:
        broken = (await keys.add_key(TENANT, key_id="a" * 16)).encode()
        other = (await keys.add_key(TENANT)).encode()
        await keys.documents.put("key", TENANT, "a" * 16, body, expected=None)
        assert keys.ring.authenticate(broken) is None
        assert keys.ring.authenticate(other) is not None

    with_keys(scenario)


def test_a_tenant_that_cannot_be_read_is_not_valid() -> None:
    """L-06: the safe side is to let nobody in."""

    async def scenario(keys: Keys) -> None:
        text = (await keys.add_key(TENANT)).encode()
        await keys.documents.put("tenant", TENANT, TENANT, b"{", expected=None)
        assert keys.ring.authenticate(text) is None

    with_keys(scenario)


def test_a_text_belongs_to_one_tenant() -> None:
    """A-03: a second document with the digest of somebody's key changes nothing about that key."""

    async def scenario(keys: Keys) -> None:
        await keys.add_tenant("thief")
        text = await keys.add_key(TENANT)
        await keys.add_key("thief", text=text, key_id="b" * 16)
        await keys.documents.delete("key", "thief", "b" * 16, expected=None)
        credential = keys.ring.authenticate(text.encode())
        assert credential is not None
        assert credential.tenant == TENANT

    with_keys(scenario)


def test_unknown_scopes_mean_nothing() -> None:
    """A scope of a later release is not one of ours."""

    async def scenario(keys: Keys) -> None:
        text = await keys.add_key(TENANT, "limits:check", "limits:everything")
        credential = keys.ring.authenticate(text.encode())
        assert credential is not None
        assert credential.scopes == {"limits:check"}

    with_keys(scenario)


def test_a_ring_made_late_knows_the_keys_that_are_there() -> None:
    """The order of polls, tenants and keys does not matter."""

    async def scenario(keys: Keys) -> None:
        await keys.add_tenant("late")
        text = await keys.add_key("late")
        fresh = Keys()
        late = type(keys.ring)(keys.documents, keys.clock)
        assert late.authenticate(text.encode()) is not None
        await fresh.documents.poll()
        assert fresh.ring.authenticate(text.encode()) is None

    with_keys(scenario)


@pytest.mark.parametrize(
    ("field", "secret"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer abc", b"abc"),
        (b"BEARER   abc ", b"abc"),
        (b"Bearer ", b""),
        (b"Bearerabc", None),
        (b"Basic abc", None),
        (b"abc", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_bearer_credential_is_read(field: bytes | None, secret: bytes | None) -> None:
    """RFC 6750 2.1: the scheme in any case, then the credential."""
    assert secret == bearer_secret(field)


def test_a_scope_is_required() -> None:
    """A-02: one that the key has, or a refusal that names it."""
    credential = Credential(tenant=TENANT, key_id="k", scopes=frozenset({"limits:read"}))
    credential.require("limits:read")
    with pytest.raises(ForbiddenError) as raised:
        credential.require("limits:write")
    assert raised.value.scope == "limits:write"


def test_key_texts_are_random_and_of_one_form() -> None:
    """S-07: 256 bits behind the prefix; ids are 16 hexadecimal digits."""
    texts = {new_key_text() for _ in range(1_000)}
    assert len(texts) == 1_000
    assert all(re.fullmatch(r"tnk_[A-Za-z0-9_-]{43}", text) for text in texts)
    assert re.fullmatch(r"[0-9a-f]{16}", new_key_id())


def test_what_is_stored_of_a_key_is_not_the_key() -> None:
    """A-05: the record has a digest of the whole text, in the form that is documented."""
    text = "tnk_" + "A" * 43
    record = KeyRecord(digest=key_digest(text), scopes=["limits:read"], label="ci", created_ms=1)
    assert text.encode() not in msgspec.json.encode(record)
    assert msgspec.json.decode(msgspec.json.encode(record)) == {
        "digest": key_digest(text),
        "scopes": ["limits:read"],
        "label": "ci",
        "created_ms": 1,
        "expires_ms": None,
    }
    assert re.fullmatch(r"[0-9a-f]{64}", key_digest(text))
    assert msgspec.json.decode(b'{"created_ms":5}', type=TenantRecord) == TenantRecord(created_ms=5)
