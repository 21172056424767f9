"""Sockets of objects at the edge: who may open one, what ends one, and that nothing else does. Rows W-01 to W-06."""

import asyncio
from typing import Any

import msgspec
import pytest

from shared import bounds
from shared.errors import ConfigurationError
from shared.objects.address import Address
from shared.objects.handler import DurableObject, public
from shared.objects.published import published
from shared.objects.sockets import Socket
from shared.storage.records import key_digest
from tests.simulation.test_sockets import Hall, Word
from tests.support.far_end import FarEnd, knock, pinged_s
from tests.support.limiter_app import Service, with_service

HALL = "/v1/objects/hall/one/socket"
ONE = Address("hall", "acme", "one")
TICKETS = "/v1/objects/hall/one/tickets"


async def entered(service: Service, **options: Any) -> FarEnd:
    """A socket that was welcomed, opened with the key unless a ticket is given."""
    if "ticket" not in options:
        options.setdefault("key", service.key)
    far = await knock(service.app, HALL, **options)
    assert "tenure.v1" == far.accepted, (far.status, far.refusal, far.closed)
    assert "words" in (await far.frame())["message"]
    return far


async def revoke(service: Service, text: str) -> None:
    """Take a key back, as `tenure key revoke` does."""
    documents = service.node.shared_documents
    digest = key_digest(text)
    for document in documents.list_all("key"):
        if msgspec.json.decode(document.body)["digest"] == digest:
            await documents.delete("key", document.tenant, document.name, expected=document.version)


def test_w_01_a_page_of_a_foreign_origin_is_refused_before_it_is_accepted() -> None:
    """Whatever credential it shows; named origins and the own host may, and programs send none."""

    async def scenario(service: Service) -> None:
        foreign = await knock(service.app, HALL, key=service.key, headers=[("origin", "https://evil.example")])
        assert (403, "foreign_origin", None) == (foreign.status, foreign.refusal["code"], foreign.accepted)
        null = await knock(service.app, HALL, key=service.key, headers=[("origin", "null")])
        assert 403 == null.status
        for origin in ("https://app.example", "http://localhost", "HTTPS://APP.EXAMPLE"):
            assert "tenure.v1" == (await entered(service, headers=[("origin", origin)])).accepted
        assert 0 == (await service.ask("GET", "/v1/policies")).status - 200

    with_service(scenario, objects=[Hall])


@pytest.mark.parametrize(
    "origin", ["http://a]b", "http://[", "http://[::1", "http://[x]", "]", "//", "http://", "\xff"]
)
def test_w_01_an_origin_that_is_none_is_refused_as_a_foreign_one(origin: str) -> None:
    """403, whatever credential is there: it is no fault of the service."""

    async def scenario(service: Service) -> None:
        for key in (None, service.key):
            far = await knock(service.app, HALL, key=key, headers=[("origin", origin)])
            assert (403, "foreign_origin", None) == (far.status, far.refusal["code"], far.accepted)

    with_service(scenario, objects=[Hall])


def test_w_02_nothing_is_accepted_without_a_credential_that_may() -> None:
    """401 without one or with a wrong one, 403 without the scope; no object is asked."""

    async def scenario(service: Service) -> None:
        lame = await service.add_key("acme", "limits:check")
        wanted = {None: 401, "tnk_" + "x" * 43: 401, lame: 403}
        found = {key: (await knock(service.app, HALL, key=key)).status for key in wanted}
        assert wanted == found
        assert 0 == service.host.objects_resident

    with_service(scenario, objects=[Hall])


def test_w_02_a_revoked_key_ends_its_sockets_within_a_second_and_no_others() -> None:
    """With 4401, those opened by tickets that it asked for too; another key's, as after a rotation, stay."""

    async def scenario(service: Service) -> None:
        doomed = await service.add_key("acme", "objects:call")
        ticket = (await service.ask("POST", TICKETS, {}, key=doomed)).json()["ticket"]
        ended = [await entered(service, key=doomed), await entered(service, ticket=ticket)]
        stays = await entered(service)
        sweeping = asyncio.get_running_loop().create_task(service.node.ingress.run())
        await revoke(service, doomed)
        await asyncio.sleep(1)
        sweeping.cancel()
        assert [(4401, "The credential has ended")] * 2 == [far.closed for far in ended]
        assert stays.closed is None

    with_service(scenario, objects=[Hall])


