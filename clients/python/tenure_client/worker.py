"""A worker: polls queues, runs a handler for each task, keeps its leases, and stops without leaving one behind.

    worker = Worker("http://127.0.0.1:7102", key)

    @worker.task("kyc.identity")
    async def check(task: Task) -> dict[str, bool]:
        return {"clean": await look_up(task.input["owner"], idempotency_key=task.key)}

    worker.run()

What a handler returns completes its task, `TaskFailedError` fails it, and so does every other exception. A plain `def`
runs in a thread. While a handler runs, a sign of life goes to the service three times a lease; where the answer is that
nobody wants the task any more, an `async` handler is cancelled and any handler sees `task.cancel_requested`.

SIGTERM and SIGINT stop it: it polls no more, handlers have `grace_s` to end, and the tasks of the others are given
back, so that another worker has them at once. A worker that is killed loses its leases in their time.
"""

import asyncio
import inspect
import logging
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

from tenure_client.errors import ApiError, TaskCancelledError, TaskFailedError, UnreachableError
from tenure_client.tasks import Task
from tenure_client.transport import Transport, pause_s

Handler = TypeVar("Handler", bound=Callable[[Task], Any])
POLL_TASKS_MAX = 50  # The most that the service gives in one answer.
BEATS_PER_LEASE = 3
_NOT_OURS = frozenset({404, 409, 410})
_log = logging.getLogger("tenure.worker")


class Worker:
    """Handlers by queue, and how many tasks of each queue at a time."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        name: str = "",
        concurrency: int = 10,
        lease_s: int = 60,
        poll_s: float = 20.0,
        grace_s: float = 20.0,
    ) -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._url, self._key = url, key
        self.lease_s, self.poll_s, self.grace_s = lease_s, poll_s, grace_s
        self._concurrency = concurrency
        self._handlers: dict[str, tuple[Callable[[Task], Any], int]] = {}
        self._stopping = asyncio.Event()

    def task(self, queue: str, *, concurrency: int | None = None) -> Callable[[Handler], Handler]:
        """Say who does the tasks of a queue, and how many of them at a time."""

        def register(handler: Handler) -> Handler:
            self._handlers[queue] = (handler, concurrency or self._concurrency)
            return handler

        return register

    @property
    def handlers(self) -> dict[str, Callable[[Task], Any]]:
        """The handler of each queue, to be called in a test with `Task.example(...)`."""
        return {queue: handler for queue, (handler, _) in self._handlers.items()}

    def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """Poll no more, and end when the tasks under way have ended or were given back. On the worker's loop."""
        self._stopping.set()

    async def serve(self) -> None:
        """Work until `stop`."""
        threads = ThreadPoolExecutor(max_workers=sum(count for _, count in self._handlers.values()) or 1)
        transport = Transport(self._url, self._key)
        try:
            async with asyncio.TaskGroup() as group:
                for queue, (handler, count) in self._handlers.items():
                    line = _Line(self, transport, threads, queue=queue, handler=handler, count=count)
                    group.create_task(line.work(self._stopping))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            await transport.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.serve()


