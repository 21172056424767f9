"""Tells subscribers what happens to runs.

A run keeps a notice as an errand, in the commit of what it is about, so none is lost. To tell it is to give it to one
delivery for each subscriber (shared/webhooks/delivery.py); the name of a delivery follows from what it is about, so
an errand that is carried out again tells nobody twice by itself.
"""

from typing import Any

from services.workflows.intents import Notify
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
        try:
            look: Look = await host.call(run, WorkflowRun.look, 0)
        except NotFoundError:
            return
        told = _told(run, notice, look, at_ms=host.store_clock.now_ms())
        for name in listeners:
            await host.call(delivery_address(run.tenant, name, told.id), Delivery.tell, told)


def _told(run: Address, notice: Notify, look: Look, *, at_ms: int) -> Told:
    what = (run, look.run.started_ms, look.run.generation, notice.event, notice.path, notice.serial, notice.data)
    data: dict[str, Any] = {
        "run": run.name,
        "definition": look.run.definition,
        "version": look.run.version,
        "attributes": look.attributes,
    }
    if notice.path:
        data["step"] = notice.path
    if notice.data is not None:
        data.update(notice.data if isinstance(notice.data, dict) else {"detail": notice.data})
    return told_of(notice.event, what, data, at_ms=at_ms)
