"""The fast lane of objects and their routes: two ways to the same answer, good or bad."""

from typing import Any

import pytest

from shared.http.objectlane import ObjectLane
from shared.telemetry.sampling import Sampler
from tests.services.test_objects_api import Cart, Hits
from tests.support.limiter_app import Answer, Service, with_service

VOLATILE = {b"x-request-id", b"x-response-time-ms"}
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
LINE = {"line": {"sku": "tea"}}
CALLS = {
    "write": ("/v1/objects/cart/anna/put", LINE, ()),
    "read": ("/v1/objects/cart/anna/total", None, ()),
    "waits": ("/v1/objects/cart/anna/put_later", LINE, ()),
    "checkpointed": ("/v1/objects/hits/anna/hit", {}, ()),
    "nothing": ("/v1/objects/cart/anna/empty", None, ()),
    "keyed": ("/v1/objects/cart/anna/put", LINE, (("idempotency-key", "k"),)),
    "odd name": ("/v1/objects/cart/%2F..%C3%A4/whose", None, ()),
    "refused": ("/v1/objects/cart/anna/refuse", {"reason": "sold_out"}, ()),
    "too large": ("/v1/objects/cart/anna/refuse", {"reason": "large"}, ()),
    "overloaded": ("/v1/objects/cart/anna/refuse", {"reason": "overloaded"}, ()),
    "not found by it": ("/v1/objects/cart/anna/refuse", {"reason": "not_found"}, ()),
    "fault": ("/v1/objects/cart/anna/refuse", {"reason": "bug"}, ()),
    "lie": ("/v1/objects/cart/anna/lie", None, ()),
    "unknown field": ("/v1/objects/cart/anna/put", {"line": {"sku": "tea"}, "more": 1}, ()),
    "no json": ("/v1/objects/cart/anna/put", b"{", ()),
    "bad name": ("/v1/objects/cart/%zz/total", None, ()),
    "no such method": ("/v1/objects/cart/anna/hidden", None, ()),
    "no such kind": ("/v1/objects/none/anna/put", None, ()),
    "bad key": ("/v1/objects/cart/anna/put", LINE, (("idempotency-key", "\xe4"),)),
}


def steady(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], Any]:
    """An answer without what differs between any two requests."""
    body = answer.json()
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status, sorted(pair for pair in answer.headers if pair[0] not in VOLATILE | {b"content-length"}), body


async def ask(service: Service, name: str, **rest: Any) -> Answer:
    """One of the calls."""
    path, body, headers = CALLS[name]
    bare = path.replace("%2F..%C3%A4", "x")
    return await service.ask("POST", bare, body, headers=headers, raw_path=path.encode(), **rest)


@pytest.mark.parametrize("name", CALLS)
def test_lane_and_route_answer_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, every field, and the body, but for the id and the time of the request."""

    async def through(service: Service) -> tuple[Any, bool]:
        found: list[bool] = []
        read = ObjectLane._read

        def spy(lane: ObjectLane, *args: Any) -> Any:
            reply = read(lane, *args)
            found.append(reply is not None)
            return reply

        monkeypatch.setattr(ObjectLane, "_read", spy)
        answer = steady(await ask(service, name))
        monkeypatch.setattr(ObjectLane, "_read", read)
        return answer, found == [True]

    async def around(service: Service) -> Any:
        monkeypatch.setattr(ObjectLane, "_read", lambda *_: None)
        answer = steady(await ask(service, name))
        monkeypatch.undo()
        return answer

    fast, taken = with_service(through, objects=[Cart, Hits])
    assert fast == with_service(around, objects=[Cart, Hits])
    assert taken == (name not in ("unknown field", "no json", "bad name", "no such method", "no such kind", "bad key"))


@pytest.mark.parametrize("key", [None, "nonsense", "scopeless"])
def test_who_may_not_call_is_told_by_the_route(key: str | None) -> None:
    """401 without a valid credential, 403 without the scope; nothing has run."""

    async def scenario(service: Service) -> None:
        secret = await service.add_key("acme", "limits:check") if key == "scopeless" else key
        answer = await ask(service, "write", key=secret)
        assert (403 if key == "scopeless" else 401) == answer.status
        assert 0 == (await ask(service, "read")).json()

    with_service(scenario, objects=[Cart, Hits])


def test_calls_are_counted_under_their_route() -> None:
    """Whichever way they took, and whatever became of them."""

    async def scenario(service: Service) -> None:
        for name in ("write", "write", "refused"):
            await ask(service, name)
        counted = {
            dict(point.labels)["http.route"]: sum(point.counts)  # type: ignore[union-attr]  # It is a histogram.
            for snapshot in service.host.metrics.iter_families()
            if snapshot.family.name == "http.server.request.duration"
            for point in snapshot.points
            if sum(point.counts)  # type: ignore[union-attr]  # As above.
        }
        assert {"/v1/objects/cart/{name}/put": 2, "/v1/objects/cart/{name}/refuse": 1} == counted

    with_service(scenario, objects=[Cart, Hits])


@pytest.mark.parametrize(("parent", "spans"), [(SAMPLED, 1), (UNSAMPLED, 0), (None, 1)])
def test_what_may_be_recorded_takes_the_route(parent: str | None, spans: int) -> None:
    """So that its span is there: where the caller records, and where it is left to us."""

    async def scenario(service: Service) -> None:
        headers = () if parent is None else (("traceparent", parent),)
        answer = await service.ask("POST", "/v1/objects/cart/anna/put", LINE, headers=headers)
        assert 200 == answer.status
        assert spans == sum(span.name == "POST /v1/objects/cart/{name}/put" for span in service.spans)

    with_service(scenario, sampler=Sampler(ratio=1.0), objects=[Cart, Hits])
