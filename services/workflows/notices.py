"""Tells subscribers what happens to runs.

A run keeps a notice as an errand, in the commit of what it is about, so none is lost. To tell it is to give it to one
delivery for each subscriber (shared/webhooks/delivery.py); the name of a delivery follows from what it is about, so
an errand that is carried out again tells nobody twice by itself.
"""

from typing import Any

from services.workflows.errands import whose_of
from services.workflows.intents import Notify, Whose
from services.workflows.run import WorkflowRun
from services.workflows.standing import Look
from shared.errors import NotFoundError
from shared.objects.address import Address
from shared.objects.host import Host
from shared.webhooks.book import WebhookBook
from shared.webhooks.delivery import Delivery, Told
from shared.webhooks.notice import delivery_address, told_of


class WebhookSender:
    """Tells subscribers: makes a delivery for each."""

    def __init__(self, book: WebhookBook) -> None:
        self._book = book

    async def __call__(self, host: Host, run: Address, notice: Notify) -> None:
        """Give the notice to its deliveries. A run that is gone says nothing more."""
        listeners = self._book.listeners(run.tenant, notice.event)
        if not listeners:
            return
        whose = notice.whose
        if whose is None:
            try:
                look: Look = await host.call(run, WorkflowRun.look, 0)
            except NotFoundError:
                return
            whose = whose_of(look.run, look.attributes)
        told = _told(run, notice, whose, at_ms=host.store_clock.now_ms())
        for name in listeners:
            await host.call(delivery_address(run.tenant, name, told.id), Delivery.tell, told)


def _told(run: Address, notice: Notify, whose: Whose, *, at_ms: int) -> Told:
    what = (run, whose.started_ms, whose.generation, notice.event, notice.path, notice.serial, notice.data)
    data: dict[str, Any] = {
        "run": run.name,
        "definition": whose.definition,
        "version": whose.version,
        "attributes": whose.attributes,
    }
    if notice.path:
        data["step"] = notice.path
    if notice.data is not None:
        data.update(notice.data if isinstance(notice.data, dict) else {"detail": notice.data})
    return told_of(notice.event, what, data, at_ms=at_ms)
