"""The secrets of the service: one 32-byte master for each key id, and what is derived from it.

Key id 0 is the *routing* master: it names tenants and principals in tokens, and never changes, or nobody's
sessions would be found again. Every other master signs: the first in the list makes new tokens, the others are
accepted until they are taken out, which signs everybody out whose token is as old.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import ConfigurationError
from shared.masters import derived, read_masters
from shared.webhooks.book import WebhookKeys

ROUTING_ID = 0
_EXAMPLE = "0:<43 characters>,1:<43 characters>"


class SigningKeys(NamedTuple):
    """What is derived from one master: for the token's own check, for what is stored of it, for its successors."""

    edge: bytes
    verifier: bytes
    successor: bytes


class KeySet:
    """All keys of a service, and which of them makes new tokens."""

    __slots__ = ("principal", "signing", "signing_id", "tenant", "webhook")

    def __init__(self, masters: Mapping[int, bytes], *, signing_id: int) -> None:
        assert ROUTING_ID in masters
        assert signing_id in masters
        assert signing_id != ROUTING_ID
        routing = masters[ROUTING_ID]
        self.tenant = derived(routing, b"tenure sessions tenant")
        self.principal = derived(routing, b"tenure sessions principal")
        self.signing_id = signing_id
        self.signing = {key_id: _signing(master) for key_id, master in masters.items() if key_id != ROUTING_ID}
        by_id = {
            key_id: derived(master, b"tenure sessions webhook")
            for key_id, master in masters.items()
            if key_id != ROUTING_ID
        }
        self.webhook = WebhookKeys(newest=signing_id, by_id=by_id)


def read_keys(text: str) -> KeySet:
    """The keys of a list as `0:<base64url>,1:<base64url>`; the first after 0 signs.

    Raises:
        ConfigurationError: it is no such list. The sentence does not repeat it.
    """
    masters = read_masters(text, "TENURE_SESSION_KEYS")
    signing = [key_id for key_id in masters if key_id != ROUTING_ID]
    if ROUTING_ID not in masters or not signing:
        raise ConfigurationError(
            f"TENURE_SESSION_KEYS needs the routing key 0 and at least one that signs, as in {_EXAMPLE}."
        )
    return KeySet(masters, signing_id=signing[0])


def _signing(master: bytes) -> SigningKeys:
    return SigningKeys(
        edge=derived(master, b"tenure sessions edge"),
        verifier=derived(master, b"tenure sessions verifier"),
        successor=derived(master, b"tenure sessions successor"),
    )
