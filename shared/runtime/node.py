"""One node: settings in, a running service out. The composition root.

Start order: lock file, store checks, documents, leases, listeners. Stop order, on SIGTERM or Ctrl-C:

  1. not ready (load balancers look elsewhere), new calls still answered until the listener closes; none is held until
     something happens, and those that were held are answered
  2. sockets: what waits is sent, clients are told to connect again (1012), objects hear of it; streams end (5 s)
  3. public listener: no new connections, requests under way are answered
  4. objects: running turns end (5 s), everything is stored
  5. leases released, so that a successor need not wait
  6. admin listener, telemetry flushed, connections closed
"""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError
from shared.http.asgi import ASGIApp
from shared.http.guard import Guard
from shared.objects.config import Documents
from shared.objects.handler import DurableObject
from shared.objects.host import Host
from shared.objects.ingress import Ingress, LocalOwners
from shared.objects.inspection import Inspection
from shared.objects.ownership import Ownership
from shared.objects.published import PublishedKind
from shared.objects.store_clock import StoreClock
from shared.objects.sweeper import Sweeper
from shared.objects.tickets import Tickets
from shared.retry import Backoff, may_retry, retrying
from shared.runtime.gauges import bind_gauges, bind_socket_gauges
from shared.runtime.listener import Listener
from shared.runtime.local_call import Endpoint
from shared.runtime.objects import load_objects
from shared.runtime.periodic import Periodic
from shared.runtime.ports import check_port_free
from shared.runtime.watchdog import Watchdog, quarantine_at
from shared.settings import NodeSettings
from shared.storage import keys
from shared.storage.interface import StoreDeniedError, StoreError, StoreFullError
from shared.storage.lockfile import hold_node_lock
from shared.storage.redis.inspect import (
    configuration_finding,
    durability_reached,
    findings,
    fix_configuration,
    inspect,
    read_configuration,
)
from shared.storage.redis.store import RedisStore
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics
from shared.telemetry.process import observe_process, watch_loop
from shared.telemetry.traces import Tracer

_log = logs.get_logger()
_PASSIVATE_SECONDS = 2  # A tick of APScheduler costs an idle node more than its look around.
_SWEEP_SECONDS = 10
_STORE_START_MS = 10_000
_STORE_START_PAUSES = Backoff(base_ms=50, cap_ms=50, factor=1)
# New containers before the collector looks. Objects in memory are freed without it; it is there for the odd cycle,
# and at its defaults it took a quarter of a busy node's time, looking through objects that live on.
_GC_THRESHOLDS = (50_000, 20, 50)

T = TypeVar("T")


