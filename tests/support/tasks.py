"""Queues of tasks with the runs that offer them, in virtual time, and what workers do at them."""

from typing import Any

from services.workflows.backlog import Offer, Task
from services.workflows.desk import Desk, Given
from services.workflows.events import Completed
from services.workflows.queue import TaskQueue
from services.workflows.run import WorkflowRun
from services.workflows.tickets import Ticket
from shared.objects.address import Address
from shared.testing.kit import Kit, Ref, run_with_kit
from tests.support.carried import Installed
from tests.support.runs import begin

LEASE_MS = 10_000
QUEUE = Address("queue", "acme", "kyc")
CHECK = """
workflow: check
start: look
steps:
  look: { task: kyc, input: { n: "{% $input %}" }, timeout: 10m, retry: [], next: done }
  done: { pass: { found: "{% $result %}" }, end: true }
"""
OPEN = CHECK.replace('pass: { found: "{% $result %}" }', "wait: { title: Go on }")


def queue_of(kit: Kit) -> Ref:
    """The queue."""
    return kit.at(TaskQueue, "acme", "kyc")


def simulated(scenario: Any) -> None:
    """Run the scenario with runs, their carrier and queues."""
    run_with_kit(scenario, kinds=Installed().kinds)


async def offered(kit: Kit, count: int) -> Ref:
    """The queue with so many tasks of runs that nobody has started: the queue itself does not mind."""
    queue = queue_of(kit)
    for number in range(count):
        await queue.offer(Offer(run=f"r-{number}", serial=1))
    return queue


async def leased(queue: Ref, count: int = 1, *, worker: str = "w", lease_ms: int = LEASE_MS) -> tuple[Task, ...]:
    """What the worker gets at once."""
    return tuple(await queue.poll(worker, count, lease_ms, 0))


async def started(kit: Kit, *, name: str = "r-1", definition: str = CHECK) -> Ref:
    """A run whose task is in the queue."""
    run = kit.at(WorkflowRun, "acme", name)
    await run.start(begin(definition, 7))
    await kit.advance(50)
    return run


async def polled(kit: Kit, *, worker: str = "w", wait_ms: int = 0) -> Given:
    """The one task that a worker gets."""
    desk = Desk(kit.node.host)
    (given,) = await kit.node.run(desk.poll(QUEUE, worker, count=1, lease_ms=LEASE_MS, wait_ms=wait_ms))
    assert isinstance(given, Given)
    return given


async def answered(kit: Kit, ticket: Ticket, result: Any = "ok") -> bool:
    """Whether the answer is new."""
    event = Completed(path=ticket.path, serial=ticket.serial, result=result)
    fresh: bool = await kit.node.run(Desk(kit.node.host).answer("acme", ticket, event))
    return fresh


def names(tasks: tuple[Task, ...]) -> list[str]:
    """Whose tasks they are."""
    return [task.offer.run for task in tasks]
