"""Schedules through their routes: what is shown of them, what they start, and the status of everything that fails."""

from typing import Any

import pytest

from services.workflows.bounds import PREVIEW_TIMES_MAX
from services.workflows.timetable import local
from tests.support.limiter_app import Answer
from tests.support.workflows_app import Workflows, code, with_workflows

DAILY = "workflow: daily\ninput_schema: { type: object }\nstart: a\nsteps: { a: { pass: {}, end: true } }"
EVERY_MINUTE: dict[str, Any] = {"definition": "daily", "input": {"n": 1}, "timetable": {"every_s": 60}}
PATH = "/v1/schedules/reports%2Fdaily"


def scheduling(scenario: Any) -> None:
    """Run a scenario with a service that knows a definition."""

    async def main(service: Workflows) -> None:
        await service.put(DAILY, name="daily")
        await service.node.documents.poll()
        await scenario(service)

    with_workflows(main)


async def ask(service: Workflows, method: str, below: str = "", body: Any = None, **more: Any) -> Answer:
    """One request about the schedule."""
    path, _, query = (PATH + below).partition("?")
    return await service.ask(method, path, body, query=query, raw_path=path.encode(), **more)


async def put(service: Workflows, **more: Any) -> Any:
    """Set the schedule; its view."""
    answer = await ask(service, "PUT", body=EVERY_MINUTE | more)
    assert answer.status in {200, 201}, answer
    return answer.json()


def test_a_schedule_is_put_shown_and_fires() -> None:
    """201, then 200; its runs are found by it, and say when they were meant for."""

    async def scenario(service: Workflows) -> None:
        assert 201 == (await ask(service, "PUT", body=EVERY_MINUTE)).status
        assert 200 == (await ask(service, "PUT", body=EVERY_MINUTE)).status
        shown = (await ask(service, "GET")).json()
        assert {**EVERY_MINUTE, "id": "reports/daily", "overlap": "skip", "paused": False}.items() <= shown.items()
        assert 5 == len(shown["next"])
        due = shown["next"][0]
        assert due["local"].endswith("+00:00")
        await service.pass_time(61_000)
        view = (await ask(service, "GET")).json()
        (firing,) = view["firings"]
        assert (due["at_ms"], "started", {"started": 1}) == (firing["nominal_ms"], firing["outcome"], view["counts"])
        run = await service.run(firing["run"])
        assert ("reports/daily", None, {"n": 1}) == (run["schedule"], run["parent"], run["input"])
        found = (await service.ask("GET", "/v1/runs", query="attr.schedule=reports/daily")).json()["runs"]
        assert [firing["run"]] == [one["id"] for one in found]

    scheduling(scenario)


def test_schedules_are_listed_oldest_first() -> None:
    """In pages; those that were deleted are not."""

    async def scenario(service: Workflows) -> None:
        for name in ("a", "b", "c"):
            await service.ask("PUT", f"/v1/schedules/{name}", EVERY_MINUTE)
            await service.pass_time(10)
        first = (await service.ask("GET", "/v1/schedules", query="limit=2")).json()
        query = f"limit=2&cursor={first['next_cursor']}"
        rest = (await service.ask("GET", "/v1/schedules", query=query)).json()
        assert ["a", "b", "c"] == [one["id"] for page in (first, rest) for one in page["schedules"]]
        assert 204 == (await service.ask("DELETE", "/v1/schedules/b")).status
        listed = (await service.ask("GET", "/v1/schedules")).json()
        assert (["a", "c"], None) == ([one["id"] for one in listed["schedules"]], listed["next_cursor"])

    scheduling(scenario)


