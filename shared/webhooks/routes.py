"""The routes of webhooks: who is told of what, by which secret they know it, and what came of each message."""

import re
import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from shared.bounds import WEBHOOK_NAME_BYTES_MAX
from shared.clock import rfc3339
from shared.errors import ConflictError, InvalidInputError
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, AnyRequest, call_for, idempotency_key
from shared.http.cursors import PageCursor, PageLimit, read_cursor, written_cursor
from shared.objects.address import Address
from shared.objects.host import Host
from shared.objects.once import KeyedRequest
from shared.outbound.errors import BadTargetError
from shared.outbound.signing import secret_text
from shared.storage.interface import StoreFullError
from shared.webhooks.book import TEST, Subscription, WebhookBook
from shared.webhooks.delivery import BY_STATUS, OF_ENDPOINT, Delivery, Status, Summary, Told
from shared.webhooks.errors import WebhookKeyGoneError
from shared.webhooks.notice import Notice, delivery_address
from shared.webhooks.schemas import (
    DeliveryList,
    DeliverySummary,
    DeliveryView,
    RotateSecret,
    Sending,
    WebhookList,
    WebhookSecret,
    WebhookView,
)

_WEBHOOK = "/v1/webhooks/{name:str}"
_DELIVERY = _WEBHOOK + "/deliveries/{message_id:str}"
_CREATED = {201: ResponseSpec(data_container=WebhookView, description="It is new.", generate_examples=False)}
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{WEBHOOK_NAME_BYTES_MAX}}}")
_MESSAGE = re.compile(r"msg_[0-9a-f]{32}")


class WebhookDesk(NamedTuple):
    """What the routes stand on: the dependency `webhooks` of a service that has them."""

    book: WebhookBook
    host: Host

    async def call(self, request: AnyRequest, delivery: Address, method: Callable[..., Any], *args: Any) -> Any:
        """The reply of a delivery.

        Raises:
            TenureError: as `Host.call`.
        """
        return await call_for(request, self.host, delivery, method, *args)


TheWebhooks: TypeAlias = NamedDependency[WebhookDesk]


def webhook_routes(form: type[Subscription], *, read: str, admin: str) -> list[HTTPRouteHandler]:
    """The routes of a service: what is put has its `form`, and keys need the scopes `read` and `admin`."""
    reads: dict[str, Any] = {"guards": [require(read)], "tags": ["webhooks"]}
    manages: dict[str, Any] = {"guards": [require(admin)], "tags": ["webhooks"]}
    sends = {**manages, "status_code": 202, "durable": True}
    there = "It was there, and is so from now on."
    return [
        put(
            _WEBHOOK,
            problems=(ConflictError, StoreFullError, BadTargetError),
            responses=_CREATED,
            response_description=there,
            durable=True,
            **manages,
        )(_putting(form)),
        get("/v1/webhooks", sync_to_thread=False, **reads)(list_webhooks),
        get(_WEBHOOK, sync_to_thread=False, **reads)(get_webhook),
        delete(_WEBHOOK, durable=True, **manages)(delete_webhook),
        get(f"{_WEBHOOK}/secret", problems=(WebhookKeyGoneError,), sync_to_thread=False, **manages)(get_secret),
        post(
            f"{_WEBHOOK}/rotate",
            status_code=200,
            problems=(ConflictError, WebhookKeyGoneError),
            durable=True,
            **manages,
        )(rotate_secret),
        post(f"{_WEBHOOK}/test", problems=KEYED_PROBLEMS, repeatable=True, **sends)(test_webhook),
        get(f"{_WEBHOOK}/deliveries", **reads)(list_deliveries),
        get(_DELIVERY, of_object=True, **reads)(get_delivery),
        post(
            f"{_DELIVERY}/redeliver",
            problems=(*KEYED_PROBLEMS, ConflictError),
            of_object=True,
            repeatable=True,
            **sends,
        )(redeliver),
    ]


def _putting(form: type[Subscription]) -> Any:
    async def put_webhook(
        credential: Caller,
        webhooks: TheWebhooks,
        name: FromPath[str],
        data: JSONBody[form],  # type: ignore[valid-type]  # It is read at run time.
    ) -> Response[WebhookView]:
        """Say who is told of which events, and where. One that is there keeps its secret, and is enabled as is said."""
        created = await webhooks.book.put(credential.tenant, _named(name), data)
        view = WebhookView.of(webhooks.book.get(credential.tenant, name))
        return Response(view, status_code=201 if created else 200)

    return put_webhook


