"""What workers call: poll a queue, say that they live, bring what they made of a task, or give it back."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, PathParameter

from services.workflows.desk import Desk, Given, queue_address
from services.workflows.events import Completed, Failed
from services.workflows.paths import name_in
from services.workflows.queue import LISTED, QueueLook, TaskQueue
from services.workflows.refusals import (
    AlreadyCompletedError,
    PayloadTooLargeError,
    RunClosedError,
    RunTooLargeError,
    SupersededError,
    TimedOutError,
    UnknownSerialError,
)
from services.workflows.routes.access import READ, WORK, TheRuns
from services.workflows.task_schemas import (
    CompleteTask,
    FailTask,
    LostWorkerView,
    PollQueue,
    QueueList,
    QueueView,
    TaskAnswered,
    TaskBeat,
    TaskHeartbeat,
    TaskList,
    TaskView,
    WorkerView,
)
from services.workflows.tickets import Ticket, ticket_of, token_of
from shared.http.arrival import arrival_of
from shared.http.auth import Caller, require
from shared.http.calls import WRITE_PROBLEMS, AnyRequest
from shared.http.cursors import PageCursor, PageLimit, read_cursor, written_cursor
from shared.objects.errors import DeadlineExceededError

TheDesk = NamedDependency[Desk]
Token = Annotated[str, PathParameter(description="As the task was given with it.")]
_NONE = {204: ResponseSpec(data_container=None, description="Nothing to do for as long as was waited.")}
_LATE = (*WRITE_PROBLEMS, SupersededError, AlreadyCompletedError, TimedOutError, RunClosedError, UnknownSerialError)
_TOO_LARGE = (PayloadTooLargeError, RunTooLargeError)
say = partial(
    post,
    status_code=200,
    guards=[require(WORK)],
    problems=(*_LATE, *_TOO_LARGE),
    durable=True,
    of_object=True,
    tags=["tasks"],
)
"""A route by which whoever has a task says something of it."""


@post(
    "/v1/queues/{queue:str}/poll",
    status_code=200,
    guards=[require(WORK)],
    problems=WRITE_PROBLEMS,
    responses=_NONE,
    response_description="Tasks, each leased to the worker until its `lease_until_ms`.",
    durable=True,
    of_object=True,
    tags=["tasks"],
)
async def poll_queue(
    *,
    credential: Caller,
    desk: TheDesk,
    runs: TheRuns,
    queue: FromPath[str],
    data: JSONBody[PollQueue],
    request: AnyRequest,
) -> Response[TaskList | None]:
    """Lease the oldest tasks of a queue as soon as there is one (200), or none in the time (204)."""
    address = queue_address(credential.tenant, name_in(queue, "queue"))
    polling = desk.poll(address, data.worker, count=data.max, lease_ms=data.lease_s * 1_000, wait_ms=data.wait_ms)
    given = await _while_there(request, polling)
    arrival_of(request.scope).object_requests = runs.host.turns_of(address)
    if not given:
        return Response(None, status_code=204)
    return Response(TaskList(tasks=[_task(one) for one in given]))


@say("/v1/tasks/{token:str}/complete")
async def complete_task(
    *, credential: Caller, desk: TheDesk, runs: TheRuns, token: Token, data: JSONBody[CompleteTask], request: AnyRequest
) -> TaskAnswered:
    """The task is done. The first answer counts; the same one again is answered alike, with `repeated`."""
    ticket = ticket_of(token)
    event = Completed(path=ticket.path, serial=ticket.serial, result=data.result)
    fresh = await desk.answer(credential.tenant, ticket, event)
    return _answered(request, runs, credential.tenant, ticket, fresh=fresh)


@say("/v1/tasks/{token:str}/fail")
async def fail_task(
    *, credential: Caller, desk: TheDesk, runs: TheRuns, token: Token, data: JSONBody[FailTask], request: AnyRequest
) -> TaskAnswered:
    """The task is not done. The definition says what follows, unless the worker knows that to retry is in vain."""
    ticket = ticket_of(token)
    event = Failed(
        path=ticket.path,
        serial=ticket.serial,
        error=data.error,
        cause=data.cause,
        data=data.data,
        retry_after_ms=data.retry_after_ms,
        retry=data.retry,
    )
    fresh = await desk.answer(credential.tenant, ticket, event)
    return _answered(request, runs, credential.tenant, ticket, fresh=fresh)


@say("/v1/tasks/{token:str}/heartbeat")
async def heartbeat_task(
    *,
    credential: Caller,
    desk: TheDesk,
    runs: TheRuns,
    token: Token,
    data: JSONBody[TaskHeartbeat],
    request: AnyRequest,
) -> TaskBeat:
    """The worker lives: its lease is extended by its length, and what it tells of its progress is shown in the run.

    `cancel_requested` says that the run does not want the task any more: stop, and give it back.
    """
    ticket = ticket_of(token)
    beat = await desk.beat(credential.tenant, ticket, data.progress)
    _count(request, runs, credential.tenant, ticket)
    return TaskBeat(lease_until_ms=beat.until_ms, cancel_requested=not beat.wanted)


@post(
    "/v1/tasks/{token:str}/release",
    status_code=204,
    guards=[require(WORK)],
    problems=(*WRITE_PROBLEMS, SupersededError, UnknownSerialError),
    durable=True,
    of_object=True,
    tags=["tasks"],
)
async def release_task(*, credential: Caller, desk: TheDesk, runs: TheRuns, token: Token, request: AnyRequest) -> None:
    """Give the task back undone: another worker gets it at once, and no attempt is counted."""
    ticket = ticket_of(token)
    await desk.release(credential.tenant, ticket)
    _count(request, runs, credential.tenant, ticket)


@get(
    "/v1/queues/{queue:str}", guards=[require(READ)], problems=(DeadlineExceededError,), of_object=True, tags=["tasks"]
)
async def get_queue(
    credential: Caller, desk: TheDesk, runs: TheRuns, queue: FromPath[str], request: AnyRequest
) -> QueueView:
    """How many tasks wait and since when, who has the others, and which workers were not heard of again."""
    name = name_in(queue, "queue")
    address = queue_address(credential.tenant, name)
    look = await desk.look(address)
    arrival_of(request.scope).object_requests = runs.host.turns_of(address)
    return _queue(name, look, now_ms=runs.host.store_clock.now_ms())


@get("/v1/queues", guards=[require(READ)], problems=(DeadlineExceededError,), tags=["tasks"])
async def get_queues(
    *, credential: Caller, runs: TheRuns, cursor: PageCursor = None, limit: PageLimit = 100
) -> QueueList:
    """The names of the queues that have or had tasks, the longest known first."""
    after = read_cursor(cursor, TaskQueue.kind, credential.tenant)
    page = await runs.host.listings.find(TaskQueue, credential.tenant, LISTED, "", after=after, limit=limit)
    more = None if page.after is None else written_cursor(page.after)
    return QueueList(queues=[row.address.name for row in page.rows], next_cursor=more)


async def _while_there(request: AnyRequest, polling: Coroutine[None, None, list[Given]]) -> list[Given]:
    """What the poll gives; it ends with nothing when its caller goes away, lest tasks be leased to nobody."""

    async def watch(polled: asyncio.Task[list[Given]]) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        polled.cancel()

    loop = asyncio.get_running_loop()
    polled = loop.create_task(polling)
    watching = loop.create_task(watch(polled))
    try:
        await asyncio.wait({polled})
    finally:
        polled.cancel()
        watching.cancel()
    return [] if polled.cancelled() else polled.result()


def _task(given: Given) -> TaskView:
    handed = given.handed
    return TaskView(
        token=token_of(given.ticket),
        queue=given.ticket.queue,
        run=given.ticket.run,
        definition=handed.definition,
        version=handed.version,
        step=handed.path,
        key=handed.key,
        attempt=handed.attempt,
        workers_lost=given.lost,
        input=handed.input,
        lease_until_ms=given.until_ms,
        due_ms=handed.due_ms,
        heartbeat_ms=handed.heartbeat_ms,
    )


def _queue(name: str, look: QueueLook, *, now_ms: int) -> QueueView:
    return QueueView(
        name=name,
        waiting=look.waiting,
        leased=look.leased,
        oldest_age_ms=None if look.oldest_ms is None else max(0, now_ms - look.oldest_ms),
        workers=[WorkerView(worker=one.worker, tasks=one.tasks, seen_ms=one.seen_ms) for one in look.workers],
        lost_workers=[
            LostWorkerView(worker=one.worker, run=one.run, seen_ms=one.seen_ms, lost_ms=one.lost_ms)
            for one in look.lost
        ],
    )


def _answered(request: AnyRequest, runs: TheRuns, tenant: str, ticket: Ticket, *, fresh: bool) -> TaskAnswered:
    _count(request, runs, tenant, ticket)
    return TaskAnswered(run=ticket.run, step=ticket.path, repeated=not fresh)


def _count(request: AnyRequest, runs: TheRuns, tenant: str, ticket: Ticket) -> None:
    arrival_of(request.scope).object_requests = runs.host.turns_of(queue_address(tenant, ticket.queue))


HANDLERS = (poll_queue, complete_task, fail_task, heartbeat_task, release_task, get_queue, get_queues)
