"""The Python client against real services: each call of runs, operations, schedules and webhooks, and what it refuses."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
from tenure_client import (
    ApiError,
    MigrateTo,
    Operations,
    RunFilter,
    Schedules,
    StartIfNone,
    Timetable,
    UnreachableError,
    Webhooks,
    Workflows,
)

from tests.support.http_server import receiver
from tests.support.launching import free_ports
from tests.support.service import Limiter as Launched
from tests.support.service import limiter

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]
T = TypeVar("T")
HOUR_MS = 3_600_000
ASK: dict[str, Any] = {
    "workflow": "ask",
    "start": "a",
    "steps": {"a": {"wait": {"title": "Go", "signal": "go"}, "next": "b"}, "b": {"wait": {"title": "On"}, "end": True}},
}
NAP = {"workflow": "nap", "start": "a", "steps": {"a": {"sleep": "1h", "end": True}}}
BERLIN = Timetable(cron="30 2 * * *", timezone="Europe/Berlin")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """The workflow service of a run of everything, with definitions."""
    with limiter(tmp_path_factory.mktemp("data")) as running:
        workflows = running.beside("workflows")
        for definition in (ASK, NAP, NAP | {"workflow": "rest"}):
            for version in (1, 2):
                path = f"/v1/definitions/{definition['workflow']}/versions/{version}"
                assert 201 == workflows.call("PUT", path, definition)[0]
        yield workflows


async def until(look: Callable[[], Awaitable[T]], is_so: Callable[[T], object]) -> T:
    """What is seen once it is as it is to be, within ten seconds."""
    for _ in range(200):
        if is_so(seen := await look()):
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to be so")


def refused(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    """Status and code."""
    return error.value.status, error.value.code


def test_a_start_says_all_that_it_can(service: Launched) -> None:
    """When it begins and has to be over, what it is found by, and whose id it takes."""

    async def scenario() -> None:
        async with Workflows(service.url, service.key) as workflows:
            late = await workflows.start(
                "ask",
                1,
                run_id="s/1.x",
                version=1,
                attributes={"kind": "s"},
                delay_ms=HOUR_MS,
                deadline_after_ms=HOUR_MS,
            )
            assert ("s/1.x", "scheduled", 1) == (late.id, late.status, late.shown["version"])
            assert 0 <= 2 * HOUR_MS - (late.shown["deadline_ms"] - late.shown["started_ms"]) < 60_000
            with pytest.raises(ApiError) as other:
                await workflows.start("ask", 2, run_id="s/1.x")
            assert (409, "run.exists") == refused(other)
            assert 1 == (await workflows.start("ask", 2, run_id="s/1.x", on_conflict="use_existing")).shown["input"]
            fresh = await workflows.start("ask", 2, run_id="s/1.x", on_conflict="terminate_existing")
            assert (2, "running") == (fresh.shown["input"], fresh.status)
            assert "terminated" == await workflows.terminate("s/1.x", "enough")
            again = await workflows.start("ask", 2, run_id="s/1.x", reuse="failed_only")
            assert "running" == again.status
            moment = again.shown["started_ms"] + HOUR_MS
            soon = await workflows.start("ask", run_id="s-2", start_at_ms=moment, deadline_at_ms=moment + 1)
            assert ("scheduled", moment + 1) == (soon.status, soon.shown["deadline_ms"])

    asyncio.run(scenario())


def test_runs_are_found_and_counted(service: Launched) -> None:
    """A page, all of them, and how many; a filter that no index serves is refused."""

    async def scenario() -> None:
        async with Workflows(service.url, service.key) as workflows:
            ids = [(await workflows.start("rest", run_id=f"f-{n}", attributes={"kind": "f"})).id for n in range(5)]
            kind = RunFilter(attribute=("kind", "f"))
            page = await workflows.search(kind, limit=2)
            assert (ids[:2:-1], "rest") == ([run.id for run in page.runs], page.runs[0].definition)
            rest = await workflows.search(kind, cursor=page.next_cursor)
            assert (ids[2::-1], None) == ([run.id for run in rest.runs], rest.next_cursor)
            assert ids[::-1] == [run.id async for run in workflows.each(kind)]
            assert ids[::-1] == [run.id async for run in workflows.each(RunFilter(definition="rest", version=2))]
            due = RunFilter(definition="rest", step="a", status="running", due_before_ms=10**13)
            assert ids == [run.id async for run in workflows.each(due, sort="due")]
            assert {"running": 5, "failed": 0}.items() <= (await workflows.count("rest")).items()
            with pytest.raises(ApiError) as wrong:
                await workflows.search(RunFilter(step="a"))
            assert (400, "invalid_input") == refused(wrong)

    asyncio.run(scenario())


def test_signals_go_to_runs_by_what_they_are_about(service: Launched) -> None:
    """To all that are open, once for each key; one is begun where there is none; none at all can be refused."""

    async def scenario() -> None:
        async with Workflows(service.url, service.key) as workflows:
            about = ("order", "o-1")
            with pytest.raises(ApiError) as nobody:
                await workflows.signal_about("ask", about, "go", require_match=True)
            assert 404 == nobody.value.status
            assert () == (await workflows.signal_about("ask", about, "go")).runs
            first = await workflows.signal_about("ask", about, "go", 7, start_if_none=StartIfNone(input=1, version=1))
            assert (first.started,) == first.runs
            assert first.started
            assert ["b"] == [step["path"] for step in (await workflows.get(first.started)).shown["steps"]]
            for _ in range(2):
                sent = await workflows.signal_about("ask", about, "seen", ttl_ms=HOUR_MS, idempotency_key="one")
                assert (first.runs, None, ()) == (sent.runs, sent.started, sent.refused)
            assert ["seen"] == (await workflows.get(first.started)).shown["signals"]
            await workflows.signal(first.started, "brief", ttl_ms=1)
            await asyncio.sleep(0.1)
            assert ["seen"] == (await workflows.get(first.started)).shown["signals"]

    asyncio.run(scenario())


def test_a_run_is_steered(service: Launched) -> None:
    """Paused, resumed, reset, moved, its steps helped, its history read, and itself forgotten."""

    async def scenario() -> None:
        async with Workflows(service.url, service.key) as workflows:
            await workflows.start("ask", run_id="c", version=1)
            assert "paused" == await workflows.pause("c")
            assert "running" == await workflows.resume("c")
            assert "running" == await workflows.skip("c", "a", {"skipped": True})
            assert "running" == await workflows.reset("c", "a", keep_signals=True)
            assert "running" == await workflows.migrate("c", 2, dry_run=True)
            assert 1 == (await workflows.get("c")).shown["version"]
            for _ in range(2):
                assert "running" == await workflows.migrate("c", 2, step_map={"a": "b"}, idempotency_key="one")
            with pytest.raises(ApiError) as unmapped:
                await workflows.migrate("c", 1, step_map={"b": "ghost"})
            assert (422, "step.unmappable", "ghost") == (*refused(unmapped), unmapped.value.problem["step"])
            assert "stalled" == await workflows.fail("c", "b", "broken", "by hand")
            assert "running" == await workflows.retry("c", "b")
            assert "succeeded" == await workflows.complete("c", "b", 7)
            events = [line["event"] async for line in workflows.history("c")]
            assert events[::-1] == [line["event"] async for line in workflows.history("c", newest_first=True)]
            assert ("run.started", "run.succeeded", 1) == (events[0], events[-1], events.count("run.migrated"))
            with pytest.raises(ApiError):
                await workflows.purge((await workflows.start("ask", run_id="open")).id)
            for _ in range(2):
                assert "d" == await workflows.restart("c", new_id="d", version=1, idempotency_key="again")
            with pytest.raises(ApiError) as taken:
                await workflows.restart("c", new_id="open")
            assert (409, "run.exists") == refused(taken)
            for _ in range(2):
                await workflows.purge("c")
            with pytest.raises(ApiError) as gone:
                await workflows.get("c")
            assert (410, "run.gone") == refused(gone)

    asyncio.run(scenario())


def test_the_same_is_done_to_many_runs(service: Launched) -> None:
    """Found or named; waited for, listed, stopped; the same key is the same operation."""

    async def scenario() -> None:
        async with Workflows(service.url, service.key) as workflows, Operations(service.url, service.key) as operations:
            for number in range(3):
                await workflows.start("ask", run_id=f"m-{number}", version=1, attributes={"kind": "m"})
            kind = RunFilter(attribute=("kind", "m"))
            dry = await operations.wait((await operations.begin("pause", kind, dry_run=True)).id)
            assert ("done", 3, 0) == (dry.status, dry.changed, dry.refused)
            first = await operations.begin("pause", kind, limit=2, idempotency_key="one")
            assert first.id == (await operations.begin("pause", kind, limit=2, idempotency_key="one")).id
            first = await operations.wait(first.id)
            rest = await operations.wait((await operations.begin("pause", kind, cursor=first.next_cursor)).id)
            assert (2, 1, True, None) == (first.changed, rest.changed, rest.ended, rest.next_cursor)
            to = MigrateTo(definition="ask", version=2, step_map={"a": "b"})
            moved = await operations.wait((await operations.begin("migrate", ["m-0", "ghost"], to=to)).id)
            assert (1, 1, ["not_found"]) == (moved.changed, moved.refused, [one.code for one in moved.errors])
            assert 2 == (await workflows.get("m-0")).shown["version"]
            ended = await operations.stop(moved.id)
            assert (moved.id, "done") == (ended.id, (await operations.get(ended.id)).status)
            page = await operations.list(limit=2)
            assert [moved.id, rest.id] == [one.id for one in page.operations]
            assert first.id in [one.id for one in (await operations.list(cursor=page.next_cursor)).operations]
            with pytest.raises(ApiError) as wrong:
                await operations.begin("migrate", kind)
            assert (400, "invalid_input") == refused(wrong)
            with pytest.raises(ApiError) as nobody:
                await operations.get("ghost")
            assert 404 == nobody.value.status

    asyncio.run(scenario())


def test_schedules_start_runs(service: Launched) -> None:
    """Put, looked at, paused, fired, made up for, and forgotten."""

    async def scenario() -> None:
        async with Schedules(service.url, service.key) as schedules:
            made = await schedules.put(
                "a/b.c", "nap", BERLIN, run_input=1, attributes={"kind": "z"}, overlap="allow_all"
            )
            assert ("a/b.c", False, 5, "allow_all") == (made.id, made.paused, len(made.next_ms), made.shown["overlap"])
            assert ["a/b.c"] == [one.id for one in (await schedules.list()).schedules]
            paused = await schedules.pause("a/b.c", "a look")
            assert (True, "a look", ()) == (paused.paused, paused.shown["note"], paused.next_ms)
            runs = {await schedules.trigger("a/b.c", idempotency_key="one") for _ in range(2)}
            (run,) = runs
            assert not (await schedules.resume("a/b.c", catch_up=True)).paused
            async with Workflows(service.url, service.key) as workflows:
                seen = await until(lambda: schedules.get("a/b.c"), lambda one: one.running)
                assert ((run,), {"started": 1}) == (seen.running, seen.counts)
                assert 1 == (await workflows.get(run)).shown["input"]
            times = await schedules.next("a/b.c", after_ms=1_824_897_600_000, count=2)
            assert ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"] == [one.local for one in times]
            assert times == await schedules.preview(BERLIN, after_ms=1_824_897_600_000, count=2)
            day = (1_793_491_200_000, 1_793_577_600_000)
            for _ in range(2):
                assert 1 == await schedules.backfill("a/b.c", *day, overlap="skip", idempotency_key="two")
            with pytest.raises(ApiError) as wrong:
                await schedules.put("never", "nap", Timetable(cron="0 0 30 2 *"))
            assert 400 == wrong.value.status
            for _ in range(2):
                await schedules.delete("a/b.c")
            with pytest.raises(ApiError) as nobody:
                await schedules.get("a/b.c")
            assert 404 == nobody.value.status

    asyncio.run(scenario())


def test_webhooks_are_told(service: Launched) -> None:
    """Put, tested, looked at and sent again; the secret is in no repr, and is replaced."""

    async def scenario(url: str) -> None:
        async with Webhooks(service.url, service.key) as webhooks:
            made = await webhooks.put("office", url, events=["run.failed"], description="to the office")
            assert ("office", url, ("run.failed",), True) == (made.name, made.url, made.events, made.enabled)
            secret = await webhooks.secret("office")
            fresh = await webhooks.rotate("office", keep_previous_s=60)
            assert (secret.secret, None) == (fresh.previous, secret.previous)
            assert secret.secret not in repr(secret)
            message = await webhooks.test("office")
            given_up = partial(webhooks.deliveries, "office", status="given_up", limit=1)
            dead = await until(given_up, lambda page: page.deliveries)
            assert [message] == [one.id for one in dead.deliveries]
            rest = await webhooks.deliveries("office", cursor=dead.next_cursor)
            assert ((), None) == (rest.deliveries, rest.next_cursor)
            told = await webhooks.delivery("office", message)
            assert ("webhook.test", "given_up", True) == (told.event, told.status, bool(told.cause))
            assert "webhook.test" == json.loads(told.body)["type"]
            assert (await webhooks.get("office")).disabled_because
            assert (await webhooks.put("office", url)).enabled
            for _ in range(2):
                await webhooks.redeliver("office", message, idempotency_key="one")
            await until(lambda: webhooks.delivery("office", message), lambda one: one.status == "delivered")
            assert ["office"] == [one.name for one in await webhooks.list()]
            for _ in range(2):
                await webhooks.delete("office")
            with pytest.raises(ApiError) as nobody:
                await webhooks.test("office")
            assert 404 == nobody.value.status

    with receiver(410, 204) as url:
        asyncio.run(scenario(url))


def test_what_is_asked_once_is_not_asked_again() -> None:
    """Nobody answers: the call that would make another secret says so at once."""

    async def scenario() -> None:
        async with Webhooks(f"http://127.0.0.1:{free_ports(1)[0]}", "tnk_x") as webhooks:
            with pytest.raises(UnreachableError):
                await asyncio.wait_for(webhooks.rotate("x"), timeout=5)

    asyncio.run(scenario())
