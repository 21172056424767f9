"""Deliveries of webhooks over days and crashes: each is sent until it is taken or given up, under one id."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from shared.bounds import WEBHOOK_DELIVERED_KEPT_MS, WEBHOOK_GIVEN_UP_KEPT_MS
from shared.errors import NotFoundError
from shared.objects.config import Documents
from shared.objects.errors import UnavailableError
from shared.outbound.client import TenantBusyError
from shared.testing.clock import ManualClock
from shared.testing.faults import FaultKind
from shared.testing.kit import Kit, Ref, run_with_kit
from shared.testing.store import MemoryStore
from shared.webhooks.book import Subscription, WebhookBook, WebhookKeys
from shared.webhooks.delivery import Delivery, Hosting, Told, delivered_by
from tests.support.receivers import Receivers, replied

TOLD = Told(id="msg_1", event="run.failed", body=b'{"type":"run.failed"}', at_ms=1)
HOUR_MS = 3_600_000
DAYS_MS = 200 * 24 * HOUR_MS


def with_delivery(scenario: Any, receivers: Receivers) -> None:
    """Run a scenario with a message to the endpoint `shop`, which these receivers answer."""
    clock = ManualClock()
    book = WebhookBook(Documents(MemoryStore(clock), "wf", clock), WebhookKeys(newest=1, by_id={1: b"k" * 32}))

    async def main(kit: Kit) -> None:
        await book.put("acme", "shop", Subscription(url="https://shop.example"))
        await scenario(kit, kit.at(Delivery, "acme", "shop/msg_1"))

    kinds = [delivered_by(Hosting(lambda: book, lambda: receivers))]
    run_with_kit(main, kinds=kinds, limit_ms=DAYS_MS)


async def away(kit: Kit, ms: int) -> None:
    """Let time pass in which no node lives."""
    await kit.node.kill()
    await asyncio.sleep(ms / 1_000)
    await kit.start()


async def until_next(kit: Kit, message: Ref) -> bool:
    """Let time pass until the next sending has ended; False where there is none."""
    next_ms = (await message.look()).next_ms
    if next_ms is None:
        return False
    await away(kit, max(0, next_ms - kit.now_ms() - 1_000))
    await kit.advance(2_000)
    return True


def test_a_message_that_nobody_takes_is_sent_ten_times_in_three_days_and_kept_for_thirty() -> None:
    """The waits are those of Standard Webhooks, longer by a tenth at most."""
    receivers = Receivers(replied(500))

    async def scenario(kit: Kit, message: Ref) -> None:
        await message.tell(TOLD)
        await kit.advance(1_000)
        times = [(await message.look()).attempts[0].at_ms]
        while await until_next(kit, message):
            times.append((await message.look()).attempts[0].at_ms)
        waits_s = [(after - before) / 1_000 for before, after in pairwise(times)]
        nominal_s = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
        assert len(nominal_s) == len(waits_s)
        assert all(nominal <= wait <= 1.1 * nominal + 1 for nominal, wait in zip(nominal_s, waits_s, strict=True))
        look = await message.look()
        assert ("given_up", "its last answer was 500", 10) == (look.status, look.cause, len(receivers.made))
        await away(kit, WEBHOOK_GIVEN_UP_KEPT_MS - HOUR_MS)
        assert "given_up" == (await message.look()).status
        await away(kit, 2 * HOUR_MS)
        with pytest.raises(NotFoundError):
            await message.look()

    with_delivery(scenario, receivers)


def test_a_message_that_was_taken_is_known_for_three_days() -> None:
    """Whoever tells it once more meanwhile tells nobody; then it is forgotten."""
    receivers = Receivers(replied(200))

    async def scenario(kit: Kit, message: Ref) -> None:
        await message.tell(TOLD)
        await kit.advance(1_000)
        await message.tell(TOLD)
        await away(kit, WEBHOOK_DELIVERED_KEPT_MS - HOUR_MS)
        await message.tell(TOLD)
        await kit.advance(1_000)
        assert ("delivered", 1) == ((await message.look()).status, len(receivers.made))
        await away(kit, 2 * HOUR_MS)
        with pytest.raises(NotFoundError):
            await message.look()
        with pytest.raises(NotFoundError):
            await message.tell_again()

    with_delivery(scenario, receivers)


def test_a_message_that_waits_for_others_of_its_tenant_has_not_failed() -> None:
    """However often there is no room to send it: it is sent when there is."""
    busy = [TenantBusyError("Busy", retry_after_ms=1_000) for _ in range(50)]
    receivers = Receivers(*busy, replied(200))

    async def scenario(kit: Kit, message: Ref) -> None:
        await message.tell(TOLD)
        await kit.advance(60_000)
        assert ("pending", ()) == ((look := await message.look()).status, look.attempts)
        await kit.advance(120_000)
        look = await message.look()
        assert ("delivered", [200], 51) == (look.status, [one.status for one in look.attempts], len(receivers.made))

    with_delivery(scenario, receivers)


@pytest.mark.parametrize("kind", [FaultKind.AWAY, FaultKind.REQUEST_LOST, FaultKind.REPLY_LOST, FaultKind.REPEAT])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_whatever_a_commit_meets_the_message_is_sent_and_its_end_is_known(kind: FaultKind, nth: int) -> None:
    """Maybe more than once, always with its id."""
    receivers = Receivers(replied(500), replied(200))

    async def scenario(kit: Kit, message: Ref) -> None:
        if nth <= 2 or kind is not FaultKind.AWAY:
            kit.faults.next("commit", kind, nth=nth, delay_ms=20)
        await message.tell(TOLD)
        await kit.advance(30_000)
        assert "delivered" == (await message.look()).status
        assert {"msg_1"} == {made.request.engine_headers["webhook-id"] for made in receivers.made}
        assert 2 <= len(receivers.made) <= 3

    with_delivery(scenario, receivers)


def test_a_crash_while_a_message_is_being_sent_sends_it_again() -> None:
    """The next node does, soon after it has the object."""
    reached = asyncio.Event()

    async def hang(_: Any) -> None:
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(10)

    receivers = Receivers(replied(200), before=hang)

    async def scenario(kit: Kit, message: Ref) -> None:
        await message.tell(TOLD)
        await reached.wait()
        await kit.kill()
        await kit.advance(2_000)
        assert ("delivered", 2) == ((await message.look()).status, len(receivers.made))

    with_delivery(scenario, receivers)


def test_before_a_node_knows_its_webhooks_a_message_waits() -> None:
    """It is tried again by its alarm, and no attempt counts."""

    def unknown() -> Any:
        raise UnavailableError("Webhooks are not known yet")

    async def scenario(kit: Kit) -> None:
        message = kit.at(Delivery, "acme", "shop/msg_1")
        await message.tell(TOLD)
        await kit.advance(5_000)
        look = await message.look()
        assert ("pending", ()) == (look.status, look.attempts)
        assert kit.alarms(message)

    run_with_kit(scenario, kinds=[delivered_by(Hosting(unknown, unknown))])
