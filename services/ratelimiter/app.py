"""The limiter put together: guard, fast lane, documented routes; and the admin application beside them."""

from collections.abc import Mapping

from litestar.di import Provide

from services.ratelimiter.batch import PATH as BATCH_PATH
from services.ratelimiter.book import PolicyBook
from services.ratelimiter.checking import Checker
from services.ratelimiter.fastlane import FastLane
from services.ratelimiter.gate import PREFIX, Gate
from services.ratelimiter.policy import CostTooLargeError
from services.ratelimiter.publishing import Publishing
from services.ratelimiter.routes import HANDLERS
from shared.errors import TenureError
from shared.http.admin import OperatorApi
from shared.http.app import asgi, create_app, openapi_json
from shared.http.asgi import ASGIApp
from shared.http.auth import KeyRing
from shared.http.guard import Guard
from shared.http.health import create_admin_app
from shared.http.missing_objects import missing_routes
from shared.http.objectlane import ObjectLane
from shared.http.objects import object_routes, with_object_names
from shared.http.problem import ProblemTable, Row
from shared.http.sockets import socket_door
from shared.http.tickets import socket_routes
from shared.runtime.node import Node

TITLE = "Tenure rate limiter"
API_VERSION = "1.0.0"
DESCRIPTION = "Never more than the limit in any window of the stated length; several limits all or nothing."
BATCH_BYTES_MAX = 256 * 1024
PROBLEMS: Mapping[type[TenureError], Row] = {CostTooLargeError: Row(422, "Cost too large", ("cost_max",))}


def build_app(node: Node) -> tuple[Guard, ASGIApp]:
    """The public and the admin application of a node."""
    keys = KeyRing(node.shared_documents, node.clock)
    book = PolicyBook(node.documents, node.metrics)
    checker = Checker(node.host, book)
    gate = Gate(keys, book, checker, node.clock)
    publishing = Publishing(node.documents, book)
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
            "checker": Provide(lambda: checker, sync_to_thread=False),
            "gate": Provide(lambda: gate, sync_to_thread=False),
            "host": Provide(lambda: node.host, sync_to_thread=False),
            "shelf": Provide(lambda: publishing, sync_to_thread=False),
        },
        tracer=node.tracer,
        observe=node.metrics.http_request,
        durability=node.durability,
    )
    table = ProblemTable(PROBLEMS)
    objects = ObjectLane(
        with_object_names(asgi(documented)),
        node.host,
        node.objects,
        keys=keys,
        table=table,
        traced=node.tracer.enabled,
        observe=node.metrics.http_request,
        durability=node.durability,
    )
    lane = FastLane(
        objects,
        keys=keys,
        book=book,
        checker=checker,
        gate=gate,
        traced=node.tracer.enabled,
        count=node.metrics.bind_http,
    )
    public = Guard(
        lane,
        body_bytes_max={BATCH_PATH: BATCH_BYTES_MAX},
        bare=(PREFIX,),
        table=table,
        sockets=socket_door(node, keys, table, origins=node.settings.socket_origins),
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
