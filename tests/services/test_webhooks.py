"""Webhooks through their routes: what subscribers are told, that it is signed, and that none of it is lost."""

import asyncio
import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from standardwebhooks import Webhook

from shared.bounds import WEBHOOKS_MAX
from shared.outbound.errors import NoAnswerError, UnreachableError
from shared.webhooks.book import WebhookKeys
from tests.support.limiter_app import Answer
from tests.support.receivers import Made, Receivers, replied
from tests.support.workflows_app import Workflows, code, with_workflows

HOOK = {"url": "https://shop.example/hooks"}
TAKEN = replied(204)
QUICK = (
    "workflow: quick\nattributes: { for: '{% $input.for %}' }\nstart: a\nsteps: { a: { pass: { sum: 3 }, end: true } }"
)
STALLS = "workflow: stalls\nstart: a\nsteps: { a: { object: { type: none, id: x, call: y }, retry: [], end: true } }"
HOUR_MS = 3_600_000


def hooked(scenario: Any, receivers: Receivers) -> None:
    """Run a scenario with a service whose calls outside these receivers answer."""

    async def main(service: Workflows) -> None:
        for name, text in (("quick", QUICK), ("stalls", STALLS)):
            assert 201 == (await service.put(text, name=name)).status
        await scenario(service)

    with_workflows(main, calls=receivers, workflow_keys=f"1:{43 * 'A'}")


async def hook(service: Workflows, name: str = "shop", **more: Any) -> str:
    """Put a webhook; its secret."""
    assert (await service.ask("PUT", f"/v1/webhooks/{name}", HOOK | more)).status in {200, 201}
    secret: str = (await service.ask("GET", f"/v1/webhooks/{name}/secret")).json()["secret"]
    return secret


def message(made: Made) -> Any:
    """What was sent."""
    return json.loads(made.request.body or b"")


def signed_by(secret: str, made: Made) -> bool:
    """Whether the library of Standard Webhooks would have signed it so: time is virtual here, and it asks the machine's."""
    headers = made.request.engine_headers
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    expected = Webhook(secret).sign(headers["webhook-id"], at, (made.request.body or b"").decode())
    return expected in headers["webhook-signature"].split(" ")


async def deliveries(service: Workflows, name: str = "shop", query: str = "") -> list[Any]:
    """The messages to a webhook."""
    answer = await service.ask("GET", f"/v1/webhooks/{name}/deliveries", query=query)
    assert 200 == answer.status, answer
    found: list[Any] = answer.json()["deliveries"]
    return found


async def delivery(service: Workflows, message_id: str, name: str = "shop") -> Any:
    """One of them."""
    return (await service.ask("GET", f"/v1/webhooks/{name}/deliveries/{message_id}")).json()


def test_a_subscriber_is_told_of_the_end_of_a_run() -> None:
    """Signed, in the form of Standard Webhooks, with what the run is found by and what it gave; then it is over."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Workflows) -> None:
        secret = await hook(service)
        await service.started("quick", {"for": "ann"}, id="r-1")
        await service.settle()
        (made,) = receivers.made
        assert ("POST", HOOK["url"], "acme") == (made.request.method, made.request.url, made.tenant)
        assert signed_by(secret, made)
        told = message(made)
        assert "run.succeeded" == told["type"]
        assert told["timestamp"].endswith("Z")
        about = {"run": "r-1", "definition": "quick", "version": 1, "attributes": {"for": "ann"}, "output": {"sum": 3}}
        assert about.items() <= told["data"].items()
        (row,) = await deliveries(service)
        assert (made.request.engine_headers["webhook-id"], "delivered") == (row["id"], row["status"])
        shown = await delivery(service, row["id"])
        assert ([204], made.request.body) == ([one["status"] for one in shown["attempts"]], b64decode(shown["body"]))

    hooked(scenario, receivers)


def test_a_subscriber_is_told_what_it_wants_alone() -> None:
    """Incidents that open and close, by step and error; one that is disabled, or of another tenant, is told nothing."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Workflows) -> None:
        await hook(service, "ops", events=["incident.opened", "incident.closed"])
        await hook(service, "off", enabled=False)
        run_id = await service.started("stalls")
        await service.settle()
        await service.started("quick", {"for": "ann"})
        await service.settle()
        await service.tell(run_id, "terminate")
        await service.settle()
        told = [message(made) for made in receivers.made]
        assert [("incident.opened", "a"), ("incident.closed", "a")] == [
            (one["type"], one["data"]["step"]) for one in told
        ]
        assert "object.unknown" == told[0]["data"]["error"]

    hooked(scenario, receivers)


