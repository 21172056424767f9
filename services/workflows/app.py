"""The workflow service put together: its kinds of objects, who carries out errands, its routes and its admin port.

Kinds are made before there is a node, and senders need what a node has. So the carrier is made with the kinds, and
gets its senders when the node is there; no run can have woken it before.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from litestar.di import Provide

from services.workflows.auditor import Auditor
from services.workflows.book import Definition, DefinitionBook, UnknownDefinitionError
from services.workflows.bounds import REQUEST_BYTES_MAX
from services.workflows.callbacks import Callbacks
from services.workflows.carrier import Carrier
from services.workflows.definitions import Definitions
from services.workflows.desk import Desk, offer_task, recall_task
from services.workflows.errands import Report
from services.workflows.inbox import InboxEntry, show_wait, take_away_wait
from services.workflows.installation import Installation
from services.workflows.intents import AskFor, CallObject, Notify, SendHttp, SendTask, StartChild
from services.workflows.notices import WebhookSender
from services.workflows.operation import Operation
from services.workflows.outside import HttpSender
from services.workflows.paths import with_names
from services.workflows.problems import DefinitionError
from services.workflows.queue import TaskQueue
from services.workflows.refusals import (
    MailboxFullError,
    PayloadTooLargeError,
    RunGoneError,
    RunTooLargeError,
    TimedOutError,
    TooManyOperationsError,
    UnknownStepError,
    UnmappableStepError,
    WrongAnswerError,
)
from services.workflows.routes import HANDLERS
from services.workflows.routes.access import Runs, provide_run
from services.workflows.run import hosted
from services.workflows.schedule import Hosting, scheduled
from services.workflows.sending import ChildSender, ObjectSender, recall_child, report_end
from services.workflows.settings import WorkflowsSettings
from shared.errors import TenureError
from shared.http.admin import OperatorApi
from shared.http.app import asgi, create_app, openapi_json
from shared.http.asgi import ASGIApp
from shared.http.auth import KeyRing
from shared.http.eventstreams import EventStreams
from shared.http.guard import Guard
from shared.http.health import create_admin_app
from shared.http.missing_objects import missing_routes
from shared.http.objectlane import ObjectLane
from shared.http.objects import object_routes, with_object_names
from shared.http.problem import ProblemTable, Row
from shared.http.sockets import socket_door
from shared.http.tickets import socket_routes
from shared.objects.errors import UnavailableError
from shared.objects.handler import DurableObject
from shared.outbound.client import Calls, open_client
from shared.outbound.credentials import Secrets
from shared.outbound.networks import networks_of
from shared.runtime.node import Node
from shared.webhooks.hosting import Webhooks
from shared.webhooks.routes import WebhookDesk

TITLE = "Tenure workflows"
API_VERSION = "1.0.0"
DESCRIPTION = (
    "Processes as pages of YAML: state changes exactly once an event, effects happen at least once, with a key."
)
DEFINITIONS = "/v1/definitions/"
PROBLEMS: Mapping[type[TenureError], Row] = {
    DefinitionError: Row(422, "Invalid definition", ("problems",)),
    WrongAnswerError: Row(422, "Does not fit", ("where",)),
    UnmappableStepError: Row(422, "Step cannot go on", ("step",)),
    UnknownStepError: Row(422, "Unknown step"),
    UnknownDefinitionError: Row(404, "Unknown definition"),
    PayloadTooLargeError: Row(413, "Too large"),
    RunTooLargeError: Row(413, "Too large"),
    RunGoneError: Row(410, "Gone"),
    TimedOutError: Row(410, "Too late"),
    TooManyOperationsError: Row(429, "Too many operations", (), {"started": False}),
    MailboxFullError: Row(429, "Mailbox full", (), {"started": False}),
}


class Service:
    """One node's workflow service. `kinds` are hosted before `build` is called with the node."""

    def __init__(self, settings: WorkflowsSettings, calls: Calls | None = None) -> None:
        """`calls` makes the calls outside; None: a client that lives as long as `running`."""
        self._settings = settings
        self._networks = networks_of(settings)
        env, self._keys = settings.env(), settings.keys()
        self._webhooks = Webhooks(self._keys.webhook, calls)
        self.carrier = Carrier({CallObject, SendHttp, StartChild, SendTask, AskFor, Report, Notify})
        runs = hosted(
            Installation(env=env, carried=self.carrier.carried, wake=self.carrier.wake, hears=self._webhooks.hears)
        )
        schedules = scheduled(Hosting(self._definition))
        self.kinds: list[type[DurableObject]] = [runs, schedules, Operation, self._webhooks.kind, TaskQueue, InboxEntry]
        self._book: DefinitionBook | None = None

    @asynccontextmanager
    async def running(self, node: Node) -> AsyncIterator[None]:
        """What the applications of a node need while they are served."""
        calling = open_client(self._networks, node.clock, node.metrics)
        async with calling as self._webhooks.calls, asyncio.TaskGroup() as tasks:
            auditing = tasks.create_task(Auditor(node.host, node.shared_documents).run())
            try:
                yield
            finally:
                auditing.cancel()
                await self.carrier.stop()

    def build(self, node: Node) -> tuple[Guard, ASGIApp]:
        """The public and the admin application of a node."""
        keys = KeyRing(node.shared_documents, node.clock)
        self._book = book = DefinitionBook(node.documents)
        shelf = Definitions(node.documents, book)
        runs, desk, streams = Runs(node.host), Desk(node.host), EventStreams(node.ingress)
        self._webhooks.begin(node.documents)
        webhooks = WebhookDesk(self._webhooks.book(), node.host)
        callbacks = Callbacks(self._keys)
        self._begin(node, book, callbacks)
        documented = create_app(
            title=TITLE,
            version=API_VERSION,
            description=DESCRIPTION,
            route_handlers=[
                *HANDLERS,
                *object_routes(node.host, node.objects),
                *missing_routes(node.objects),
                *socket_routes(node.tickets, keys, node.objects),
            ],
            keys=keys,
            problems=PROBLEMS,
            dependencies={
                "runs": Provide(lambda: runs, sync_to_thread=False),
                "run": Provide(provide_run, sync_to_thread=False),
                "shelf": Provide(lambda: shelf, sync_to_thread=False),
                "callbacks": Provide(lambda: callbacks, sync_to_thread=False),
                "book": Provide(lambda: book, sync_to_thread=False),
                "webhooks": Provide(lambda: webhooks, sync_to_thread=False),
                "desk": Provide(lambda: desk, sync_to_thread=False),
                "streams": Provide(lambda: streams, sync_to_thread=False),
            },
            tracer=node.tracer,
            observe=node.metrics.http_request,
            durability=node.durability,
        )
        table = ProblemTable(PROBLEMS)
        lane = ObjectLane(
            with_object_names(with_names(asgi(documented))),
            node.host,
            node.objects,
            keys=keys,
            table=table,
            traced=node.tracer.enabled,
            observe=node.metrics.http_request,
            durability=node.durability,
        )
        public = Guard(
            lane,
            body_bytes=REQUEST_BYTES_MAX,
            yaml=(DEFINITIONS,),
            table=table,
            prompts=(lane.prompt,),
            sockets=socket_door(node, keys, table, origins=node.settings.socket_origins),
            observe=node.metrics.http_request,
        )
        admin = create_admin_app(
            ready=node.ready,
            scrape=node.metrics.scrape,
            openapi=lambda: openapi_json(documented),
            owner=node.ownership.mark,
            operator=OperatorApi(node.inspection, token=node.settings.admin_token).answer,
        )
        return public, admin

    def _definition(self, tenant: str, name: str, version: int | None) -> Definition:
        """For schedules, whose alarms may ring before there are routes."""
        if self._book is None:
            raise UnavailableError("Definitions are not known yet")
        return self._book.definition(tenant, name, version)

    def _begin(self, node: Node, book: DefinitionBook, callbacks: Callbacks) -> None:
        """Say who carries out which errand."""
        calls = self._webhooks.calls
        assert calls is not None, "`running` comes first"
        calling = HttpSender(
            calls, Secrets(self._settings.secrets_dir), callbacks, public_url=self._settings.public_url
        )
        self.carrier.begin(
            {
                CallObject: ObjectSender(node.objects),
                SendHttp: calling,
                StartChild: ChildSender(book),
                SendTask: offer_task,
                AskFor: show_wait,
                Report: report_end,
                Notify: WebhookSender(self._webhooks.book()),
            },
            recalls={StartChild: recall_child, SendTask: recall_task, AskFor: take_away_wait},
        )
