"""The session manager put together: guard, whoami's fast lane, documented routes; and the admin application."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from litestar.di import Provide

from services.sessions.challenges import CrossSiteError, IfMatchRequiredError, SignedOutError, StepUpError
from services.sessions.cuts import Cuts
from services.sessions.desk import Desk
from services.sessions.directory import Directory
from services.sessions.entrance import Entrance, room_sockets
from services.sessions.feed_socket import feed_sockets
from services.sessions.front import Front, provide_principal, provide_room
from services.sessions.own import provide_me, provide_my_token
from services.sessions.paths import with_names
from services.sessions.policy import Rules
from services.sessions.principal import principal_of
from services.sessions.refusals import (
    DataTooLargeError,
    ImpersonationError,
    PrincipalDisabledError,
    PrincipalErasedError,
    SessionEndedError,
    SessionLimitError,
    StaleDataError,
    SupersededError,
    UnknownSessionError,
)
from services.sessions.room import DocumentTooLargeError, Room, RoomFullError, StaleDocumentError
from services.sessions.routes import HANDLERS
from services.sessions.settings import SessionsSettings
from services.sessions.tokens import Tokens
from services.sessions.watching import SessionWatch
from services.sessions.whoami import DEADLINE_MS, PATH, WhoamiLane
from shared.errors import TenureError
from shared.http.admin import OperatorApi
from shared.http.app import asgi, create_app, openapi_json
from shared.http.asgi import ASGIApp
from shared.http.auth import KeyRing
from shared.http.eventstreams import EventStreams
from shared.http.guard import Guard
from shared.http.health import create_admin_app
from shared.http.objectlane import ObjectLane
from shared.http.objects import object_routes, with_object_names
from shared.http.problem import ProblemTable, Row
from shared.http.sockets import socket_door
from shared.http.tickets import socket_routes
from shared.objects.errors import UnavailableError
from shared.objects.handler import DurableObject
from shared.outbound.client import Calls, open_client
from shared.outbound.networks import networks_of
from shared.runtime.node import Node
from shared.webhooks.hosting import Webhooks
from shared.webhooks.routes import WebhookDesk

TITLE = "Tenure sessions"
API_VERSION = "1.0.0"
DESCRIPTION = "Who is signed in: exact limits, both time-outs, and revoked means revoked when the call is answered."
PROBLEMS: Mapping[type[TenureError], Row] = {
    SignedOutError: Row(401, "Signed out", ("reason",)),
    StepUpError: Row(401, "Authentication not sufficient", ("acr_values", "max_age")),
    CrossSiteError: Row(403, "From another site"),
    PrincipalDisabledError: Row(403, "Disabled"),
    PrincipalErasedError: Row(403, "Erased"),
    ImpersonationError: Row(403, "Not in somebody else's name"),
    UnknownSessionError: Row(404, "Unknown session"),
    SessionLimitError: Row(409, "Session limit reached", ("sessions",)),
    SupersededError: Row(409, "Replaced meanwhile"),
    RoomFullError: Row(409, "Room full"),
    SessionEndedError: Row(410, "Session ended", ("reason",)),
    StaleDataError: Row(412, "Precondition failed"),
    StaleDocumentError: Row(412, "Precondition failed"),
    DataTooLargeError: Row(413, "Too large", ("size_max",)),
    DocumentTooLargeError: Row(413, "Too large", ("size_max",)),
    IfMatchRequiredError: Row(428, "Precondition required"),
}
_NO_SESSION = (UnknownSessionError, SessionEndedError)


class Service:
    """One node's session manager. `kinds` are hosted before `build` is called with the node."""

    def __init__(self, settings: SessionsSettings, calls: Calls | None = None) -> None:
        """`calls` makes the calls of webhooks; None: a client that lives as long as `running`."""
        self._networks = networks_of(settings)
        self._keys = settings.keys()
        self._webhooks = Webhooks(self._keys.webhook, calls)
        self._directory: Directory | None = None
        self.kinds: list[type[DurableObject]] = [
            principal_of(self._webhooks, self._rules),
            Room,
            self._webhooks.kind,
        ]

    @asynccontextmanager
    async def running(self, node: Node) -> AsyncIterator[None]:
        """What the applications of a node need while they are served."""
        async with open_client(self._networks, node.clock, node.metrics) as self._webhooks.calls:
            yield

    def build(self, node: Node) -> tuple[Guard, ASGIApp]:
        """The public and the admin application of a node."""
        self._webhooks.begin(node.documents)
        webhooks = WebhookDesk(self._webhooks.book(), node.host)
        tokens = Tokens(self._keys)
        self._directory = directory = Directory(node.shared_documents, node.documents, tokens)
        whoami_call = partial(node.host.call, deadline_ms=DEADLINE_MS)
        cuts = Cuts(directory, node.documents, whoami_call)
        desk = Desk(tokens, directory, node.host.call, came=cuts.came)
        front = Front(desk, node.host, node.documents, cuts)
        watch = SessionWatch(desk, node.host, cuts)
        ring = KeyRing(node.shared_documents, node.clock)
        entrance = Entrance(node.tickets, ring, watch.bind)
        documented = create_app(
            title=TITLE,
            version=API_VERSION,
            description=DESCRIPTION,
            route_handlers=[
                *HANDLERS,
                *object_routes(node.host, node.objects),
                *socket_routes(node.tickets, ring, node.objects, bind=watch.bind, problems=_NO_SESSION),
            ],
            keys=ring,
            problems=PROBLEMS,
            dependencies=_provided(front, entrance, webhooks, EventStreams(node.ingress)),
            tracer=node.tracer,
            observe=node.metrics.http_request,
            durability=node.durability,
        )
        table = ProblemTable(PROBLEMS)
        objects = ObjectLane(
            with_object_names(with_names(asgi(documented))),
            node.host,
            node.objects,
            keys=ring,
            table=table,
            traced=node.tracer.enabled,
            observe=node.metrics.http_request,
            durability=node.durability,
        )
        gateways = Desk(tokens, directory, whoami_call, came=cuts.came)
        lane = WhoamiLane(
            objects, desk=gateways, host=node.host, table=table, clock=node.clock, count=node.metrics.bind_http
        )
        public = Guard(
            lane,
            bare=(PATH,),
            table=table,
            sockets=socket_door(
                node,
                ring,
                table,
                origins=node.settings.socket_origins,
                find=[room_sockets(node.host)],
                find_stream=feed_sockets(front),
            ),
            prompts=(lane.prompt, objects.prompt),
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

    def _rules(self, tenant: str) -> Rules:
        """What principals go by when nobody calls them.

        Raises:
            UnavailableError: it is not known.
        """
        if self._directory is None:
            raise UnavailableError("The tenants are not known yet")
        return self._directory.rules(tenant)


def _provided(front: Front, entrance: Entrance, webhooks: WebhookDesk, streams: EventStreams) -> dict[str, Provide]:
    """What handlers ask for by name."""
    return {
        "front": Provide(lambda: front, sync_to_thread=False),
        "principal": Provide(provide_principal, sync_to_thread=False),
        "entrance": Provide(lambda: entrance, sync_to_thread=False),
        "room": Provide(provide_room, sync_to_thread=False),
        "my_token": Provide(provide_my_token, sync_to_thread=False),
        "me": Provide(provide_me),
        "webhooks": Provide(lambda: webhooks, sync_to_thread=False),
        "streams": Provide(lambda: streams, sync_to_thread=False),
    }