def test_what_is_not_taken_is_sent_again_with_its_id() -> None:
    """Soon, and then less often, or when the other side says; whoever asks for it has it sent again."""
    away: list[Any] = [replied(500), UnreachableError(), NoAnswerError(), replied(503, retry_after="3600"), TAKEN]
    receivers = Receivers(*away)

    async def scenario(service: Workflows) -> None:
        secret = await hook(service)
        await service.started("quick", {"for": "ann"})
        await service.settle()
        (row,) = await deliveries(service, query="status=pending")
        await service.pass_time(2 * HOUR_MS)
        assert 4 == len(receivers.made)
        shown = await delivery(service, row["id"])
        assert [503, 0, 0, 500] == [one["status"] for one in shown["attempts"]]
        assert shown["next_ms"] - shown["attempts"][0]["at_ms"] >= HOUR_MS
        assert 1 == len({made.request.engine_headers["webhook-id"] for made in receivers.made})
        assert 4 == len({made.request.engine_headers["webhook-timestamp"] for made in receivers.made})
        assert all(signed_by(secret, made) for made in receivers.made)
        await service.pass_time(2 * HOUR_MS)
        assert ("delivered", 5) == ((await delivery(service, row["id"]))["status"], len(receivers.made))
        for _ in range(2):
            path = f"/v1/webhooks/shop/deliveries/{row['id']}/redeliver"
            again = await service.ask("POST", path, headers=[("idempotency-key", "k")])
            assert (202, row["id"]) == (again.status, again.json()["id"])
            await service.settle()
        assert 6 == len(receivers.made)

    hooked(scenario, receivers)


def test_an_endpoint_that_is_gone_is_disabled() -> None:
    """410 says so; what else it was to be told is given up, and it is enabled again by whoever puts it."""
    receivers = Receivers(replied(410))

    async def scenario(service: Workflows) -> None:
        await hook(service)
        await service.started("quick", {"for": "ann"})
        await service.settle()
        view = (await service.ask("GET", "/v1/webhooks/shop")).json()
        assert (False, "its last answer was 410") == (view["enabled"], view["disabled_because"])
        (row,) = await deliveries(service, query="status=given_up")
        await service.started("quick", {"for": "ben"})
        await service.settle()
        assert 1 == len(receivers.made)
        for path in ("test", f"deliveries/{row['id']}/redeliver"):
            assert 202 == (await service.ask("POST", f"/v1/webhooks/shop/{path}")).status
        await service.settle()
        assert {"the webhook is disabled"} == {
            (await delivery(service, one["id"]))["cause"] for one in await deliveries(service)
        }
        receivers.replies = [TAKEN]
        await hook(service)
        assert (await service.ask("GET", "/v1/webhooks/shop")).json()["disabled_because"] is None
        for _ in range(2):
            assert (
                202 == (await service.ask("POST", "/v1/webhooks/shop/test", headers=[("idempotency-key", "k")])).status
            )
            await service.settle()
        assert ("webhook.test", 2) == (message(receivers.made[-1])["type"], len(receivers.made))

    hooked(scenario, receivers)


@pytest.mark.parametrize("purged", [False, True])
def test_what_is_told_of_a_run_is_told_of_it_and_not_of_the_next_one_of_its_id(*, purged: bool) -> None:
    """Its definition, version and attributes, though another has taken its place in the same commit, or it was purged."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Workflows) -> None:
        named = STALLS.replace("start: a", "attributes: { for: '{% $input.for %}' }\nstart: a")
        assert 201 == (await service.put(named, name="stalls", version=2)).status
        await service.started("stalls", {"for": "ann"}, id="r-1")
        await service.settle()
        await hook(service)
        await service.pass_time(10)
        if purged:
            ended, gone = await asyncio.gather(service.tell("r-1", "terminate"), service.ask("DELETE", "/v1/runs/r-1"))
            assert (200, 204) == (ended.status, gone.status)
        else:
            await service.started("quick", {"for": "bob"}, id="r-1", on_conflict="terminate_existing")
        await service.settle()
        told = {(body := message(made))["type"]: body["data"] for made in receivers.made}
        for event in ("incident.closed", "run.terminated"):
            assert ("stalls", 2, {"for": "ann"}) == tuple(
                told[event][name] for name in ("definition", "version", "attributes")
            )
        if not purged:
            assert ("quick", {"for": "bob"}) == (
                told["run.succeeded"]["definition"],
                told["run.succeeded"]["attributes"],
            )

    hooked(scenario, receivers)


def test_a_secret_is_replaced_without_a_gap() -> None:
    """For a while both sign; it is in no document of the store."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Workflows) -> None:
        old = await hook(service)
        assert old == await hook(service), "it is put again, and keeps its secret"
        rotated = (await service.ask("POST", "/v1/webhooks/shop/rotate", {"keep_previous_s": 60})).json()
        new = rotated["secret"]
        assert (old, True) == (rotated["previous"], new != old)
        for at_ms in (0, 61_000):
            await service.pass_time(at_ms)
            await service.ask("POST", "/v1/webhooks/shop/test")
            await service.settle()
        first, second = receivers.made
        assert [True, True, True, False] == [
            signed_by(secret, made) for made in (first, second) for secret in (new, old)
        ]
        secret = (await service.ask("GET", "/v1/webhooks/shop/secret")).json()
        assert {"secret": new, "previous": None, "previous_until_ms": None} == secret
        stored = b"".join(document.body for document in service.node.documents.list_all("webhook"))
        assert b64decode(new.removeprefix("whsec_")) not in stored
        assert new.removeprefix("whsec_").encode() not in stored
        await service.ask("DELETE", "/v1/webhooks/shop")
        assert new != await hook(service), "another one of the same name has another secret"

    hooked(scenario, receivers)


