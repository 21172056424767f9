"""Signals that are not for ever, and those that begin a run where there is none that they are about."""

import asyncio
from typing import Any

import pytest

from tests.support.workflows_app import ORDER, Workflows, code, served

MINUTE_MS = 60_000
CART = """
workflow: cart
start: add
steps:
  add: { wait: { signal: item }, timeout: 1h, assign_vars: { first: "{% $result %}" }, next: pay }
  pay: { wait: { title: Pay }, end: true }
"""
ABOUT = {"definition": "cart", "attribute": ["user", "ann"], "name": "item", "payload": "shoes"}


async def signal(service: Workflows, *, key: str = "", **more: Any) -> Any:
    """The answer to a signal that begins a cart where there is none."""
    body = {**ABOUT, "start_if_none": {"input": 7}, **more}
    return await service.ask("POST", "/v1/signals", body, headers=[("idempotency-key", key)] if key else [])


def cart_served(scenario: Any) -> None:
    """Run a scenario with the definition of carts in place."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(CART, name="cart")).status
        await scenario(service)

    served(main)


def test_a_signal_that_nobody_takes_in_time_is_gone() -> None:
    """No later wait takes it, it is shown no more, and it takes no room; one without a time stays."""
    late = """
workflow: late
start: nap
steps: { nap: { sleep: 10m, next: a }, a: { wait: { signal: go }, next: b }, b: { wait: { signal: go }, end: true } }
"""

    async def scenario(service: Workflows) -> None:
        await service.put(late, name="late")
        run_id = await service.started("late")
        for number in range(99):
            await service.tell(run_id, "signals/go", {"payload": number, "ttl_ms": MINUTE_MS})
        await service.tell(run_id, "signals/go", {"payload": "stays"})
        assert (429, "run.mailbox_full") == code(await service.tell(run_id, "signals/go", {"payload": "full"}))
        await service.pass_time(2 * MINUTE_MS)
        assert ["go"] == (await service.run(run_id))["signals"]
        assert 202 == (await service.tell(run_id, "signals/go", {"payload": "soon", "ttl_ms": MINUTE_MS})).status
        await service.pass_time(9 * MINUTE_MS)
        run = await service.run(run_id)
        assert (["b"], []) == ([step["path"] for step in run["steps"]], run["signals"])
        await service.tell(run_id, "signals/go", {"payload": "last", "ttl_ms": 1})
        assert "last" == (await service.run(run_id))["end"]["output"]

    served(scenario)


def test_a_signal_begins_a_run_where_there_is_none() -> None:
    """With the signal, its input and the attribute; the next one finds that run, until it has ended."""

    async def scenario(service: Workflows) -> None:
        first = (await signal(service)).json()
        run = await service.run(first["started"])
        assert ([run["id"]], "shoes", 7) == (first["changed"], run["variables"]["first"], run["input"])
        assert {"user": "ann"} == run["attributes"]
        second = (await signal(service, payload="hat")).json()
        assert ([run["id"]], None) == (second["changed"], second["started"])
        assert ["item"] == (await service.run(run["id"]))["signals"]
        await service.tell(run["id"], "terminate")
        third = (await signal(service, payload="coat")).json()
        assert run["id"] == third["started"]
        assert "coat" == (await service.run(run["id"]))["variables"]["first"]
        other = (await signal(service, attribute=["user", "ben"], start_if_none={"id": "c-1"})).json()
        assert "c-1" == other["started"]

    cart_served(scenario)


def test_of_two_signals_at_once_one_begins_the_run() -> None:
    """And both are in it."""

    async def scenario(service: Workflows) -> None:
        answers = await asyncio.gather(*(signal(service, payload=number) for number in range(3)))
        started = {answer.json()["started"] for answer in answers}
        (run_id,) = started - {None}
        run = await service.run(run_id)
        assert (202, 2) == (answers[0].status, len(run["signals"]))
        assert [run_id] == [one["id"] for one in (await service.ask("GET", "/v1/runs")).json()["runs"]]

    cart_served(scenario)


def test_a_signal_under_a_key_begins_one_run_and_is_sent_once() -> None:
    """Also where the answer was lost, and time has passed."""

    async def scenario(service: Workflows) -> None:
        first = await signal(service, key="k")
        await service.pass_time(10)
        run_id = first.json()["started"]
        assert [] == (await service.run(run_id))["signals"]
        again = await signal(service, key="k")
        assert (202, [run_id]) == (again.status, again.json()["changed"])
        assert [] == (await service.run(run_id))["signals"]

    cart_served(scenario)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"definition": "ghost"}, (404, "definition.unknown")),
        ({"start_if_none": {"id": "taken"}}, (409, "run.exists")),
        ({"cursor": "x"}, (400, "invalid_input")),
        ({"payload": "x" * 100_000}, (413, "payload.too_large")),
        ({"attribute": ["a/b", "x"]}, (400, "invalid_input")),
    ],
)
def test_a_signal_that_can_begin_no_run_is_refused(more: dict[str, Any], expected: tuple[int, str]) -> None:
    """And none has begun."""

    async def scenario(service: Workflows) -> None:
        await service.started("refund", ORDER, id="taken")
        assert expected == code(await signal(service, **more))
        assert ["taken"] == [one["id"] for one in (await service.ask("GET", "/v1/runs")).json()["runs"]]

    cart_served(scenario)