def list_webhooks(credential: Caller, webhooks: TheWebhooks) -> WebhookList:
    """All webhooks of the tenant."""
    return WebhookList(webhooks=[WebhookView.of(one) for one in webhooks.book.all(credential.tenant)])


def get_webhook(credential: Caller, webhooks: TheWebhooks, name: FromPath[str]) -> WebhookView:
    """A webhook."""
    return WebhookView.of(webhooks.book.get(credential.tenant, _named(name)))


async def delete_webhook(credential: Caller, webhooks: TheWebhooks, name: FromPath[str]) -> None:
    """Tell it nothing more. What it was still to be told is given up."""
    await webhooks.book.delete(credential.tenant, _named(name))


def get_secret(credential: Caller, webhooks: TheWebhooks, name: FromPath[str]) -> WebhookSecret:
    """The secret by which the messages of a webhook are verified."""
    return _secret(credential.tenant, _named(name), webhooks.book, now_ms=webhooks.host.store_clock.now_ms())


async def rotate_secret(
    credential: Caller, webhooks: TheWebhooks, name: FromPath[str], data: JSONBody[RotateSecret]
) -> WebhookSecret:
    """Make a new secret. For a while messages are signed with both, so that the receiver can change over."""
    now_ms = webhooks.host.store_clock.now_ms()
    await webhooks.book.rotate(credential.tenant, _named(name), until_ms=now_ms + data.keep_previous_s * 1_000)
    return _secret(credential.tenant, name, webhooks.book, now_ms=now_ms)


async def test_webhook(credential: Caller, webhooks: TheWebhooks, name: FromPath[str], request: AnyRequest) -> Sending:
    """Send a message of the type `webhook.test`, whatever it wants to be told. It is delivered as any other."""
    webhooks.book.get(credential.tenant, _named(name))
    now_ms, key = webhooks.host.store_clock.now_ms(), idempotency_key(request)
    made = secrets.token_hex(16) if key is None else blake2b(key.encode(), digest_size=16).hexdigest()
    body = msgspec.json.encode(Notice(type=TEST, timestamp=rfc3339(now_ms), data={}))
    told = Told(id=f"msg_{made}", event=TEST, body=body, at_ms=now_ms)
    await webhooks.call(request, delivery_address(credential.tenant, name, told.id), Delivery.tell, told)
    return Sending(id=told.id)


async def list_deliveries(
    *,
    credential: Caller,
    webhooks: TheWebhooks,
    name: FromPath[str],
    status: FromQuery[Status | None] = None,
    cursor: PageCursor = None,
    limit: PageLimit = 100,
) -> DeliveryList:
    """Messages to a webhook, or those of a status: `given_up` for what nobody will send again by himself."""
    webhooks.book.get(credential.tenant, _named(name))
    after = read_cursor(cursor, Delivery.kind, credential.tenant)
    index, value = (OF_ENDPOINT, name) if status is None else (BY_STATUS, f"{name}/{status}")
    page = await webhooks.host.listings.find(Delivery, credential.tenant, index, value, after=after, limit=limit)
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


async def get_delivery(
    credential: Caller, webhooks: TheWebhooks, name: FromPath[str], message_id: FromPath[str], request: AnyRequest
) -> DeliveryView:
    """A message, what is sent of it, and what came of each sending. It is known for some days after it was taken."""
    delivery = _delivery(credential, name, message_id)
    return DeliveryView.of(await webhooks.call(request, delivery, Delivery.look))


async def redeliver(
    credential: Caller, webhooks: TheWebhooks, name: FromPath[str], message_id: FromPath[str], request: AnyRequest
) -> Sending:
    """Send a message again that was taken or given up, with the same id."""
    key = idempotency_key(request)
    once = None if key is None else KeyedRequest(key, Delivery.tell_again, ())
    delivery = _delivery(credential, name, message_id)
    await call_for(request, webhooks.host, delivery, Delivery.tell_again, once=once)
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


def _secret(tenant: str, name: str, book: WebhookBook, *, now_ms: int) -> WebhookSecret:
    endpoint = book.get(tenant, name).endpoint
    newest, *previous = [secret_text(one) for one in book.secrets(tenant, name, endpoint, now_ms=now_ms)]
    return WebhookSecret(
        secret=newest,
        previous=previous[0] if previous else None,
        previous_until_ms=endpoint.previous_until_ms if previous else None,
    )