def test_a_webhook_that_is_deleted_is_told_nothing_more() -> None:
    """What it was still to be told is given up."""
    receivers = Receivers(replied(500))

    async def scenario(service: Workflows) -> None:
        await hook(service)
        await service.ask("POST", "/v1/webhooks/shop/test")
        await service.settle()
        (row,) = await deliveries(service)
        assert 204 == (await service.ask("DELETE", "/v1/webhooks/shop")).status
        await service.pass_time(60_000)
        assert 1 == len(receivers.made)
        assert 404 == (await service.ask("GET", "/v1/webhooks/shop/deliveries")).status
        assert "the webhook was deleted" == (await delivery(service, row["id"]))["cause"]

    hooked(scenario, receivers)


def test_many_stalls_at_once_do_not_stop_a_run() -> None:
    """Of what does not fit into a turn the number is told."""
    receivers = Receivers(TAKEN)
    items = "workflow: items\nstart: all\nsteps: { all: { map: { items: '{% $input %}' }, each: { start: a, steps: "
    items += "{ a: { object: { type: none, id: x, call: y }, retry: [], end: true } } }, end: true } }"

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.put(items, name="items")).status
        await hook(service, events=["incident.opened", "incident.closed"])
        run_id = await service.started("items", list(range(300)))
        await service.pass_time(20_000)
        assert 300 == sum(message(made)["type"] == "incident.opened" for made in receivers.made)
        assert 200 == (await service.tell(run_id, "terminate")).status
        await service.pass_time(20_000)
        closed = [message(made)["data"] for made in receivers.made if message(made)["type"] == "incident.closed"]
        assert 300 == sum(data.get("left_out", 1) for data in closed)
        assert len(closed) < 300

    hooked(scenario, receivers)


BAD: list[tuple[str, str, Any, tuple[int, str], str | None]] = [
    ("PUT", "/v1/webhooks/a.b", HOOK, (400, "invalid_input"), "path.name"),
    ("PUT", "/v1/webhooks/a%2Fb", HOOK, (400, "invalid_input"), "path.name"),
    ("POST", "/v1/webhooks/%2f/test", None, (400, "invalid_input"), "path.name"),
    ("GET", "/v1/webhooks/a/b", None, (404, "not_found"), None),
    ("PUT", "/v1/webhooks/" + "n" * 65, HOOK, (400, "invalid_input"), "path.name"),
    ("PUT", "/v1/webhooks/a", {"url": "ftp://shop.example"}, (400, "http.bad_request"), "$.url"),
    ("PUT", "/v1/webhooks/a", {"url": "https://user:pass@shop.example"}, (400, "http.bad_request"), "$.url"),
    ("PUT", "/v1/webhooks/a", {}, (400, "invalid_input"), "$"),
    ("PUT", "/v1/webhooks/a", HOOK | {"events": ["run.begun"]}, (400, "invalid_input"), "$.events[0]"),
    ("POST", "/v1/webhooks/shop/rotate", {"keep_previous_s": -1}, (400, "invalid_input"), "$.keep_previous_s"),
    ("GET", "/v1/webhooks/shop/deliveries/msg_1", None, (400, "invalid_input"), "path.message_id"),
    ("GET", "/v1/webhooks/none", None, (404, "not_found"), None),
    ("DELETE", "/v1/webhooks/none", None, (404, "not_found"), None),
    ("GET", "/v1/webhooks/none/secret", None, (404, "not_found"), None),
    ("POST", "/v1/webhooks/none/rotate", {}, (404, "not_found"), None),
    ("POST", "/v1/webhooks/none/test", None, (404, "not_found"), None),
    ("GET", f"/v1/webhooks/shop/deliveries/msg_{32 * '0'}", None, (404, "not_found"), None),
    ("POST", f"/v1/webhooks/shop/deliveries/msg_{32 * '0'}/redeliver", None, (404, "not_found"), None),
]


