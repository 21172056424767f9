"""The operator's API through the admin application, in virtual time: its credential, its routes, its refusals."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from services.ratelimiter.limiter import Limiter
from shared import bounds
from shared.http.admin import OperatorApi
from shared.http.health import create_admin_app
from shared.objects.address import Address, shard_of
from shared.objects.errors import DomainError, QuarantinedError
from shared.objects.handler import DurableObject
from shared.objects.inspection import Inspection
from shared.objects.quarantine import TERMS
from shared.telemetry import logs
from tests.support.limiter_app import ADMIN_TOKEN, Answer, Service, with_service
from tests.support.log_lines import logged
from tests.support.simulated import Counter, Tally

ONE = "/admin/objects/counter/acme/one"
LIFT = f"{ONE}/quarantine/lift"
ID = "0" * 32


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms are given up after a minute, not after a day."""
    monkeypatch.setattr(bounds, "ALARM_GIVE_UP_MS", 60_000)


def operating(scenario: Callable[[Service], Awaitable[None]]) -> None:
    with_service(scenario, objects=[Counter, Tally, Desk, Closed])


class Desk(DurableObject):
    """Sends what nobody takes."""

    kind = "desk"

    def issue(self, name: str) -> None:
        self.send(Closed, self.address.tenant, name).take(name, b"\x00")

    def issue_to_nobody(self) -> None:
        self.send(Unhosted, self.address.tenant, "one").take()


class ClosedError(DomainError):
    """It takes nothing."""


class Closed(DurableObject):
    """Refuses what it is sent."""

    kind = "closed"

    def take(self, what: str = "", seal: bytes = b"") -> None:
        raise ClosedError


class Unhosted(Closed):
    """No node of these tests has it."""

    kind = "unhosted"


async def ask(service: Service, path: str, method: str = "GET", body: Any = None, **rest: Any) -> Answer:
    return await service.ask(method, path, body, app=service.admin, **{"key": ADMIN_TOKEN, **rest})


async def told(service: Service, path: str, method: str = "GET", body: Any = None) -> Any:
    answer = await ask(service, path, method, body)
    assert 200 == answer.status, answer
    assert "no-store" == answer.field("cache-control")
    return answer.json()


async def add(service: Service, name: str, tenant: str = "acme") -> None:
    await service.host.call(Address("counter", tenant, name), Counter.add, 1)