def test_a_schedule_is_paused_resumed_and_triggered() -> None:
    """What was passed over in a pause is dealt with as is said; a trigger is fired once for each key."""

    async def scenario(service: Workflows) -> None:
        await put(service)
        paused = (await ask(service, "POST", "/pause", {"note": "a holiday"})).json()
        assert (True, "a holiday", []) == (paused["paused"], paused["note"], paused["next"])
        key = (("idempotency-key", "k-1"), ("content-type", "application/json"))
        answers = [await ask(service, "POST", "/trigger", {"overlap": "allow_all"}, headers=key) for _ in range(2)]
        assert [202, 202] == [answer.status for answer in answers]
        assert answers[0].json() == answers[1].json()
        await service.pass_time(200_000)
        view = (await ask(service, "GET")).json()
        assert ([answers[0].json()["run"]], {"started": 1}) == ([one["run"] for one in view["firings"]], view["counts"])
        assert 10 == len((await ask(service, "GET", "/next")).json()["times"])
        resumed = (await ask(service, "POST", "/resume", {"go_on_from": "pause"})).json()
        assert not resumed["paused"]
        await service.pass_time(1_000)
        assert {"started": 2, "coalesced": 2} == (await ask(service, "GET")).json()["counts"]

    scheduling(scenario)


def test_a_stretch_of_the_past_is_fired_once_more() -> None:
    """So many times are in it."""

    async def scenario(service: Workflows) -> None:
        now_ms = (await put(service, paused=True))["created_ms"]
        answer = await ask(service, "POST", "/backfill", {"from_ms": now_ms - 600_000, "to_ms": now_ms})
        assert (202, 10) == (answer.status, answer.json()["times"])
        assert 0 == len((await ask(service, "GET")).json()["firings"]), "while it is paused it waits"
        await ask(service, "POST", "/resume", {})
        await service.pass_time(2_000)
        assert {"started": 10} == (await ask(service, "GET")).json()["counts"]

    scheduling(scenario)


def test_a_timetable_is_previewed_in_its_zone() -> None:
    """With the offset of each time; a schedule's own are shown from any moment."""

    async def scenario(service: Workflows) -> None:
        timetable = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
        body = {"timetable": timetable, "after_ms": 1_824_897_600_000, "n": 2}  # 2027-10-30, noon.
        answer = await service.ask("POST", "/v1/timetables/preview", body)
        expected = ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]
        assert (200, expected) == (answer.status, [one["local"] for one in answer.json()["times"]])
        await put(service, timetable=timetable)
        times = (await ask(service, "GET", "/next?n=2&after=1824897600000")).json()["times"]
        assert expected == [one["local"] for one in times]
        over = {"timetable": {"at": "2020-01-01T00:00:00Z"}}
        assert [] == (await service.ask("POST", "/v1/timetables/preview", over)).json()["times"]

    scheduling(scenario)


BAD_PLANS: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"definition": "nowhere"}, 404, "definition.unknown", None),
    ({"version": 7}, 404, "definition.unknown", None),
    ({"input": 1}, 422, "wait.answer", "/input"),
    ({"input": {"n": "x" * 100_000}}, 413, "payload.too_large", None),
    ({"timetable": {}}, 400, "invalid_input", "$.timetable"),
    ({"timetable": {"cron": "* * * * *", "every_s": 5}}, 400, "invalid_input", "$.timetable"),
    ({"timetable": {"cron": "61 * * * *"}}, 400, "invalid_input", "$.timetable.cron"),
    ({"timetable": {"at": "2020-01-01T00:00:00Z"}}, 400, "invalid_input", "$.timetable.at"),
    ({"timetable": {"cron": "* * * * *", "end_ms": 1}}, 400, "invalid_input", "$.timetable.end_ms"),
    ({"timetable": {"every_s": 5, "timezone": "Mars/Base"}}, 400, "invalid_input", "$.timetable.timezone"),
    ({"overlap": "queue"}, 400, "invalid_input", "$.overlap"),
    ({"catch_up_s": -1}, 400, "invalid_input", "$.catch_up_s"),
    ({"coalesce": "first"}, 400, "invalid_input", "$.coalesce"),
    ({"attributes": {"schedule": "mine"}}, 400, "invalid_input", "$.attributes.schedule"),
    ({"attributes": {"a/b": "c"}}, 422, "wait.answer", "$.attributes"),
    ({"unknown": 1}, 400, "invalid_input", "$"),
]