def test_w_03_a_frame_over_64_kib_ends_its_socket_with_1009() -> None:
    """In bytes, not in characters; one of just that size is a message."""

    async def scenario(service: Service) -> None:
        far = await entered(service)
        envelope = len('{"message":{"say":""}}')
        await far.send({"say": "x" * (bounds.SOCKET_FRAME_BYTES_MAX - envelope)})
        assert 1 == (await far.frame())["message"]["count"]
        await far.send({"say": "\xe4" * (bounds.SOCKET_FRAME_BYTES_MAX // 2)})
        assert (1009, "At most 64 KiB a frame") == await far.end()

    with_service(scenario, objects=[Hall])


def test_w_04_a_reader_that_stalls_is_cut_off_with_1013_and_the_rest_goes_on() -> None:
    """Its turn-mates hear everything at once, and within four seconds nothing of it is left."""

    async def scenario(service: Service) -> None:
        slow, quick = await entered(service), await entered(service)
        slow.stalled.clear()
        for _ in range(20):
            await service.host.call(ONE, Hall.shout, 60_000)
            assert 60_000 == len((await quick.frame())["message"])
        assert service.node.ingress.queued_bytes <= bounds.SOCKET_QUEUE_BYTES_MAX
        await asyncio.sleep(2 * bounds.SOCKET_GRACE_MS / 1000 + 0.5)
        assert slow.task.done()
        assert {"left": 1013} == (await quick.frame())["message"]
        assert (1, 0) == (service.node.ingress.open_sockets, service.node.ingress.queued_bytes)

    with_service(scenario, objects=[Hall])


def test_w_04_a_slow_reader_that_reads_again_hears_why_it_ends() -> None:
    """The close of 1013 is what comes after the frame that it was stuck in."""

    async def scenario(service: Service) -> None:
        slow = await entered(service)
        slow.stalled.clear()
        for _ in range(20):
            await service.host.call(ONE, Hall.shout, 60_000)
        await asyncio.sleep(1)
        slow.stalled.set()
        assert (1013, "Read faster, or less") == await slow.end()

    with_service(scenario, objects=[Hall])


@pytest.mark.parametrize("bound", ["SOCKETS_MAX", "SOCKETS_PER_TENANT_MAX", "SOCKETS_PER_OBJECT_MAX"])
def test_w_05_one_socket_too_many_is_closed_with_4429(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the node, the tenant and the object; where one leaves, one may come."""
    monkeypatch.setattr(bounds, bound, 2)

    async def scenario(service: Service) -> None:
        first, _ = await entered(service), await entered(service)
        third = await knock(service.app, HALL, key=service.key)
        assert (4429, "Too many sockets") == await third.end()
        await first.leave()
        assert (await entered(service)).closed is None

    with_service(scenario, objects=[Hall])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"message":{"say":"a"},"ping":1}',
        '{"message":{"say":1}}',
        '{"message":{"say":"a","loud":true}}',
        '{"message":{}}',
        '{"message":null}',
        '{"words":{"say":"a"}}',
        '{"ping":"1"}',
        '{"ping":1.0}',
        '{"ping":9999999999999999999999999}',
        '{"message":' + "[" * 10_000,
        '{"message":{"say":"\ud800"}}',
    ],
)
def test_w_06_what_is_no_frame_ends_its_socket_with_4400(text: str) -> None:
    """Decoded as strictly as any body, by the annotation of `on_socket_message`; the object is not asked."""

    async def scenario(service: Service) -> None:
        far = await entered(service)
        await far.send_text(text)
        assert (4400, "Not a frame") == await far.end()
        assert () == await service.host.call(ONE, Hall.words)

    with_service(scenario, objects=[Hall])


def test_a_binary_frame_ends_its_socket_with_1003() -> None:
    """Frames are text."""

    async def scenario(service: Service) -> None:
        far = await entered(service)
        await far.send_bytes(b"{}")
        assert (1003, "Text frames only") == await far.end()

    with_service(scenario, objects=[Hall])


def test_a_ping_is_answered_without_a_turn() -> None:
    """It keeps the socket open, and its object asleep."""

    async def scenario(service: Service) -> None:
        far = await entered(service)
        turns = service.host.turns_of(ONE)
        await far.send_text('{"ping":7}')
        assert {"pong": 7} == await far.frame()
        assert turns == service.host.turns_of(ONE)

    with_service(scenario, objects=[Hall])


def test_a_sender_that_is_too_fast_is_read_more_slowly() -> None:
    """300 frames at once: 200 pass, the others take a second, and none is lost."""

    async def scenario(service: Service) -> None:
        far = await entered(service)
        assert 0.9 <= await pinged_s(far, 300) <= 1.2

    with_service(scenario, objects=[Hall])


def test_a_ticket_opens_one_socket_of_its_object_within_half_a_minute() -> None:
    """Not twice, not another object's, not later; and what the application has said of its user comes with it."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("POST", TICKETS, {"tags": ["speaker"], "attachment": "anna"})
        assert (201, 30_000) == (answer.status, answer.json()["expires_in_ms"])
        ticket = answer.json()["ticket"]
        far = await entered(service, ticket=ticket)
        await far.send({"say": "who"})
        assert "anna" == (await far.frame())["message"]
        used = await knock(service.app, HALL, ticket=ticket)
        assert (401, True) == (used.status, used.refusal["detail"].startswith("The ticket opens nothing here"))
        other = (await service.ask("POST", TICKETS)).json()["ticket"]
        assert 401 == (await knock(service.app, HALL.replace("one", "two"), ticket=other)).status
        late = (await service.ask("POST", TICKETS)).json()["ticket"]
        await asyncio.sleep(30)
        assert 401 == (await knock(service.app, HALL, ticket=late)).status

    with_service(scenario, objects=[Hall])


@pytest.mark.parametrize(
    ("body", "status"),
    [({"tags": ["x" * 257]}, 400), ({"tags": [""]}, 400), ({"more": 1}, 400), ({"attachment": "x" * 16_385}, 413)],
)
def test_a_ticket_that_carries_too_much_is_refused(body: Any, status: int) -> None:
    """Its tags and its attachment have bounds, and it has no other fields."""

    async def scenario(service: Service) -> None:
        assert status == (await service.ask("POST", TICKETS, body)).status

    with_service(scenario, objects=[Hall])


def test_a_tenant_has_so_many_tickets_out_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is refused until one was used or is too old; another tenant is not held up."""
    monkeypatch.setattr(bounds, "TICKETS_PER_TENANT_MAX", 2)

    async def scenario(service: Service) -> None:
        other = await service.add_key("globex", "objects:call")
        assert [201, 201, 503] == [(await service.ask("POST", TICKETS)).status for _ in range(3)]
        assert 201 == (await service.ask("POST", TICKETS, key=other)).status
        await asyncio.sleep(30)
        await service.node.shared_documents.poll()
        assert 201 == (await service.ask("POST", TICKETS)).status

    with_service(scenario, objects=[Hall])


def test_a_ticket_in_the_url_is_refused() -> None:
    """What stands in a URL ends up in logs; so a socket takes no query at all."""

    async def scenario(service: Service) -> None:
        far = await knock(service.app, HALL, key=service.key, query=b"ticket=abc")
        assert (400, "query") == (far.status, far.refusal["where"])

    with_service(scenario, objects=[Hall])


def test_a_ticket_without_the_protocol_beside_it_is_refused() -> None:
    """A browser ends a handshake whose answer names none of the subprotocols that it offered."""

    async def scenario(service: Service) -> None:
        ticket = (await service.ask("POST", TICKETS)).json()["ticket"]
        assert 400 == (await knock(service.app, HALL, ticket=ticket, protocols=())).status

    with_service(scenario, objects=[Hall])


@pytest.mark.parametrize(
    "path", ["/", "/v1/objects/none/one/socket", "/v1/objects/hall/one", "/v1/objects/hall//socket"]
)
def test_a_path_without_sockets_is_not_found(path: str) -> None:
    """Nor is one whose name is empty opened."""

    async def scenario(service: Service) -> None:
        far = await knock(service.app, path, key=service.key)
        assert far.status in (400, 404)
        assert far.accepted is None

    with_service(scenario, objects=[Hall])


def test_a_handshake_that_is_not_plain_is_refused_without_words() -> None:
    """Two credentials, or a server that cannot tell why: closed before it is accepted, which is a 403."""

    async def scenario(service: Service) -> None:
        twice = await knock(service.app, HALL, key=service.key, headers=[("authorization", "Bearer tnk_other")])
        silent = await knock(service.app, HALL, extensions=False)
        assert [(1008, ""), (1008, "")] == [twice.closed, silent.closed]
        assert (None, None) == (twice.accepted, silent.accepted)

    with_service(scenario, objects=[Hall])


def test_the_object_refuses_a_socket_with_its_own_code() -> None:
    """Before it is accepted, as a call would be refused."""

    async def scenario(service: Service) -> None:
        ticket = (await service.ask("POST", TICKETS, {"attachment": "stranger"})).json()["ticket"]
        far = await knock(service.app, HALL, ticket=ticket)
        assert (409, "silence") == (far.status, far.refusal["code"])

    with_service(scenario, objects=[Hall])


def test_a_client_that_leaves_is_reported_to_its_object() -> None:
    """With the code of its close."""

    async def scenario(service: Service) -> None:
        anna, bert = await entered(service), await entered(service)
        await bert.leave(1001)
        assert {"left": 1001} == (await anna.frame())["message"]

    with_service(scenario, objects=[Hall])


def test_a_node_that_stops_tells_its_clients_to_connect_again() -> None:
    """1012 to each, their objects hear of it, and none is let in any more."""

    async def scenario(service: Service) -> None:
        anna = await entered(service)
        await service.node.ingress.stop()
        assert 1012 == ((await anna.end()) or (0, ""))[0]
        assert 4429 == ((await (await knock(service.app, HALL, key=service.key)).end()) or (0, ""))[0]

    with_service(scenario, objects=[Hall])


def test_a_fault_ends_a_socket_with_1011_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the service's own, which no frame can cause: the others stay."""

    async def scenario(service: Service) -> None:
        anna, bert = await entered(service), await entered(service)
        monkeypatch.setattr(service.node.ingress, "ping", lambda *_: 1 / 0)
        await bert.send_text('{"ping":1}')
        assert (1011, "A fault of the service") == await bert.end()
        assert {"left": 1011} == (await anna.frame())["message"]

    with_service(scenario, objects=[Hall])


def test_a_plain_get_is_told_to_upgrade() -> None:
    """426, and the document describes the frames there."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("GET", HALL)
        assert (426, "upgrade_required", "websocket") == (
            answer.status,
            answer.json()["code"],
            answer.field("upgrade"),
        )

    with_service(scenario, objects=[Hall])


def _kind(**members: Any) -> type[DurableObject]:
    return type("Odd", (DurableObject,), {"kind": "odd", "__module__": __name__, **members})


def _takes_two(self: DurableObject, socket: Socket, message: Word) -> None: ...


def _takes_one(self: DurableObject, socket: Socket) -> None: ...


def _untyped(self: DurableObject, socket: Socket, message) -> None: ...


class Loose(msgspec.Struct):
    """Passes over what it does not know."""

    a: int


def _loose(self: DurableObject, socket: Socket, message: Loose) -> None: ...


@public
def tickets(self: DurableObject) -> None: ...


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"on_socket_message": _takes_one}, "a socket and a message"),
        ({"on_socket_message": 3}, "a socket and a message"),
        ({"on_socket_message": _untyped}, "has no annotation"),
        ({"on_socket_message": _loose}, "forbid_unknown_fields"),
        ({"on_socket_message": _takes_two, "durability": "checkpointed"}, "must be 'committed'"),
        ({"on_socket_message": _takes_two, "tickets": tickets}, "'tickets'"),
    ],
)
def test_a_kind_whose_sockets_cannot_stand_stops_the_start(members: dict[str, Any], why: str) -> None:
    """With one sentence that names the class."""
    with pytest.raises(ConfigurationError, match="Odd") as caught:
        published(_kind(**members))
    assert why in str(caught.value)
