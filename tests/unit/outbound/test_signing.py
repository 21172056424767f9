"""Signatures of webhooks, judged by the library of Standard Webhooks (O-10)."""

import time
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.outbound.signing import SECRET_BYTES, secret_text, signed_headers

NEW, OLD = bytes(range(SECRET_BYTES)), bytes(range(1, SECRET_BYTES + 1))
BODY = '{"type":"run.succeeded","data":{"run":"größer"}}'.encode()
ID = "msg_0123456789abcdef0123456789abcdef"


def now_ms() -> int:
    """By the clock of the machine, which the library asks."""
    return int(time.time() * 1_000)


def verified(secret: bytes, headers: dict[str, str], body: bytes = BODY) -> Any:
    """What the library makes of it."""
    return Webhook(secret_text(secret)).verify(body, headers)


def test_what_we_sign_is_verified() -> None:
    """By a library that we have not written."""
    assert "run.succeeded" == verified(NEW, signed_headers(ID, now_ms(), BODY, [NEW]))["type"]


def test_while_a_secret_is_replaced_either_verifies() -> None:
    """Two signatures; a secret that signs no more does not."""
    both = signed_headers(ID, now_ms(), BODY, [NEW, OLD])
    assert 2 == len(both["webhook-signature"].split(" "))
    assert verified(NEW, both) == verified(OLD, both)
    with pytest.raises(WebhookVerificationError):
        verified(OLD, signed_headers(ID, now_ms(), BODY, [NEW]))


def test_nothing_of_a_message_can_be_changed() -> None:
    """No byte of the body, not the id, not the time; and one of ten minutes ago, or to come, is refused."""
    headers = signed_headers(ID, now_ms(), BODY, [NEW])
    for at in range(len(BODY)):
        with pytest.raises(WebhookVerificationError):
            verified(NEW, headers, BODY[:at] + bytes((BODY[at] ^ 1,)) + BODY[at + 1 :])
    for changed in ({"webhook-id": "msg_1"}, {"webhook-timestamp": str(now_ms() // 1_000 - 1)}):
        with pytest.raises(WebhookVerificationError):
            verified(NEW, headers | changed)
    for away_ms in (-600_000, 600_000):
        with pytest.raises(WebhookVerificationError):
            verified(NEW, signed_headers(ID, now_ms() + away_ms, BODY, [NEW]))


def test_an_id_that_would_be_ambiguous_is_our_own_fault() -> None:
    """What is signed is split at full stops."""
    with pytest.raises(AssertionError):
        signed_headers("msg_1.2", now_ms(), BODY, [NEW])
