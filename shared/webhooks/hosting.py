"""The webhooks of one node, which its objects know before there are documents, and before anybody makes calls."""

from shared.objects.config import Documents
from shared.objects.errors import UnavailableError
from shared.outbound.client import Calls
from shared.webhooks.book import WebhookBook, WebhookKeys
from shared.webhooks.delivery import Delivery, Hosting, delivered_by


class Webhooks:
    """`kind` is hosted by the node; `calls` is set, and `begin` is called, when there is what they need."""

    def __init__(self, keys: WebhookKeys, calls: Calls | None = None) -> None:
        self._keys = keys
        self.calls = calls
        self._book: WebhookBook | None = None
        self.kind: type[Delivery] = delivered_by(Hosting(self.book, self._caller))

    def begin(self, documents: Documents) -> None:
        """Know the endpoints from now on."""
        self._book = WebhookBook(documents, self._keys)

    def book(self) -> WebhookBook:
        """The endpoints.

        Raises:
            UnavailableError: they are not known yet.
        """
        if self._book is None:
            raise UnavailableError("Webhooks are not known yet")
        return self._book

    def hears(self, tenant: str, event: str) -> bool:
        """Whether somebody is to be told of this. Before that is known, yes: what nobody hears is dropped later."""
        return self._book is None or bool(self._book.listeners(tenant, event))

    def _caller(self) -> Calls:
        if self.calls is None:
            raise UnavailableError("Nobody makes calls yet")
        return self.calls
