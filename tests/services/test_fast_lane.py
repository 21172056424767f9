"""The fast lane and the documented routes: two ways to the same answer, over the object core in virtual time."""

from typing import Any, cast

import msgspec
import pytest

from services.ratelimiter.schemas import CheckResult
from shared.objects.host import NOT_NOW
from shared.telemetry.sampling import Sampler
from tests.support.limiter_app import Answer, Service, with_service

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
VOLATILE = {b"x-request-id", b"date"}


def steady(answer: Answer) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An answer without what differs between any two requests."""
    return answer.status, sorted(pair for pair in answer.headers if pair[0] not in VOLATILE), answer.body


def spy_on_try_now(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each `try_now` from now on decided at once."""
    decided: list[bool] = []
    real = service.host.try_now

    def spy(*args: Any) -> Any:
        reply = real(*args)
        decided.append(reply is not NOT_NOW)
        return reply

    monkeypatch.setattr(service.host, "try_now", spy)
    return decided


@pytest.mark.parametrize("cost", [0, 1, 3])
@pytest.mark.parametrize("peek", [True, False])
@pytest.mark.parametrize("used", [0, 2, 3])
def test_fast_lane_and_route_answer_the_same(cost: int, peek: bool, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte and field for field, allowed or denied, whether or not the fast lane could answer."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 3, 1_000), ("minute", 100, 60_000))
        for subject in ("fast-1", "slow-1"):
            for _ in range(used):
                await service.check(subject)
        await service.check("fast-1", peek=True)
        request = {"policy": "api", "subject": "fast-1", "cost": cost, "peek": peek}
        decided = spy_on_try_now(service, monkeypatch)
        fast = await service.ask("POST", "/v1/check", request)
        assert [True] == decided
        monkeypatch.setattr(service.host, "try_now", lambda *_: NOT_NOW)
        slow = await service.ask("POST", "/v1/check", request | {"subject": "slow-1"})
        status, headers, body = steady(slow)
        assert (status, headers, body.replace(b"slow-1", b"fast-1")) == steady(fast)
        result = msgspec.json.decode(fast.body, type=CheckResult)
        assert result.allowed == (used + max(cost, 1) <= 3)
        assert msgspec.json.encode(result) == fast.body

    with_service(scenario)


def test_fast_and_slow_batches_answer_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, with allowed, denied, unknown and late checks among them; and both are counted as one request."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000))
        for subject in ("f", "s"):
            await service.check(subject, peek=True)

        async def batch(subject: str) -> Answer:
            checks = [{"policy": "api", "subject": subject} for _ in range(3)]
            checks += [{"policy": "none", "subject": subject}, {"policy": "api", "subject": f"{subject}-new"}]
            return await service.ask("POST", "/v1/check/batch", {"checks": checks})

        fast = await batch("f")
        lane = cast("Any", service.app)._app
        monkeypatch.setattr(lane, "_is_sampled", lambda _: True)
        slow = await batch("s")
        assert (200, steady(fast)[1]) == (slow.status, steady(slow)[1])
        assert fast.body.replace(b'"f', b'"s') == slow.body
        metrics = service.host.metrics.render_prometheus().decode()
        assert 1 == sum('http_route="/v1/check/batch"' in line and "_count{" in line for line in metrics.splitlines())
        assert [2.0] == [
            float(line.split()[-1]) for line in metrics.splitlines() if 'batch"' in line and "_count{" in line
        ]

    with_service(scenario)


@pytest.mark.parametrize("deny_status", [429, 403])
@pytest.mark.parametrize("asked", [1, 4])
def test_fast_gate_and_slow_gate_answer_the_same(deny_status: int, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yes and no reach a gateway in the same bytes either way, but for the request id."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 1_000))
        await service.put_profile("edge", deny_status=deny_status)

        async def last(subject: str) -> Answer:
            path, headers = "/check/p/edge/deep/path?a=1", [("x-tenure-subject", subject)]
            return [await service.ask("GET", path, gateway=True, headers=headers) for _ in range(asked)][-1]

        await service.check("a", peek=True)
        decided = spy_on_try_now(service, monkeypatch)
        fast = await last("a")
        assert all(decided)
        monkeypatch.setattr(service.host, "try_now", lambda *_: NOT_NOW)
        slow = await last("b")
        assert steady(fast) == steady(slow)
        assert fast.status == (200 if asked == 1 else deny_status)

    with_service(scenario)


def test_a_sampled_check_takes_the_way_that_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast lane hands sampled requests on, keeps the others, and both are decided and counted."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        await service.put_profile("edge")
        await service.check("a")
        service.spans.clear()
        decided = spy_on_try_now(service, monkeypatch)
        request, subject = {"policy": "api", "subject": "a"}, ("x-tenure-subject", "a")
        assert 200 == (await service.ask("POST", "/v1/check", request, headers=[("traceparent", SAMPLED)])).status
        gateway = [("traceparent", SAMPLED), subject]
        assert 200 == (await service.ask("GET", "/check/p/edge/x", headers=gateway, gateway=True)).status
        assert [] == decided
        assert ["POST /v1/check", "GET /check/p/{profile}"] == [span.name for span in service.spans]
        assert 200 == (await service.ask("POST", "/v1/check", request, headers=[("traceparent", UNSAMPLED)])).status
        assert ([True], 2) == (decided, len(service.spans))
        assert 4 == service.host.metrics.bind_check("api").allowed

    with_service(scenario, sampler=Sampler(ratio=0.0))


def test_both_ways_are_counted_as_the_same_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape does not tell which way a check or a gateway's question took: each route has one series for a status."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        await service.put_profile("edge")
        await service.check("a", peek=True)
        before = served(service)
        for real in (service.host.try_now, lambda *_: NOT_NOW):
            monkeypatch.setattr(service.host, "try_now", real)
            await service.check("a")
            await service.ask("GET", "/check/p/edge/x", gateway=True, headers=[("x-tenure-subject", "a")])
        after = served(service)
        assert {"/v1/check": 2, "/check/p/{profile}": 2} == {
            route: count - before.get(route, 0) for route, count in after.items() if count != before.get(route, 0)
        }

    with_service(scenario)


def served(service: Service) -> dict[str, int]:
    """Requests counted with status 200, by route."""
    lines = service.host.metrics.render_prometheus().decode().splitlines()
    counts = [
        line for line in lines if line.startswith("http_server_request_duration_seconds_count{") and '"200"' in line
    ]
    return {line.partition('http_route="')[2].partition('"')[0]: int(float(line.split()[-1])) for line in counts}
