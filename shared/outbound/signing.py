"""Signs what is sent to subscribers, so that they know who has sent it, when, and that it is whole.

The form is that of Standard Webhooks 1.0 (symmetric, `v1`): any of its libraries can verify it. A repeat of a message
has the same id and another time. While a secret is being replaced there are two signatures, one of each secret.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import hmac
from base64 import b64encode
from collections.abc import Sequence

SECRET_BYTES = 32  # The specification asks for 24 to 64.


def secret_text(secret: bytes) -> str:
    """A secret as subscribers are given it."""
    return "whsec_" + b64encode(secret).decode("ascii")


def signed_headers(message_id: str, now_ms: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The header fields of one sending of a message, signed with each of the secrets. `message_id` has no full stop."""
    assert "." not in message_id, "it ends at the first one in what is signed"
    at_s = str(now_ms // 1_000)
    signed = f"{message_id}.{at_s}.".encode() + body
    signatures = (b64encode(hmac.digest(secret, signed, "sha256")).decode("ascii") for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at_s,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
