"""Webhooks: who is told of what happens to runs, by which secret they know it, and what came of each message."""

import re
import secrets

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from services.workflows.bounds import WEBHOOK_NAME_BYTES_MAX
from services.workflows.cursors import read_cursor, written_cursor
from services.workflows.delivery import BY_STATUS, OF_ENDPOINT, Delivery, Status, Summary, Told
from services.workflows.notices import Notice, delivery_address
from services.workflows.refusals import WebhookKeyGoneError
from services.workflows.routes.access import ADMIN, READ, WRITE_PROBLEMS, AnyRequest, Cursor, Limit, TheRuns
from services.workflows.timetable import written
from services.workflows.webhook_schemas import (
    DeliveryList,
    DeliverySummary,
    DeliveryView,
    RotateSecret,
    Sending,
    WebhookList,
    WebhookSecret,
    WebhookView,
)
from services.workflows.webhooks import TEST, Subscription, WebhookBook
from shared.errors import ConflictError, InvalidInputError
from shared.http.auth import Caller, require
from shared.objects.address import Address
from shared.outbound.signing import secret_text
from shared.storage.interface import StoreFullError

Webhooks = NamedDependency[WebhookBook]
_WEBHOOK = "/v1/webhooks/{name:str}"
_DELIVERY = _WEBHOOK + "/deliveries/{message_id:str}"
_CREATED = {201: ResponseSpec(data_container=WebhookView, description="It is new.", generate_examples=False)}
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{WEBHOOK_NAME_BYTES_MAX}}}")
_MESSAGE = re.compile(r"msg_[0-9a-f]{32}")


@put(
    _WEBHOOK,
    guards=[require(ADMIN)],
    problems=(ConflictError, StoreFullError),
    responses=_CREATED,
    response_description="It was there, and is so from now on.",
    durable=True,
    tags=["webhooks"],
)
async def put_webhook(
    credential: Caller, webhooks: Webhooks, name: FromPath[str], data: JSONBody[Subscription]
) -> Response[WebhookView]:
    """Say who is told of which events, at an address. One that is there keeps its secret, and is enabled as is said."""
    created = await webhooks.put(credential.tenant, _named(name), data)
    view = WebhookView.of(webhooks.get(credential.tenant, name))
    return Response(view, status_code=201 if created else 200)


@get("/v1/webhooks", guards=[require(READ)], tags=["webhooks"], sync_to_thread=False)
def list_webhooks(credential: Caller, webhooks: Webhooks) -> WebhookList:
    """All webhooks of the tenant."""
    return WebhookList(webhooks=[WebhookView.of(one) for one in webhooks.all(credential.tenant)])


@get(_WEBHOOK, guards=[require(READ)], tags=["webhooks"], sync_to_thread=False)
def get_webhook(credential: Caller, webhooks: Webhooks, name: FromPath[str]) -> WebhookView:
    """A webhook."""
    return WebhookView.of(webhooks.get(credential.tenant, _named(name)))


@delete(_WEBHOOK, guards=[require(ADMIN)], durable=True, tags=["webhooks"])
async def delete_webhook(credential: Caller, webhooks: Webhooks, name: FromPath[str]) -> None:
    """Tell it nothing more. What it was still to be told is given up."""
    await webhooks.delete(credential.tenant, _named(name))


@get(
    _WEBHOOK + "/secret",
    guards=[require(ADMIN)],
    problems=(WebhookKeyGoneError,),
    tags=["webhooks"],
    sync_to_thread=False,
)
def get_secret(credential: Caller, runs: TheRuns, webhooks: Webhooks, name: FromPath[str]) -> WebhookSecret:
    """The secret by which the messages of a webhook are verified."""
    return _secret(credential.tenant, _named(name), webhooks, now_ms=runs.host.store_clock.now_ms())


@post(
    _WEBHOOK + "/rotate",
    status_code=200,
    guards=[require(ADMIN)],
    problems=(ConflictError, WebhookKeyGoneError),
    durable=True,
    tags=["webhooks"],
)
async def rotate_secret(
    credential: Caller, runs: TheRuns, webhooks: Webhooks, name: FromPath[str], data: JSONBody[RotateSecret]
) -> WebhookSecret:
    """Make a new secret. For a while messages are signed with both, so that the receiver can change over."""
    now_ms = runs.host.store_clock.now_ms()
    await webhooks.rotate(credential.tenant, _named(name), until_ms=now_ms + data.keep_previous_s * 1_000)
    return _secret(credential.tenant, name, webhooks, now_ms=now_ms)