class _Line:
    """The tasks of one queue: as many at a time as its handler takes."""

    def __init__(
        self,
        worker: Worker,
        transport: Transport,
        threads: ThreadPoolExecutor,
        *,
        queue: str,
        handler: Callable[[Task], Any],
        count: int,
    ) -> None:
        self._worker, self._transport, self._threads = worker, transport, threads
        self._path = f"/v1/queues/{quote(queue, safe='')}/poll"
        self._handler, self._count = handler, count
        self._under_way: set[asyncio.Task[None]] = set()

    async def work(self, stopping: asyncio.Event) -> None:
        """Poll and do tasks until the worker stops; then wait for those under way, or give them back."""
        loop = asyncio.get_running_loop()
        stopped = loop.create_task(stopping.wait())
        tries = 0
        while not stopping.is_set():
            if len(self._under_way) >= self._count:
                await asyncio.wait({stopped, *self._under_way}, return_when=asyncio.FIRST_COMPLETED)
                continue
            polling = loop.create_task(self._poll(self._count - len(self._under_way)))
            await asyncio.wait({stopped, polling}, return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                polling.cancel()
                break
            try:
                shown = polling.result()
                tries = 0
            except (ApiError, UnreachableError) as error:
                _log.warning("cannot poll %s: %s", self._path, error)
                await asyncio.wait({stopped}, timeout=pause_s(tries))
                tries += 1
                continue
            for one in shown:
                self._begin(Task(one))
        await self._end()
        stopped.cancel()

    def _begin(self, task: Task) -> None:
        doing = asyncio.get_running_loop().create_task(self._do(task))
        self._under_way.add(doing)
        doing.add_done_callback(self._under_way.discard)

    async def _end(self) -> None:
        """Let what is under way end in its time, and give back the rest."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._worker.grace_s)
        for doing in list(self._under_way):
            doing.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _poll(self, count: int) -> list[dict[str, Any]]:
        body = {
            "worker": self._worker.name,
            "max": min(count, POLL_TASKS_MAX),
            "wait_ms": int(self._worker.poll_s * 1_000),
            "lease_s": self._worker.lease_s,
        }
        answer_s = self._worker.poll_s + 10
        shown = await self._transport.call("POST", self._path, body, answer_s=answer_s, patience_s=0)
        return [] if shown is None else list(shown["tasks"])

    async def _do(self, task: Task) -> None:
        """Do one task, and bring its answer; where the worker stops first, give it back."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        task.begin(loop, news)
        handling = loop.create_task(self._handle(task))
        beating = loop.create_task(self._beat(task, handling, news))
        try:
            await asyncio.wait({handling})
        except asyncio.CancelledError:  # The worker stops, and its patience has ended.
            task.call_off()
            handling.cancel()
            await asyncio.wait({handling}, timeout=1)  # What it has begun should end before another begins it.
            await self._tell(task, "release", None)
            return
        finally:
            beating.cancel()
        await self._answer(task, handling)

    async def _handle(self, task: Task) -> Any:
        if inspect.iscoroutinefunction(self._handler):
            return await self._handler(task)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._handler, task)

    async def _beat(self, task: Task, handling: "asyncio.Task[Any]", news: asyncio.Event) -> None:
        """Say that the task is under way: three times a lease, and when there is progress to tell."""
        window_s = min(self._worker.lease_s, (task.heartbeat_ms or self._worker.lease_s * 1_000) / 1_000)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), window_s / BEATS_PER_LEASE)
            news.clear()
            progress = task.take_progress()
            body = {} if progress is None else {"progress": progress}
            answer = await self._tell(task, "heartbeat", body, patience_s=window_s / BEATS_PER_LEASE)
            if answer is None or answer["cancel_requested"]:
                task.call_off()
                if inspect.iscoroutinefunction(self._handler):
                    handling.cancel()
                return

    async def _answer(self, task: Task, handling: "asyncio.Task[Any]") -> None:
        """Bring what came of it. One that was called off is given back; the service knows why."""
        if handling.cancelled():
            await self._tell(task, "release", None)
            return
        error = handling.exception()
        if isinstance(error, TaskCancelledError):
            await self._tell(task, "release", None)
        elif error is not None:
            await self._tell(task, "fail", _failure(task, error))
        else:
            await self._complete(task, handling.result())

    async def _complete(self, task: Task, result: Any) -> None:
        try:
            await self._transport.call("POST", _path(task, "complete"), {"result": result}, patience_s=60)
        except (TypeError, ValueError) as error:
            await self._tell(task, "fail", {"error": "worker.bad_result", "cause": str(error), "retry": False})
        except UnreachableError as error:
            _log.warning("the answer to %s of %s is lost: %s", task.step, task.run, error)
        except ApiError as error:
            _log.warning("%s of %s was not taken: %s", task.step, task.run, error)
            if error.status not in _NOT_OURS:
                await self._tell(task, "fail", {"error": error.code or "worker.refused", "cause": str(error)})

    async def _tell(self, task: Task, what: str, body: Any, *, patience_s: float = 10.0) -> Any:
        """Say something of the task. None where it is not ours any more; what cannot be said shows in its time."""
        try:
            return await self._transport.call("POST", _path(task, what), body, patience_s=patience_s)
        except ApiError as error:
            _log.info("%s of %s: %s is refused: %s", task.step, task.run, what, error)
            return None if error.status in _NOT_OURS else {"cancel_requested": False}
        except UnreachableError as error:
            _log.warning("%s of %s: %s is not heard: %s", task.step, task.run, what, error)
            return {"cancel_requested": False}


def _path(task: Task, what: str) -> str:
    return f"/v1/tasks/{task.token}/{what}"


def _failure(task: Task, error: BaseException) -> dict[str, Any]:
    if isinstance(error, TaskFailedError):
        return {
            "error": error.error,
            "cause": error.cause,
            "data": error.data,
            "retry": error.retry,
            "retry_after_ms": int(error.retry_after_s * 1_000),
        }
    _log.error("%s of %s has failed", task.step, task.run, exc_info=error)
    return {"error": "worker.failed", "cause": f"{type(error).__name__}: {error}"[:1_000]}