@pytest.mark.parametrize(("wrong", "status", "named", "where"), BAD_PLANS)
def test_a_schedule_that_could_start_nothing_is_refused(
    wrong: dict[str, Any], status: int, named: str, where: str | None
) -> None:
    """With what is wrong and where; nothing is kept of it."""

    async def scenario(service: Workflows) -> None:
        answer = await ask(service, "PUT", body=EVERY_MINUTE | wrong)
        assert (status, named) == code(answer), answer
        assert where is None or answer.json()["where"].startswith(where)
        assert 404 == (await ask(service, "GET")).status

    scheduling(scenario)


def test_a_schedule_whose_only_time_is_past_may_be_changed_but_for_its_time() -> None:
    """Whoever puts what is there once more, or with another input, is not refused for that it has fired."""

    async def scenario(service: Workflows) -> None:
        once = {"timetable": {"at": local(service.host.store_clock.now_ms() + 10_000, "UTC")}}
        await put(service, **once)
        await service.pass_time(20_000)
        view = await put(service, **once, input={"n": 2})
        assert ({"started": 1}, [], {"n": 2}) == (view["counts"], view["next"], view["input"])
        answer = await ask(service, "PUT", body=EVERY_MINUTE | {"timetable": {"at": "2020-01-01T00:00:00"}})
        assert (400, "$.timetable.at") == (answer.status, answer.json()["where"])
        assert view == (await ask(service, "GET")).json()

    scheduling(scenario)


BAD_ORDERS: list[tuple[str, str, Any, int, str | None]] = [
    ("POST", "/pause", {"why": 1}, 400, "$"),
    ("POST", "/resume", {"go_on_from": "then"}, 400, "$.go_on_from"),
    ("POST", "/trigger", {"overlap": "never"}, 400, "$.overlap"),
    ("POST", "/backfill", {"from_ms": 2, "to_ms": 1}, 400, "$.to_ms"),
    ("POST", "/backfill", {"from_ms": 1, "to_ms": 10**13}, 400, "$.to_ms"),
    ("POST", "/backfill", {"from_ms": 0, "to_ms": 10**12}, 400, "$.to_ms"),
    ("GET", f"/next?n={PREVIEW_TIMES_MAX + 1}", None, 400, "query.n"),
    ("GET", "/next?after=-1", None, 400, "query.after"),
]


@pytest.mark.parametrize(("method", "below", "body", "status", "where"), BAD_ORDERS)
def test_what_a_schedule_is_not_to_be_told(method: str, below: str, body: Any, status: int, where: str | None) -> None:
    """It goes on as it was."""

    async def scenario(service: Workflows) -> None:
        before = await put(service)
        answer = await ask(service, method, below, body)
        assert (status, where) == (answer.status, answer.json().get("where")), answer
        assert before == (await ask(service, "GET")).json()

    scheduling(scenario)


def test_what_is_not_there_and_who_may_not() -> None:
    """404 for every route of a schedule; keys that may only read change nothing."""

    async def scenario(service: Workflows) -> None:
        stretch = {"from_ms": 1, "to_ms": 2}
        orders = [("/pause", {}), ("/resume", {}), ("/trigger", {}), ("/backfill", stretch)]
        for below, body in orders:
            assert 404 == (await ask(service, "POST", below, body)).status
        for method, below in (("GET", ""), ("DELETE", ""), ("GET", "/next")):
            assert 404 == (await ask(service, method, below)).status
        assert 400 == (await service.ask("GET", "/v1/schedules/" + "n" * 201)).status
        reader = await service.add_key("acme", "workflows:read")
        for below, body in orders:
            assert 403 == (await ask(service, "POST", below, body, key=reader)).status
        assert 403 == (await ask(service, "PUT", body=EVERY_MINUTE, key=reader)).status
        assert 403 == (await ask(service, "DELETE", key=reader)).status
        assert 404 == (await ask(service, "GET", key=reader)).status

    scheduling(scenario)


def test_another_timetable_cannot_be_filled_in_for_the_time_before() -> None:
    """Nobody knows its times of then: 409."""

    async def scenario(service: Workflows) -> None:
        before = await put(service)
        await service.pass_time(90_000)
        await put(service, timetable={"every_s": 5})
        stretch = {"from_ms": before["created_ms"], "to_ms": before["created_ms"] + 60_000}
        assert (409, "conflict") == code(await ask(service, "POST", "/backfill", stretch))

    scheduling(scenario)
