"""Webhooks of sessions through their routes: all that a feed says is told, signed, and none of it is lost."""

from typing import Any

from services.sessions.bounds import FEED_ENTRIES, FEED_SLACK
from services.sessions.records import EventKind
from tests.services.test_webhooks import HOOK, TAKEN, message, signed_by
from tests.support.receivers import Receivers, replied
from tests.support.sessions_app import Sessions, with_sessions
from tests.support.workflows_app import code


async def hook(service: Sessions, name: str = "shop", **more: Any) -> str:
    """Put a webhook; its secret."""
    assert (await service.ask("PUT", f"/v1/webhooks/{name}", HOOK | more)).status in {200, 201}
    secret: str = (await service.ask("GET", f"/v1/webhooks/{name}/secret")).json()["secret"]
    return secret


def told(receivers: Receivers) -> list[tuple[int, str]]:
    """Numbers and types of what was sent, in the order of the numbers: messages have none."""
    return sorted((message(made)["data"]["seq"], message(made)["type"]) for made in receivers.made)


def test_a_subscriber_is_told_what_the_feed_says() -> None:
    """Signed, with who and which session and why, and the number that the event has in the feed."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Sessions) -> None:
        secret = await hook(service)
        signed_in = await service.signed_in()
        assert 200 == (await service.ask("POST", "/v1/session/rotate", key=signed_in["token"])).status
        assert 204 == (await service.of("DELETE", f"sessions/{signed_in['session']['id']}")).status
        assert 200 == (await service.of("POST", "disable")).status
        await service.settle()
        kinds = ["session.created", "session.rotated", "session.revoked", "principal.disabled"]
        assert list(enumerate(kinds, 1)) == told(receivers)
        assert all(signed_by(secret, made) for made in receivers.made)
        revoked = next(message(made) for made in receivers.made if message(made)["type"] == "session.revoked")
        expected = {"principal": "ann", "seq": 3, "session": signed_in["session"]["id"], "reason": "revoked"}
        assert expected == revoked["data"]
        assert revoked["timestamp"].endswith("Z")
        assert not any(signed_in["token"].encode() in (made.request.body or b"") for made in receivers.made)

    with_sessions(scenario, calls=receivers)


def test_a_subscriber_is_told_what_it_wants_alone() -> None:
    """By kind of event and by tenant; and what happened before it was there is not told."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Sessions) -> None:
        signed_in = await service.signed_in()
        await hook(service, events=["session.revoked"])
        await hook(service, "off", enabled=False)
        await service.of("DELETE", f"sessions/{signed_in['session']['id']}")
        await service.signed_in()
        await service.settle()
        assert [(2, "session.revoked")] == told(receivers)

    with_sessions(scenario, calls=receivers)


def test_a_subscriber_is_told_of_the_end_of_everything_when_a_principal_comes() -> None:
    """When one of its tokens does, at a gateway, which is answered at once; nobody else's principal is asked."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Sessions) -> None:
        await hook(service, events=["session.revoked"])
        tokens = [(await service.signed_in(name))["token"] for name in ("ann", "ann", "ben")]
        assert [200, 200, 200] == [await service.status(token) for token in tokens]
        assert 200 == (await service.ask("POST", "/v1/tenant/sessions/revoke")).status
        await service.settle()
        assert [] == told(receivers)
        for _ in range(3):
            refused = await service.whoami(tokens[0])
            assert (401, "tenant") == (refused.status, refused.json()["reason"])
        await service.settle()
        assert [(3, "session.revoked"), (4, "session.revoked")] == told(receivers)
        assert {("ann", "tenant")} == {
            (message(made)["data"]["principal"], message(made)["data"]["reason"]) for made in receivers.made
        }

    with_sessions(scenario, calls=receivers)


def test_an_erased_principal_is_named_once_more() -> None:
    """The subscriber has to know whom to forget, also where nothing was known here."""
    receivers = Receivers(TAKEN)

    async def scenario(service: Sessions) -> None:
        await service.signed_in()
        await hook(service)
        assert 200 == (await service.of("DELETE", "")).status
        assert 200 == (await service.of("DELETE", "", principal="nobody-knew")).status
        await service.settle()
        data = [message(made)["data"]["principal"] for made in receivers.made]
        assert {"ann", "nobody-knew"} == set(data)
        assert {"principal.erased"} == {message(made)["type"] for made in receivers.made}

    with_sessions(scenario, calls=receivers)


def test_however_many_sessions_end_at_once_each_is_told_of() -> None:
    """More events than a feed keeps, told to two; the turn that ends them does not wait for that."""
    receivers = Receivers(TAKEN)
    count = FEED_ENTRIES + FEED_SLACK

    async def scenario(service: Sessions) -> None:
        assert 200 == (await service.ask("PUT", "/v1/tenant/policy", {"limits": {"total": 150}})).status
        await hook(service)
        await hook(service, "audit", events=["session.revoked"])
        ended = 0
        while ended < count:
            for _ in range(150):
                await service.signed_in()
            answer = await service.of("POST", "sessions/revoke", {})
            ended += answer.json()["revoked"]
        await service.settle(30_000)
        numbers = [
            message(made)["data"]["seq"] for made in receivers.made if message(made)["type"] == "session.created"
        ]
        assert ended == len(set(numbers)) == len(numbers)
        revoked = [
            message(made)["data"]["seq"] for made in receivers.made if message(made)["type"] == "session.revoked"
        ]
        assert (2 * ended, ended) == (len(revoked), len(set(revoked)))

    with_sessions(scenario, calls=receivers)


def test_what_is_not_taken_holds_up_nobody_and_is_told_again() -> None:
    """Sessions begin and end as before; the message waits in its own delivery."""
    receivers = Receivers(replied(500), replied(500), TAKEN)

    async def scenario(service: Sessions) -> None:
        await hook(service)
        signed_in = await service.signed_in()
        assert 200 == await service.status(signed_in["token"])
        await service.settle()
        (row,) = (await service.ask("GET", "/v1/webhooks/shop/deliveries")).json()["deliveries"]
        assert ("session.created", "pending") == (row["event"], row["status"])
        await service.settle(600_000)
        assert 3 == len(receivers.made)
        assert 1 == len({made.request.engine_headers["webhook-id"] for made in receivers.made})

    with_sessions(scenario, calls=receivers)


def test_whatever_happens_to_a_session_can_be_subscribed_to() -> None:
    """The events of a subscription are the kinds of events of a feed; another is refused with its place."""

    async def scenario(service: Sessions) -> None:
        for kind in EventKind.__args__:  # type: ignore[attr-defined]  # A Literal has them.
            await hook(service, events=[kind])
        answer = await service.ask("PUT", "/v1/webhooks/shop", HOOK | {"events": ["run.failed"]})
        assert ((400, "invalid_input"), "$.events[0]") == (code(answer), answer.json()["where"])
        reader = await service.add_key("acme", "sessions:read")
        assert 200 == (await service.ask("GET", "/v1/webhooks/shop", key=reader)).status
        slashed = await service.ask("PUT", "/v1/webhooks/a/b", HOOK, raw_path=b"/v1/webhooks/a%2Fb")
        assert (400, "path.name") == (slashed.status, slashed.json()["where"])
        assert 403 == (await service.ask("GET", "/v1/webhooks/shop/secret", key=reader)).status

    with_sessions(scenario, calls=Receivers(TAKEN))