def test_nobody_comes_in_without_the_token() -> None:
    """No credential, an API key and a wrong token are all 401, on every path, whether or not there is such a one."""

    async def scenario(service: Service) -> None:
        for path in ("/admin/objects", "/admin/alarms", ONE, f"{ONE}/evict", "/admin/none", "/admin/"):
            for key in (None, service.key, ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", ADMIN_TOKEN.upper()):
                answer = await ask(service, path, key=key)
                assert (401, "unauthenticated") == (answer.status, answer.json()["code"])
        assert 404 == (await service.ask("GET", ONE, key=ADMIN_TOKEN)).status  # Not on the public listener.

    operating(scenario)


def test_every_change_is_a_line_in_the_log() -> None:
    """What was done to which object; what was only asked for, or refused, is none."""

    async def scenario(service: Service) -> None:
        await service.host.call(Address("counter", "acme", "one"), Counter.arm, "x", 600_000)
        for path in (f"{ONE}/alarms/x/cancel", f"{ONE}/alarms/x/cancel", f"{ONE}/evict"):
            await ask(service, path, "POST")
        await ask(service, ONE)

    with logged() as stream:
        operating(scenario)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    acted = [line for line in lines if line["event"] == logs.OPERATOR_ACTED]
    one = "counter/acme/one"
    assert [("cancel", one, "x"), ("evict", one, "")] == [(a["action"], a["object"], a["alarm"]) for a in acted]


def test_dead_messages_are_listed_sent_again_and_dropped() -> None:
    """Over all objects page by page, and of one; what was done is a line in the log."""
    desk = "/admin/objects/desk/acme/one"

    async def scenario(service: Service) -> None:
        for name in ("a", "b"):
            await service.host.call(Address("desk", "acme", "one"), Desk.issue, name)
            await asyncio.sleep(1)
        first = await told(service, "/admin/dead-messages?limit=1")
        second = await told(service, f"/admin/dead-messages?limit=2&after={quote(first['next'])}")
        rows = [*first["messages"], *second["messages"]]
        assert second["next"] is None
        assert [("desk", "one", "a"), ("desk", "one", "b")] == [
            (row["kind"], row["name"], row["receiver"]["name"]) for row in rows
        ]
        own = [{name: value for name, value in row.items() if name not in ("kind", "tenant", "name")} for row in rows]
        assert {"messages": own} == await told(service, f"{desk}/messages")
        assert {"id", "size_bytes", "receiver", "method", "sent_ms", "expire_at_ms", "dead_ms", "error"} == own[
            0
        ].keys()

        dead, other = (row["id"] for row in rows)
        assert {**own[0], "arguments": ["a", {"$base64": "AA=="}]} == await told(service, f"{desk}/messages/{dead}")
        sent = (await told(service, f"{desk}/messages/{dead}/resend", "POST"))["id"]
        assert 404 == (await ask(service, f"{desk}/messages/{dead}/resend", "POST")).status
        assert 404 == (await ask(service, f"{desk}/messages/{dead}")).status
        assert {"dropped": True} == await told(service, f"{desk}/messages/{other}/drop", "POST")
        await asyncio.sleep(1)  # It is refused again.
        assert [sent] == [row["id"] for row in (await told(service, "/admin/dead-messages"))["messages"]]
        acted.extend([("resend", dead), ("drop", other)])

    acted: list[tuple[str, str]] = []
    with logged() as stream:
        operating(scenario)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    done = [(line["action"], line["message"]) for line in lines if line["event"] == logs.OPERATOR_ACTED]
    assert acted == done


def test_a_message_that_is_under_way_is_left_alone() -> None:
    """Neither order touches what may yet be delivered: 409."""

    async def scenario(service: Service) -> None:
        await service.host.call(Address("desk", "acme", "one"), Desk.issue_to_nobody)
        (message,) = (await told(service, "/admin/objects/desk/acme/one/messages"))["messages"]
        for action in ("resend", "drop"):
            answer = await ask(service, f"/admin/objects/desk/acme/one/messages/{message['id']}/{action}", "POST")
            assert (409, "conflict") == (answer.status, answer.json()["code"])
        assert [] == (await told(service, "/admin/dead-messages"))["messages"]

    operating(scenario)


def test_quarantine_is_listed_and_lifted() -> None:
    """Until when and for the how-manyth time; an object that is in none is no mistake."""

    async def scenario(service: Service) -> None:
        object_id = Address("counter", "acme", "one").encode()
        shard = shard_of(object_id, len(service.core.ownership.shards))
        record = await service.store.quarantine(shard, object_id, TERMS)
        listed = {"kind": "counter", "tenant": "acme", "name": "one", "terms": 1, "until_ms": record.until_ms}
        assert {"objects": [listed]} == await told(service, "/admin/quarantine")
        with pytest.raises(QuarantinedError):
            await add(service, "one")
        assert {"lifted": True} == await told(service, LIFT, "POST")
        await add(service, "one")
        assert {"lifted": False} == await told(service, LIFT, "POST")
        assert {"objects": []} == await told(service, "/admin/quarantine")
        assert 404 == (await ask(service, LIFT.replace("counter", "nobody"), "POST")).status

    operating(scenario)


def test_the_kinds_are_told_with_what_can_be_called() -> None:
    """All that are hosted, by name; a kind that is not is the same answer wherever it is asked for."""

    async def scenario(service: Service) -> None:
        kinds = {kind["kind"]: kind for kind in (await told(service, "/admin/kinds"))["kinds"]}
        assert sorted(kinds) == list(kinds)
        assert {"counter", "tally", Limiter.kind} <= set(kinds)
        assert ("committed", True, 1) == tuple(kinds["counter"][name] for name in ("durability", "listed", "schema"))
        assert not kinds[Limiter.kind]["listed"]
        for path in ("/admin/objects?kind=nobody&tenant=acme", "/admin/objects/nobody/acme/one"):
            bare, _, query = path.partition("?")
            answer = await ask(service, bare, query=query)
            assert 404 == answer.status
            assert answer.json()["detail"].startswith("There is no kind 'nobody'; hosted here: closed, counter, ")

    operating(scenario)


def test_without_a_token_it_is_off() -> None:
    """For everybody, and the answer says what to do."""

    async def scenario(service: Service) -> None:
        inspection = Inspection(service.host, service.store, service.core.ownership)
        operator = OperatorApi(inspection, token="").answer
        service.admin = create_admin_app(
            ready=list, scrape=lambda _: (b"", ""), openapi=lambda: b"{}", operator=operator
        )
        for key in (None, "", " "):
            answer = await ask(service, ONE, key=key)
            assert (403, "admin_off") == (answer.status, answer.json()["code"])
            assert "TENURE_ADMIN_TOKEN" in answer.json()["detail"]

    operating(scenario)


def test_objects_are_listed_page_by_page() -> None:
    """By kind and tenant, with a prefix, until there is no next one."""

    async def scenario(service: Service) -> None:
        for name in ("a", "b/c", "b", "bb", "b-é"):
            await add(service, name)
        await add(service, "b", tenant="other")
        seen, after = [], ""
        while True:
            page = await told(service, f"/admin/objects?kind=counter&tenant=acme&prefix=b&limit=2{after}")
            seen += page["objects"]
            if page["next"] is None:
                break
            after = f"&after={quote(page['next'])}"
        expected = [{"kind": "counter", "tenant": "acme", "name": name} for name in ("b", "bb", "b/c", "b-é")]
        assert expected == seen

    operating(scenario)


def test_an_object_is_shown_by_any_name() -> None:
    """Percent-encoded whole; a name that is not there is 404."""

    async def scenario(service: Service) -> None:
        for name in ("a/b", "..", "%2F", "ä"):
            await add(service, name)
            path = f"/admin/objects/counter/acme/{quote(name, safe='').replace('.', '%2E')}"
            answer = await ask(service, "/admin/objects/counter/acme/any", raw_path=path.encode())
            shown = answer.json()
            assert (name, {"size_bytes": 2, "value": 1}) == (shown["name"], shown["stored"]["values"]["total"])
            assert (0, False) == (shown["resident"]["mailbox_depth"], shown["resident"]["dirty"])
        missing = await ask(service, "/admin/objects/counter/acme/none")
        assert (404, "not_found") == (missing.status, missing.json()["code"])

    operating(scenario)


def test_a_journal_is_read_page_by_page() -> None:
    """An object without one has an empty one."""

    async def scenario(service: Service) -> None:
        await add(service, "one")
        assert {"entries": [], "next": None} == await told(service, f"{ONE}/journal?reverse=true&limit=5&after=0")

    operating(scenario)


def test_eviction_says_whether_the_object_was_there() -> None:
    """It leaves memory, and a second time there is nothing to do."""

    async def scenario(service: Service) -> None:
        await add(service, "one")
        assert {"evicted": True} == await told(service, f"{ONE}/evict", "POST")
        assert (await told(service, ONE))["resident"] is None
        assert {"evicted": False} == await told(service, f"{ONE}/evict", "POST")

    operating(scenario)


def test_alarms_are_listed_cancelled_rearmed_and_dropped() -> None:
    """From armed to dead, to armed anew, to dead again, to gone."""

    async def scenario(service: Service) -> None:
        one = Address("counter", "acme", "one")
        for name in ("bad", "x/y"):
            await service.host.call(one, Counter.arm, name, 600_000 if name == "x/y" else 1_000)
        page = await told(service, "/admin/alarms?limit=1")
        assert ["bad"] == [row["alarm"] for row in page["alarms"]]
        page = await told(service, f"/admin/alarms?limit=1&after={quote(page['next'])}")
        assert ["x/y"] == [row["alarm"] for row in page["alarms"]]
        due_ms = page["alarms"][0]["due_ms"]
        assert 1 == len((await told(service, f"/admin/alarms?due_before={due_ms}"))["alarms"])
        raw = f"{ONE}/alarms/x%2Fy/cancel".encode()
        assert {"cancelled": True} == (await ask(service, ONE, "POST", raw_path=raw)).json()
        assert 404 == (await ask(service, ONE, "POST", raw_path=raw)).status

        await asyncio.sleep(200)
        (dead,) = (await told(service, "/admin/dead-alarms"))["alarms"]
        assert ("one", "bad", "ValueError: this alarm fails") == (dead["name"], dead["alarm"], dead["last_error"])
        assert dead["dead_ms"] > dead["first_failed_ms"]
        later_ms = service.host.store_clock.now_ms() + 1_000
        rearmed = await told(service, f"{ONE}/alarms/bad/rearm", "POST", {"due_ms": later_ms})
        assert {"due_ms": later_ms} == rearmed
        assert [] == (await told(service, "/admin/dead-alarms"))["alarms"]
        await asyncio.sleep(200)
        now = await told(service, f"{ONE}/alarms/bad/rearm", "POST")
        assert now["due_ms"] <= service.host.store_clock.now_ms()
        await asyncio.sleep(200)
        assert {"dropped": True} == await told(service, f"{ONE}/alarms/bad/drop", "POST")
        assert 404 == (await ask(service, f"{ONE}/alarms/bad/drop", "POST")).status
        assert [] == (await told(service, "/admin/dead-alarms?limit=1"))["alarms"]

    operating(scenario)


BAD = [
    ("/admin/objects?tenant=acme", 400, "query.kind"),
    ("/admin/objects?kind=counter", 400, "query.tenant"),
    ("/admin/objects?kind=nobody&tenant=acme", 404, None),
    ("/admin/objects?kind=tally&tenant=acme", 400, "query.kind"),
    ("/admin/objects?kind=counter&tenant=acme&limit=0", 400, "query.limit"),
    ("/admin/objects?kind=counter&tenant=acme&limit=1001", 400, "query.limit"),
    ("/admin/objects?kind=counter&tenant=acme&limit=-1", 400, "query.limit"),
    ("/admin/objects?kind=counter&tenant=acme&limit=²", 400, "query.limit"),
    ("/admin/objects?kind=counter&tenant=acme&color=red", 400, "query.color"),
    ("/admin/objects?kind=counter&tenant=acme&kind=counter", 400, "query.kind"),
    ("/admin/objects?kind=counter&tenant=acme&after=%", 400, "query.after"),
    ("/admin/objects?kind=counter&tenant=acme&after=AAAA", 400, "query.after"),
    ("/admin/objects?kind=counter&tenant=acme&after=B2NvdW50ZXIEYWNtZQAJbm8=", 400, "query.after"),
    ("/admin/objects?kind=counter&tenant=acme&after=BWhlbGxvBGFjbWUAA29uZQ==", 400, "query.after"),
    ("/admin/alarms?after=eA==", 400, "query.after"),
    ("/admin/alarms?after=eDp5", 400, "query.after"),
    ("/admin/alarms?after=MTp5", 400, "query.after"),
    ("/admin/alarms?after=é", 400, "query.after"),
    ("/admin/alarms?due_before=soon", 400, "query.due_before"),
    ("/admin/alarms?due_before=99999999999999999", 400, "query.due_before"),
    ("/admin/dead-alarms?due_before=1", 400, "query.due_before"),
    (f"{ONE}?verbose=1", 400, "query.verbose"),
    (f"{ONE}/journal?reverse=yes", 400, "query.reverse"),
    (f"/admin/objects/counter/acme/{'n' * 513}", 400, "path.name"),
    ("/admin/objects/counter//one", 400, "path.tenant"),
    ("/admin/objects/nobody/acme/one", 404, None),
    ("/admin/objects/counter/acme", 404, None),
    (f"{ONE}/state", 404, None),
    (f"{ONE}/alarms/x/ring", 404, None),
    (f"{ONE}/messages/x/read", 404, None),
    (f"{ONE}/messages/{ID}", 404, None),
    (f"{ONE}/messages/{ID[:-1]}", 400, "path.id"),
    (f"{ONE}/messages/{ID}?verbose=1", 400, "query.verbose"),
    (f"{ONE}/messages/{ID[:-1]}/drop", 400, "path.id"),
    (f"{ONE}/messages/{ID[:-1]}g/resend", 400, "path.id"),
    (f"{ONE}/quarantine", 404, None),
    ("/admin/objects/nobody/acme/one/messages", 404, None),
    ("/admin/dead-messages?limit=0", 400, "query.limit"),
    ("/admin/dead-messages?after=MTIz", 400, "query.after"),
    ("/admin/dead-messages?after=MTox²", 400, "query.after"),
    ("/admin/quarantine?limit=1", 400, "query.limit"),
    ("/admin/", 404, None),
]


@pytest.mark.parametrize(("path", "status", "where"), BAD)
def test_what_is_wrong_with_a_question_is_told(path: str, status: int, where: str | None) -> None:
    """A problem document, with the place of what cannot be understood."""

    async def scenario(service: Service) -> None:
        bare, _, query = path.partition("?")
        answer = await ask(service, bare, query=query.replace("é", "%C3%A9").replace("²", "%C2%B2"))
        assert (status, "application/problem+json") == (answer.status, answer.field("content-type"))
        assert where == answer.json().get("where")

    operating(scenario)


def test_a_query_that_is_not_utf_8_is_refused() -> None:
    """As any other input."""

    async def scenario(service: Service) -> None:
        answer = await ask(service, "/admin/alarms", query="after=%FF")
        assert (400, "query") == (answer.status, answer.json()["where"])

    operating(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"due_ms": "soon"}, 400),
        ({"due_ms": -1}, 400),
        ({"due_ms": 2**53}, 400),
        ({"when": 1}, 400),
        (b"{", 400),
        (b"x" * (bounds.BODY_BYTES_MAX + 1), 413),
        ({"due_ms": None}, 404),
    ],
)
def test_an_order_to_rearm_is_read_strictly(body: Any, status: int) -> None:
    """What is understood is carried out, here in vain; everything else is refused."""

    async def scenario(service: Service) -> None:
        await add(service, "one")
        assert status == (await ask(service, f"{ONE}/alarms/x/rearm", "POST", body)).status

    operating(scenario)


def test_methods_are_told_apart() -> None:
    """Looking is GET, doing is POST, and the answer says which."""

    async def scenario(service: Service) -> None:
        for method, path, allow in (("POST", ONE, "GET, HEAD"), ("GET", f"{ONE}/evict", "POST"), ("GET", LIFT, "POST")):
            answer = await ask(service, path, method)
            assert (405, allow) == (answer.status, answer.field("allow"))
        assert (200, b"") == (await ask(service, "/admin/alarms", "HEAD"))[::2]

    operating(scenario)