@post(
    _WEBHOOK + "/test",
    status_code=202,
    guards=[require(ADMIN)],
    problems=WRITE_PROBLEMS,
    durable=True,
    tags=["webhooks"],
)
async def test_webhook(
    credential: Caller, runs: TheRuns, webhooks: Webhooks, name: FromPath[str], request: AnyRequest
) -> Sending:
    """Send a message of the type `webhook.test`, whatever it wants to be told. It is delivered as any other."""
    webhooks.get(credential.tenant, _named(name))
    now_ms = runs.host.store_clock.now_ms()
    body = msgspec.json.encode(Notice(type=TEST, timestamp=written(now_ms), data={}))
    told = Told(id=f"msg_{secrets.token_hex(16)}", event=TEST, body=body, at_ms=now_ms)
    await runs.call(request, delivery_address(credential.tenant, name, told.id), Delivery.tell, told)
    return Sending(id=told.id)


@get(_WEBHOOK + "/deliveries", guards=[require(READ)], tags=["webhooks"])
async def list_deliveries(
    *,
    credential: Caller,
    runs: TheRuns,
    webhooks: Webhooks,
    name: FromPath[str],
    status: FromQuery[Status | None] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> DeliveryList:
    """Messages to a webhook, or those of a status: `given_up` for what nobody will send again by himself."""
    webhooks.get(credential.tenant, _named(name))
    after = read_cursor(cursor, Delivery.kind, credential.tenant)
    index, value = (OF_ENDPOINT, name) if status is None else (BY_STATUS, f"{name}/{status}")
    page = await runs.host.listings.find(Delivery, credential.tenant, index, value, after=after, limit=limit)
    found = [(row, msgspec.msgpack.decode(row.summary, type=Summary)) for row in page.rows]
    return DeliveryList(
        deliveries=[
            DeliverySummary(
                id=row.address.name.rpartition("/")[2], event=summary.event, at_ms=row.sort_ms, status=summary.status
            )
            for row, summary in found
        ],
        next_cursor=None if page.after is None else written_cursor(page.after),
    )


@get(_DELIVERY, guards=[require(READ)], of_object=True, tags=["webhooks"])
async def get_delivery(
    credential: Caller, runs: TheRuns, name: FromPath[str], message_id: FromPath[str], request: AnyRequest
) -> DeliveryView:
    """A message, what is sent of it, and what came of each sending. It is known for some days after it was taken."""
    delivery = _delivery(credential, name, message_id)
    return DeliveryView.of(await runs.call(request, delivery, Delivery.look))


@post(
    _DELIVERY + "/redeliver",
    status_code=202,
    guards=[require(ADMIN)],
    problems=(*WRITE_PROBLEMS, ConflictError),
    durable=True,
    of_object=True,
    tags=["webhooks"],
)
async def redeliver(
    credential: Caller, runs: TheRuns, name: FromPath[str], message_id: FromPath[str], request: AnyRequest
) -> Sending:
    """Send a message again that was taken or given up, with the same id."""
    await runs.call(request, _delivery(credential, name, message_id), Delivery.tell_again)
    return Sending(id=message_id)


def _named(name: str) -> str:
    """The name of a webhook.

    Raises:
        InvalidInputError: it can be none.
    """
    if not _NAME.fullmatch(name):
        detail = f"The name of a webhook has 1 to {WEBHOOK_NAME_BYTES_MAX} letters, digits, hyphens and underscores"
        raise InvalidInputError(detail, "path.name")
    return name


def _delivery(credential: Caller, name: str, message_id: str) -> Address:
    if not _MESSAGE.fullmatch(message_id):
        raise InvalidInputError("The id of a message is msg_ and 32 hexadecimal digits", "path.message_id")
    return delivery_address(credential.tenant, _named(name), message_id)


def _secret(tenant: str, name: str, webhooks: WebhookBook, *, now_ms: int) -> WebhookSecret:
    endpoint = webhooks.get(tenant, name).endpoint
    newest, *previous = [secret_text(one) for one in webhooks.secrets(tenant, name, endpoint, now_ms=now_ms)]
    return WebhookSecret(
        secret=newest,
        previous=previous[0] if previous else None,
        previous_until_ms=endpoint.previous_until_ms if previous else None,
    )


HANDLERS = (
    put_webhook,
    list_webhooks,
    get_webhook,
    delete_webhook,
    get_secret,
    rotate_secret,
    test_webhook,
    list_deliveries,
    get_delivery,
    redeliver,
)
