"""The secrets of the service: what signs tokens of callbacks, and what signs webhooks.

They are derived from masters that are not in the store: whoever reads the store can make neither. The first master of
the list makes what is new; what the others have made is accepted until they are taken out.
"""

from collections.abc import Mapping

from shared.errors import ConfigurationError
from shared.masters import derived, read_masters
from shared.webhooks.book import WebhookKeys

_VARIABLE = "TENURE_WORKFLOW_KEYS"


class KeySet:
    """All keys of the service, by the ids of their masters, and which of them makes what is new."""

    __slots__ = ("callback", "newest", "webhook")

    def __init__(self, masters: Mapping[int, bytes]) -> None:
        self.newest = next(iter(masters))
        self.callback = {key_id: derived(master, b"tenure workflows callback") for key_id, master in masters.items()}
        webhook = {key_id: derived(master, b"tenure workflows webhook") for key_id, master in masters.items()}
        self.webhook = WebhookKeys(newest=self.newest, by_id=webhook)


def read_keys(text: str) -> KeySet:
    """The keys of a list as `1:<base64url>,2:<base64url>`; the first makes what is new.

    Raises:
        ConfigurationError: it is empty, or no such list. The sentence does not repeat it.
    """
    if not text:
        raise ConfigurationError(
            f"{_VARIABLE} must hold the keys of callbacks and webhooks; see docs/reference/settings.md."
        )
    return KeySet(read_masters(text, _VARIABLE))
