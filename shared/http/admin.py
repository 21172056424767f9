"""The operator's API on the admin listener: every object of the service, whoever's it is.

It shows state and changes things, so it asks for a credential of its own, `TENURE_ADMIN_TOKEN`, on loopback too:
another user of the machine, or a page in a browser on it, must not get at it. Without a token it is off.
Every change is one line in the log. Names stand in paths percent-encoded whole (`shared.http.names`).

`docs/reference/admin.md` lists the routes.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from shared.bounds import BODY_BYTES_MAX, MOMENT_MS_MAX
from shared.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from shared.http.admin_query import (
    Query,
    alarm_cursor,
    letter_cursor,
    object_cursor,
    read_alarm_cursor,
    read_letter_cursor,
    read_object_cursor,
)
from shared.http.asgi import Answer, Receive, Scope
from shared.http.auth import bearer_secret
from shared.http.body import BodyReader, check_media_type, declared_size
from shared.http.decoding import check_keys, strict_decoder
from shared.http.errors import AdminOffError, MethodNotAllowedError
from shared.http.health import plain
from shared.http.names import decoded_segment, sent_path
from shared.objects.address import Address
from shared.objects.inspection import Inspection, PlacedAlarms
from shared.storage.listings import MESSAGE_ID_BYTES
from shared.telemetry import logs

_OBJECT, _LONGEST = 3, 6  # Segments of a path behind "/admin/objects".
_MESSAGE_ID = re.compile(rb"[0-9a-f]{%d}" % (2 * MESSAGE_ID_BYTES))
_encode = msgspec.json.Encoder().encode
_log = logs.get_logger()
Handler = Callable[[Scope, Receive], Awaitable[Any]]


class _Rearm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    due_ms: int | None = None


_decode_rearm = strict_decoder(_Rearm)


class OperatorApi:
    """Answers below `/admin/`. `token` may be empty: then nobody may come in."""

    def __init__(self, inspection: Inspection, *, token: str) -> None:
        self._inspection = inspection
        self._token = token.encode()
        self._reader = BodyReader()

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """One request.

        Raises:
            AdminOffError, UnauthenticatedError: before anything else is looked at.
            TenureError: what is wrong with the request, or with what it asks for.
        """
        self._authenticate(scope)
        method, handler = self._route(sent_path(scope).split(b"/")[2:])
        if scope["method"] not in method:
            raise MethodNotAllowedError(", ".join(method))
        return plain(_encode(await handler(scope, receive)))

    def _authenticate(self, scope: Scope) -> None:
        if not self._token:
            raise AdminOffError
        sent = bearer_secret(dict(scope["headers"]).get(b"authorization"))
        if sent is None or not secrets.compare_digest(sent, self._token):
            raise UnauthenticatedError("the node's admin token")

    def _route(self, segments: Sequence[bytes]) -> tuple[tuple[str, ...], Handler]:
        """The methods and the handler of a path, given by its segments behind `/admin`."""
        match segments:
            case [b"kinds"]:
                return ("GET", "HEAD"), self._kinds
            case [b"objects"]:
                return ("GET", "HEAD"), self._objects
            case [b"alarms"]:
                return ("GET", "HEAD"), self._alarms
            case [b"dead-alarms"]:
                return ("GET", "HEAD"), self._dead_alarms
            case [b"dead-messages"]:
                return ("GET", "HEAD"), self._dead_messages
            case [b"quarantine"]:
                return ("GET", "HEAD"), self._quarantined
            case [b"objects", *rest] if _OBJECT <= len(rest) <= _LONGEST:
                return self._object_route(_address(rest[:_OBJECT]), rest[_OBJECT:])
        raise NotFoundError("such path")

    def _object_route(self, address: Address, rest: Sequence[bytes]) -> tuple[tuple[str, ...], Handler]:
        match rest:
            case []:
                return ("GET", "HEAD"), lambda scope, _: self._show(address, scope)
            case [b"journal"]:
                return ("GET", "HEAD"), lambda scope, _: self._journal(address, scope)
            case [b"evict"]:
                return ("POST",), lambda scope, _: self._evict(address, scope)
            case [b"alarms", alarm, b"cancel" | b"rearm" | b"drop" as action]:
                name = decoded_segment(alarm)
                return ("POST",), lambda scope, receive: self._change(address, name, action.decode(), scope, receive)
            case [b"messages"]:
                return ("GET", "HEAD"), lambda scope, _: self._messages(address, scope)
            case [b"messages", message]:
                shown_id = _message_id(message)
                return ("GET", "HEAD"), lambda scope, _: self._message(address, shown_id, scope)
            case [b"messages", message, b"resend" | b"drop" as action]:
                message_id = _message_id(message)
                return ("POST",), lambda scope, _: self._settle(address, message_id, action.decode(), scope)
            case [b"quarantine", b"lift"]:
                return ("POST",), lambda scope, _: self._lift(address, scope)
        raise NotFoundError("such path")

    # Looking.

    async def _kinds(self, scope: Scope, _: Receive) -> Any:
        Query(scope)
        return {"kinds": self._inspection.kinds()}

    async def _objects(self, scope: Scope, _: Receive) -> Any:
        query = Query(scope, "kind", "tenant", "prefix", "after", "limit")
        kind, tenant, limit = query.text("kind"), query.text("tenant"), query.limit()
        after = read_object_cursor(query.optional("after"), kind=kind, tenant=tenant)
        found = await self._inspection.objects(kind, tenant, prefix=query.optional("prefix"), after=after, limit=limit)
        rows = [{"kind": address.kind, "tenant": address.tenant, "name": address.name} for address in found]
        return {"objects": rows, "next": object_cursor(found[-1]) if len(found) == limit else None}

    async def _show(self, address: Address, scope: Scope) -> Any:
        Query(scope)
        return await self._inspection.show(address)

    async def _journal(self, address: Address, scope: Scope) -> Any:
        query = Query(scope, "after", "limit", "reverse")
        limit = query.limit()
        entries = await self._inspection.journal(
            address, after=query.number("after") or 0, limit=limit, reverse=query.flag("reverse")
        )
        return {"entries": entries, "next": entries[-1].number if len(entries) == limit else None}

    async def _alarms(self, scope: Scope, _: Receive) -> Any:
        query = Query(scope, "due_before", "after", "limit")
        limit, after = query.limit(), read_alarm_cursor(query.optional("after"))
        found = await self._inspection.alarms(due_before_ms=query.number("due_before"), after=after, limit=limit)
        return _alarm_page(found, limit)

    async def _dead_alarms(self, scope: Scope, _: Receive) -> Any:
        query = Query(scope, "after", "limit")
        limit, after = query.limit(), read_alarm_cursor(query.optional("after"))
        return _alarm_page(await self._inspection.dead_alarms(after=after, limit=limit), limit)

    async def _messages(self, address: Address, scope: Scope) -> Any:
        Query(scope)
        return {"messages": await self._inspection.letters.sent(address)}

    async def _message(self, address: Address, message_id: bytes, scope: Scope) -> Any:
        Query(scope)
        return await self._inspection.letters.show(address, message_id)

    async def _dead_messages(self, scope: Scope, _: Receive) -> Any:
        query = Query(scope, "after", "limit")
        limit, after = query.limit(), read_letter_cursor(query.optional("after"))
        found, spot = await self._inspection.letters.dead(after=after, limit=limit)
        return {"messages": found, "next": None if spot is None else letter_cursor(spot)}

    async def _quarantined(self, scope: Scope, _: Receive) -> Any:
        Query(scope)
        found = await self._inspection.quarantined()
        return {
            "objects": [{**each.address._asdict(), "terms": each.terms, "until_ms": each.until_ms} for each in found]
        }

    # Doing.

    async def _evict(self, address: Address, scope: Scope) -> Any:
        Query(scope)
        evicted = await self._inspection.evict(address)
        _log_action("evict", address)
        return {"evicted": evicted}

    async def _lift(self, address: Address, scope: Scope) -> Any:
        Query(scope)
        lifted = await self._inspection.lift_quarantine(address)
        _log_action("lift", address)
        return {"lifted": lifted}

    async def _settle(self, address: Address, message_id: bytes, action: str, scope: Scope) -> Any:
        Query(scope)
        answer: Any
        if action == "resend":
            answer = {"id": (await self._inspection.letters.resend(address, message_id)).hex()}
        else:
            await self._inspection.letters.drop(address, message_id)
            answer = {"dropped": True}
        _log_action(action, address, message=message_id.hex())
        return answer

    async def _change(self, address: Address, alarm: str, action: str, scope: Scope, receive: Receive) -> Any:
        Query(scope)
        answer: Any
        if action == "rearm":
            due_ms = (await self._rearm_order(scope, receive)).due_ms
            answer = {"due_ms": await self._inspection.rearm_alarm(address, alarm, due_ms=due_ms)}
        elif action == "cancel":
            await self._inspection.cancel_alarm(address, alarm)
            answer = {"cancelled": True}
        else:
            await self._inspection.drop_alarm(address, alarm)
            answer = {"dropped": True}
        _log_action(action, address, alarm=alarm)
        return answer

    async def _rearm_order(self, scope: Scope, receive: Receive) -> _Rearm:
        fields = dict(scope["headers"])
        if not declared_size(fields, BODY_BYTES_MAX):
            return _Rearm()
        check_media_type(fields)
        body = await self._reader.read(receive, BODY_BYTES_MAX, fields.get(b"content-length"))
        order = _decode_rearm(body)
        check_keys(body)
        if order.due_ms is not None and not 0 <= order.due_ms <= MOMENT_MS_MAX:
            raise InvalidInputError("This is not a moment in Unix milliseconds", "$.due_ms")
        return order


def _alarm_page(found: PlacedAlarms, limit: int) -> Any:
    cursor = alarm_cursor(found[-1][0]) if len(found) == limit else None
    return {"alarms": [row for _, row in found], "next": cursor}


def _address(segments: Sequence[bytes]) -> Address:
    """The address that stands in a path. Raises InvalidInputError: a part of it can be none."""
    address = Address(*map(decoded_segment, segments))
    try:
        address.encode()
    except InvalidInputError as exc:
        raise InvalidInputError(exc.detail, f"path.{exc.where}") from exc
    return address


def _message_id(segment: bytes) -> bytes:
    """The id of a message, which paths and answers have in hexadecimal digits.

    Raises:
        InvalidInputError: it can be none.
    """
    if not _MESSAGE_ID.fullmatch(segment):
        raise InvalidInputError(f"The id of a message has {2 * MESSAGE_ID_BYTES} hexadecimal digits", "path.id")
    return bytes.fromhex(segment.decode())


def _log_action(action: str, address: Address, *, alarm: str = "", message: str = "") -> None:
    _log.info(logs.OPERATOR_ACTED, action=action, object=str(address), alarm=alarm, message=message)