class Node:
    """What a service stands on. Made by `open_node`."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        name: str,
        clock: Clock,
        host: Host,
        ownership: Ownership,
        documents: Documents,
        shared_documents: Documents,
        metrics: Metrics,
        tracer: Tracer,
        durability: int,
        objects: Sequence[PublishedKind],
        inspection: Inspection,
        ingress: Ingress,
        tickets: Tickets,
    ) -> None:
        self.settings = settings
        self.name = name
        self.clock = clock
        self.host = host
        self.documents = documents
        self.shared_documents = shared_documents
        self.metrics = metrics
        self.tracer = tracer
        self.durability = durability
        self.objects = objects
        self.inspection = inspection
        self.ingress = ingress
        self.tickets = tickets
        self.stopping = False
        self.ownership = ownership

    def ready(self) -> list[str]:
        """Why this node should get no traffic; empty when it should."""
        reasons = []
        if self.stopping:
            reasons.append("stopping")
        missing = self.settings.shards - self.ownership.open_shards
        if missing:
            reasons.append(f"{missing} shards are not open")
        if not (self.documents.fresh() and self.shared_documents.fresh()):
            reasons.append("the view of keys and policies is stale")
        return reasons


@asynccontextmanager
async def open_node(
    settings: NodeSettings,
    *,
    service: str,
    prefix: str,
    kinds: Sequence[type[DurableObject]],
    objects: Sequence[PublishedKind] = (),
) -> AsyncIterator[Node]:
    """A node that owns what it can get, until the block ends; then everything is stored and released.

    `service` is its name to people, `prefix` its prefix in the store; `kinds` are those of the service,
    `objects` those of the operator, hosted beside them.

    Raises:
        ConfigurationError: the store must not be used, or was set up otherwise; one sentence.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        lock_id = ""
        if settings.lock_id:
            lock, lock_id = await hold_node_lock(Path(settings.data_dir), settings.lock_id)
            stack.callback(lock.close)
        if not settings.redis_url:
            raise ConfigurationError("TENURE_REDIS_URL must name the store.")
        store = RedisStore(settings.redis_url, service=prefix)
        stack.push_async_callback(store.close)
        durability = await _check_store(store, settings, prefix, clock)
        node, store_clock = _compose(
            settings,
            store,
            clock,
            service=service,
            prefix=prefix,
            lock_id=lock_id,
            kinds=kinds,
            objects=objects,
            durability=durability,
        )
        stack.callback(node.tracer.shutdown)
        host, ownership = node.host, node.ownership
        bind_gauges(node.metrics, host, ownership, store_clock)
        bind_socket_gauges(node.metrics, node.ingress)
        await _patiently(node.documents.poll, clock)
        await _patiently(node.shared_documents.poll, clock)
        periodic = _housekeeping(host, Sweeper(store, ownership, host.committer.sweep))
        stack.callback(periodic.stop)
        watchdog = Watchdog(clock, node.metrics, quarantine=quarantine_at(settings.redis_url, service=prefix))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(loop) for loop in (*_loops(node), watchdog.beat())]
            await ownership.claim_missing()
            _log.info(logs.NODE_STARTED, shards=ownership.open_shards)
            gc.freeze()  # What a node is made of stays; the collector need not look at it again.
            try:
                with watchdog.watching():
                    yield node
            finally:
                node.stopping = True
                await host.drain()
                for task in running:
                    task.cancel()
                await ownership.release()
                _log.info(logs.NODE_STOPPED)


def _loops(node: Node) -> Sequence[Coroutine[Any, Any, None]]:
    """What a node does all the time."""
    return (
        node.ownership.run(),
        *node.host.loops(),
        node.documents.run(),
        node.shared_documents.run(),
        node.ingress.run(),
        watch_loop(node.metrics),
    )


def _compose(
    settings: NodeSettings,
    store: RedisStore,
    clock: Clock,
    *,
    service: str,
    prefix: str,
    lock_id: str,
    kinds: Sequence[type[DurableObject]],
    objects: Sequence[PublishedKind],
    durability: int,
) -> tuple[Node, StoreClock]:
    """Wire a node; nothing runs yet."""
    name = _node_name(settings)
    metrics = Metrics()
    observe_process(metrics, clock)
    tracer = Tracer.from_environment(service=f"tenure-{service}", node=name, metrics=metrics)
    store_clock = StoreClock(clock)
    ownership = Ownership(
        store,
        store_clock,
        metrics,
        shards=settings.shards,
        node=name,
        lock_id=lock_id,
        ttl_ms=settings.lease_ttl_ms,
    )
    host = Host(
        [*kinds, *(kind.cls for kind in objects)],
        store,
        ownership,
        store_clock,
        metrics=metrics,
        tracer=tracer,
        resident_objects=settings.resident_objects,
    )
    node = Node(
        settings,
        name=name,
        clock=clock,
        host=host,
        ownership=ownership,
        documents=Documents(store, prefix, clock),
        shared_documents=Documents(store, keys.SHARED, clock),
        metrics=metrics,
        tracer=tracer,
        durability=durability,
        objects=objects,
        inspection=Inspection(host, store, ownership),
        ingress=Ingress(LocalOwners(host), clock, metrics),
        tickets=Tickets(clock),
    )
    return node, store_clock