@pytest.mark.parametrize(("method", "path", "body", "refused", "where"), BAD)
def test_what_cannot_be_is_refused(
    method: str, path: str, body: Any, refused: tuple[int, str], where: str | None
) -> None:
    """With what is wrong and where; nothing is changed."""

    async def scenario(service: Workflows) -> None:
        await hook(service)
        answer = await service.ask(method, unquote(path), body, raw_path=path.encode())
        assert (refused, where) == (code(answer), answer.json().get("where")), answer
        listed = (await service.ask("GET", "/v1/webhooks")).json()["webhooks"]
        assert ["shop"] == [one["name"] for one in listed]

    hooked(scenario, Receivers(TAKEN))


def test_who_may_do_what_and_how_many_there_may_be() -> None:
    """A key that may only read sees no secret; a tenant has twenty webhooks; what is being sent is not sent again."""

    async def scenario(service: Workflows) -> None:
        await hook(service)
        reader = await service.add_key("acme", "workflows:read")

        async def asked(method: str, path: str, body: Any = None, **more: Any) -> Answer:
            return await service.ask(method, f"/v1/webhooks/{path}", body, **more)

        assert 200 == (await asked("GET", "shop", key=reader)).status
        for method, path, body in (
            ("GET", "shop/secret", None),
            ("PUT", "shop", HOOK),
            ("DELETE", "shop", None),
            ("POST", "shop/rotate", {}),
            ("POST", "shop/test", None),
        ):
            assert 403 == (await asked(method, path, body, key=reader)).status
        for number in range(1, WEBHOOKS_MAX):
            await hook(service, f"h{number}")
        assert (409, "conflict") == code(await asked("PUT", "more", HOOK))
        await asked("POST", "shop/test")
        await service.settle()
        (row,) = await deliveries(service)
        assert (409, "conflict") == code(await asked("POST", f"shop/deliveries/{row['id']}/redeliver"))

    hooked(scenario, Receivers(replied(500)))


def test_there_are_no_more_than_there_may_be_however_many_come_at_once() -> None:
    """Each is counted with those that are being put."""

    async def scenario(service: Workflows) -> None:
        puts = (service.ask("PUT", f"/v1/webhooks/h{number}", HOOK) for number in range(2 * WEBHOOKS_MAX))
        statuses = [answer.status for answer in await asyncio.gather(*puts)]
        assert (WEBHOOKS_MAX, WEBHOOKS_MAX) == (statuses.count(201), statuses.count(409))
        assert WEBHOOKS_MAX == len((await service.ask("GET", "/v1/webhooks")).json()["webhooks"])

    hooked(scenario, Receivers(TAKEN))


def test_what_an_old_address_says_disables_no_new_one() -> None:
    """It was asked before the webhook moved, and answers 410 afterwards; the message goes to the new one."""
    moved: list[Workflows] = []

    async def move(_: Made) -> None:
        if moved:
            await moved.pop().ask("PUT", "/v1/webhooks/shop", HOOK | {"url": "https://new.example"})

    receivers = Receivers(replied(410), TAKEN, before=move)

    async def scenario(service: Workflows) -> None:
        await hook(service)
        moved.append(service)
        await service.started("quick", {"for": "ann"})
        await service.settle()
        view = (await service.ask("GET", "/v1/webhooks/shop")).json()
        assert (True, None) == (view["enabled"], view["disabled_because"])
        await service.ask("POST", "/v1/webhooks/shop/test")
        await service.settle()
        assert "https://new.example" == receivers.made[-1].request.url

    hooked(scenario, receivers)


def test_the_key_of_a_secret_that_was_taken_out_is_told() -> None:
    """Nothing is signed with another one; whoever rotates the secret has a new one."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Workflows) -> None:
        await hook(service)
        service._service._webhooks.book()._keys = WebhookKeys(newest=2, by_id={2: bytes(32)})
        assert (409, "webhook.key_gone") == code(await service.ask("GET", "/v1/webhooks/shop/secret"))
        await service.ask("POST", "/v1/webhooks/shop/test")
        await service.settle()
        (row,) = await deliveries(service)
        assert "webhook.key_gone" == (await delivery(service, row["id"]))["attempts"][0]["error"]
        assert 200 == (await service.ask("POST", "/v1/webhooks/shop/rotate", {})).status
        await service.pass_time(7_000)
        assert "delivered" == (await delivery(service, row["id"]))["status"]

    hooked(scenario, receivers)
