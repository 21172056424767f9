"""Tokens: what was issued is read back, everything else is nothing, and no two purposes share a key."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.keys import read_keys
from services.sessions.tokens import (
    PREFIX,
    TEXT_LENGTH,
    Token,
    Tokens,
    new_nonce,
    new_session_id,
    session_bytes,
    session_text,
)
from shared.errors import ConfigurationError
from shared.masters import derived
from tests.architecture.tree import ROOT
from tests.support.environment import PROVE
from tests.support.signing_in import key_list

TOKENS = Tokens(read_keys(key_list(0, 1, 2)))
SESSIONS = ROOT / "services/sessions"


def token(session: bytes = bytes(12), generation: int = 1, nonce: bytes = bytes(16), key_id: int = 1) -> Token:
    return TOKENS.first(
        key_id,
        tenant_ref=TOKENS.tenant_ref("acme"),
        principal_ref=TOKENS.principal_ref("acme", "ann"),
        session=session,
        generation=generation,
        nonce=nonce,
    )


def test_a_token_is_read_back_as_it_was_made() -> None:
    """Its text has a prefix that scanners find, and always the same length."""
    made = token(new_session_id(), 7, new_nonce(), 2)
    text = TOKENS.text(made)
    assert made == TOKENS.read(text.encode())
    assert (PREFIX, TEXT_LENGTH, 124) == (text[:4], len(text), TEXT_LENGTH)


def test_a_token_shows_no_secret_when_it_is_printed() -> None:
    """Not in a log line by accident either."""
    made = token()
    assert made.secret.hex() not in repr(made)
    assert repr(made.secret) not in repr(made)


def test_a_successor_is_the_same_for_all_who_know_the_nonce() -> None:
    """And another one for another nonce, key or predecessor."""
    made = token()
    successor = TOKENS.successor(made, key_id=1, nonce=bytes(16))
    assert successor == TOKENS.successor(made, key_id=1, nonce=bytes(16))
    assert 2 == successor.generation
    others = [
        TOKENS.successor(made, key_id=1, nonce=b"1" * 16),
        TOKENS.successor(made, key_id=2, nonce=bytes(16)),
        TOKENS.successor(token(nonce=b"1" * 16), key_id=1, nonce=bytes(16)),
        made,
    ]
    assert successor.secret not in {other.secret for other in others}


@given(st.integers(0, TEXT_LENGTH - 1), st.integers(0, 255))
def test_a_token_with_another_byte_anywhere_is_none(place: int, byte: int) -> None:
    """Whatever it is, and in whatever alphabet."""
    text = TOKENS.text(token()).encode()
    changed = text[:place] + bytes([byte]) + text[place + 1 :]
    assert (token() if changed == text else None) == TOKENS.read(changed)


@given(st.binary(max_size=200))
def test_garbage_is_none(raw: bytes) -> None:
    """Of any length, with the prefix and without."""
    assert TOKENS.read(raw) is None
    assert TOKENS.read(b"tns_" + raw) is None


def test_a_token_has_one_spelling() -> None:
    """The other alphabet of base64 is not accepted, nor padding, nor space around it."""
    text = TOKENS.text(token(nonce=b"3" * 16)).encode()
    spellings = (text.replace(b"-", b"+").replace(b"_", b"/"), text + b"=", b" " + text, text + b"\n", text.upper())
    assert [None] * 5 == [None if spelling == text else TOKENS.read(spelling) for spelling in spellings]


def test_a_token_of_another_set_of_keys_is_none() -> None:
    """S-24: of an unknown key id, or a known one with another key."""
    text = TOKENS.text(token()).encode()
    assert Tokens(read_keys(key_list(0, 2))).read(text) is None
    other = key_list(0, 3).replace("3:", "1:")
    assert Tokens(read_keys(other)).read(text) is None


def unique_secrets(count: int) -> int:
    """How many different ones there are among so many, each of 256 bits."""
    secrets = {token(nonce=new_nonce()).secret for _ in range(count)}
    assert {32} == {len(secret) for secret in secrets}
    return len(secrets)


def test_s07_secrets_are_unique() -> None:
    """S-07: and so are session ids."""
    assert 10_000 == unique_secrets(10_000)
    assert 10_000 == len({new_session_id() for _ in range(10_000)})


@pytest.mark.slow
def test_s07_a_million_secrets_are_unique() -> None:
    """S-07: at full size; a tenth of them where nothing is to be proven."""
    count = 1_000_000 if PROVE else 100_000
    assert count == unique_secrets(count)


def test_s07_nothing_but_the_system_makes_randomness() -> None:
    """S-07: no module of the service imports `random` or `uuid`."""
    imported = {name for path in SESSIONS.rglob("*.py") for name in _imports(path)}
    assert set() == imported & {"random", "uuid"}


def test_s10_secrets_are_compared_in_constant_time() -> None:
    """S-10: no `==` or `!=` in the service touches a verifier, a check, a digest or a secret."""
    touched = []
    for path in SESSIONS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                text = ast.unparse(node)
                if any(word in text for word in ("verifier", "check", "secret", "digest", "mac")):
                    touched.append(f"{path.name}: {text}")
    assert [] == touched


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Held to the library of the test environment's own HKDF in two steps, written out."""
    import hashlib
    import hmac

    master, label = bytes(range(32)), b"label"
    extracted = hmac.new(bytes(32), master, hashlib.sha256).digest()
    assert hmac.new(extracted, label + b"\x01", hashlib.sha256).digest() == derived(master, label)


def test_the_first_key_that_signs_makes_new_tokens() -> None:
    """The routing key signs nothing, wherever it stands."""
    assert [1, 2, 2] == [read_keys(text).signing_id for text in (key_list(0, 1, 2), key_list(0, 2, 1), key_list(2, 0))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0:" + "A" * 43,
        key_list(1),
        key_list(0, 1) + "," + key_list(1),
        key_list(0) + ",256:" + "A" * 43,
        key_list(0) + ",1:" + "A" * 42,
        key_list(0) + ",x:" + "A" * 43,
        key_list(0) + ",1:ü" + "A" * 42,
        key_list(0) + ",1",
    ],
)
def test_a_list_of_keys_that_cannot_be_read_is_refused_without_being_repeated(text: str) -> None:
    """One sentence, with none of the keys in it."""
    with pytest.raises(ConfigurationError) as caught:
        read_keys(text)
    assert "AAAA" not in str(caught.value)


def test_a_session_id_has_one_text() -> None:
    """Sixteen characters, read back as it was; what is none is none."""
    raw = new_session_id()
    assert raw == session_bytes(session_text(raw))
    assert [None] * 4 == [session_bytes(text) for text in ("", "ü" * 16, "A" * 15, "+" * 16)]


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_an_id_of_a_session_is_never_taken_for_an_option() -> None:
    """Whoever types it after a command need not think of that."""
    assert not [text for text in (session_text(new_session_id()) for _ in range(2_000)) if text.startswith("-")]