async def serve(node: Node, public: Guard, admin: ASGIApp) -> None:
    """Serve both applications inside this event loop until SIGTERM or SIGINT."""
    settings = node.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with (
        Listener(admin, host=settings.admin_host, port=settings.admin_port, backlog=128),
        Listener(public, host=settings.host, port=settings.port, prompt=public.prompt, sockets=True),
    ):
        try:
            await stop.wait()
        finally:
            node.stopping = True
            node.host.stop_parking()
            await node.ingress.stop()


def _node_name(settings: NodeSettings) -> str:
    return settings.node_name or f"{socket.gethostname()}:{settings.port}"


async def _check_store(store: RedisStore, settings: NodeSettings, prefix: str, clock: Clock) -> int:
    """Refuse a store that must not be used, warn of weaknesses, and return the durability level of this one."""
    facts = await _patiently(lambda: inspect(store.command, clock), clock)
    found = findings(facts, declared=settings.durability, strict=settings.durability_strict)
    # A store that still reads its log has answered up to here, and refuses this.
    stored = await _patiently(lambda: read_configuration(store.command, prefix), clock)
    found.append(configuration_finding(stored, shards=settings.shards))
    for finding in found:
        if finding.level == "fail":
            raise ConfigurationError(f"{finding.detail[:1].upper()}{finding.detail[1:]}.")
        if finding.level == "warn":
            _log.warning(logs.STORE_WARNING, check=finding.check, detail=finding.detail)
    try:
        await fix_configuration(store.command, prefix, shards=settings.shards)
    except StoreFullError as exc:
        raise ConfigurationError("The store is full, and nothing of this service is in it yet.") from exc
    return durability_reached(facts, declared=settings.durability)


async def _patiently(ask: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """What the store answers; one that is still starting gets 10 s, and a line of the log says so at once.

    Raises:
        ConfigurationError: that was not enough, or no waiting would help.
    """
    told = False

    async def asked() -> T:
        nonlocal told
        try:
            return await ask()
        except StoreError as exc:
            if not told and may_retry(exc, idempotent=True):
                told = True
                _log.warning(logs.STORE_AWAY, error=str(exc))
            raise

    try:
        return await retrying(
            asked,
            backoff=_STORE_START_PAUSES,
            budget_ms=_STORE_START_MS,
            clock=clock,
            idempotent=True,  # It only reads.
        )
    except StoreDeniedError as exc:
        look = "see user and password in TENURE_REDIS_URL, and what the store lets that user do."
        raise ConfigurationError(f"{str(exc).rstrip('.')}; {look}") from exc
    except StoreError as exc:
        raise ConfigurationError(f"The store does not answer: {exc}") from exc


def _housekeeping(host: Host, sweeper: Sweeper) -> Periodic:
    periodic = Periodic()
    periodic.every(_PASSIVATE_SECONDS, host.passivate_idle)
    periodic.every(_SWEEP_SECONDS, sweeper.tick)
    periodic.start()
    return periodic


def run_service(
    settings: NodeSettings,
    *,
    service: str,
    prefix: str,
    kinds: Sequence[type[DurableObject]],
    build: Callable[[Node], tuple[Guard, ASGIApp]],
    around: Callable[[Node], AbstractAsyncContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Run a service until it is told to stop. `build` makes its public and its admin application.

    `around` holds what they need, from before they are built until nobody is served any more.

    Raises:
        ConfigurationError: it cannot start as it is configured.
    """
    logs.configure_logging(service=f"tenure-{service}", node=_node_name(settings), level=settings.log_level)
    objects = load_objects(settings.objects, own=kinds)
    check_port_free(Endpoint(settings.host, settings.port), "port")
    check_port_free(Endpoint(settings.admin_host, settings.admin_port), "admin_port")

    gc.set_threshold(*_GC_THRESHOLDS)

    async def main() -> None:
        opening = open_node(settings, service=service, prefix=prefix, kinds=kinds, objects=objects)
        async with opening as node, around(node):
            await serve(node, *build(node))

    with suppress(KeyboardInterrupt):
        _run(main())


def _run(main: Any) -> None:
    import uvloop

    uvloop.run(main)
