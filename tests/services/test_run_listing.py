"""Runs are found by the step at which they are and by when they are due, in pages, and as a body of a request."""

from typing import Any

import pytest

from tests.support.workflows_app import ORDER, Workflows, served

MINUTE_MS = 60_000
NAP = """
workflow: nap
attributes: { n: "{% $string($input) %}" }
start: a
steps: { a: { sleep: "{% $input * 60 %}", next: b }, b: { wait: { title: Up }, end: true } }
"""


async def naps(service: Workflows, *minutes: int) -> list[str]:
    """Runs that sleep so long, started one after another."""
    await service.put(NAP, name="nap")
    ids = []
    for number in minutes:
        ids.append(await service.started("nap", number))
        await service.pass_time(1)
    return ids


async def found(service: Workflows, query: str) -> list[str]:
    """The ids of the runs that a query finds, over all pages of two."""
    ids: list[str] = []
    cursor = ""
    while True:
        answer = await service.ask("GET", "/v1/runs", query=f"{query}&limit=2{cursor}")
        assert answer.status == 200, answer
        page = answer.json()
        ids += [run["id"] for run in page["runs"]]
        if page["next_cursor"] is None:
            return ids
        cursor = f"&cursor={page['next_cursor']}"


def test_runs_are_found_by_the_step_that_they_are_at() -> None:
    """Newest first, as they go on from one to the next; one that has ended is at none."""

    async def scenario(service: Workflows) -> None:
        ids = await naps(service, 1, 30, 30)
        await service.started("refund", ORDER)
        assert ids[::-1] == await found(service, "definition=nap&step=a")
        await service.pass_time(2 * MINUTE_MS)
        assert (ids[:0:-1], ids[:1]) == (
            await found(service, "definition=nap&step=a"),
            await found(service, "definition=nap&step=b"),
        )
        await service.tell(ids[2], "pause")
        assert ids[2:] == await found(service, "definition=nap&step=a&status=paused")
        await service.tell(ids[0], "terminate")
        assert [] == await found(service, "definition=nap&step=b")
        assert [] == await found(service, "definition=refund&step=a")

    served(scenario)


def test_runs_are_found_by_when_they_are_due() -> None:
    """The earliest first: steps that wake or time out, and deadlines; what waits without end and what is over is not due."""

    async def scenario(service: Workflows) -> None:
        ids = await naps(service, 30, 10, 20, 40, 5)
        soon = await service.started("refund", ORDER, deadline_after_ms=15 * MINUTE_MS)
        await service.tell(ids[4], "terminate")
        now_ms = (await service.run(soon))["started_ms"]
        due = [ids[1], soon, ids[2], ids[0], ids[3]]
        assert due == await found(service, "sort=due")
        assert due[:3] == await found(service, f"due_before={now_ms + 25 * MINUTE_MS}")
        assert [soon] == await found(service, f"due_before={now_ms + 25 * MINUTE_MS}&definition=refund")
        assert [ids[1]] == await found(service, f"due_before={now_ms + 12 * MINUTE_MS}&definition=nap&step=a")
        assert [] == await found(service, f"due_before={now_ms + 12 * MINUTE_MS}&definition=nap&step=b")
        shown = (await service.ask("GET", "/v1/runs", query="sort=due&limit=1")).json()["runs"]
        assert (await service.run(ids[1]))["started_ms"] == shown[0]["started_ms"]
        await service.pass_time(11 * MINUTE_MS)
        assert due[1:] == await found(service, "sort=due")
        assert [*ids[::-1]] == await found(service, "definition=nap&sort=-created")

    served(scenario)


def test_a_search_says_in_a_body_what_a_listing_says_in_its_query() -> None:
    """And the same filter changes what it finds."""

    async def scenario(service: Workflows) -> None:
        ids = await naps(service, 30, 10, 20)
        at_a = {"definition": "nap", "step": "a"}
        answer = await service.ask("POST", "/v1/runs/search", {"filter": at_a, "sort": "due", "limit": 2})
        assert (200, [ids[1], ids[2]]) == (answer.status, [run["id"] for run in answer.json()["runs"]])
        more = {"filter": at_a, "sort": "due", "limit": 2, "cursor": answer.json()["next_cursor"]}
        rest = (await service.ask("POST", "/v1/runs/search", more)).json()["runs"]
        assert [ids[0]] == [run["id"] for run in rest]
        every = (await service.ask("POST", "/v1/runs/search", {})).json()["runs"]
        one = (await service.ask("POST", "/v1/runs/search", {"filter": {"attribute": ["n", "20"]}})).json()["runs"]
        assert (ids[::-1], ids[2:]) == ([run["id"] for run in every], [run["id"] for run in one])
        await service.started("nap", 1, id="search")
        assert "nap" == (await service.run("search"))["definition"]
        await service.tell("search", "terminate")
        begun = await service.ask("POST", "/v1/bulk", {"op": "pause", "filter": at_a | {"status": "running"}})
        await service.settle()
        told = (await service.ask("GET", begun.field("location") or "")).json()
        assert (3, {"paused"}) == (told["changed"], {(await service.run(run_id))["status"] for run_id in ids})

    served(scenario)


def test_runs_are_found_by_the_version_that_they_have() -> None:
    """Of a definition, also together with a status or what is due; and changed by it."""

    async def scenario(service: Workflows) -> None:
        old = await naps(service, 30, 20)
        assert 201 == (await service.put(NAP, name="nap", version=2)).status
        new = [await service.started("nap", 10)]
        assert new == await found(service, "definition=nap&version=2")
        assert old[::-1] == await found(service, "definition=nap&version=1&status=running")
        assert old[::-1] == await found(service, "definition=nap&version=1&sort=due")
        assert [] == await found(service, "definition=nap&version=3")
        to = {"definition": "nap", "version": 2}
        order = {"op": "migrate", "filter": {"definition": "nap", "version": 1}, "to": to}
        begun = await service.ask("POST", "/v1/bulk", order)
        await service.settle()
        assert 2 == (await service.ask("GET", begun.field("location") or "")).json()["changed"]
        assert sorted(old + new) == sorted(await found(service, "definition=nap&version=2"))

    served(scenario)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"version": 1}, "version"),
        ({"step": "a"}, "step"),
        ({"step": "a", "definition": "nap", "attribute": ["n", "1"]}, "attr.n"),
        ({"due_before": 5, "attribute": ["n", "1"]}, "attr.n"),
        ({"attribute": ["a/b", "1"]}, "attr.a/b"),
        ({"due_before": 5, "sort": "-created"}, "sort"),
        ({"sort": "created"}, "sort"),
        ({"due_before": -1}, "due_before"),
    ],
)
def test_what_no_index_serves_is_refused(asked: dict[str, Any], where: str) -> None:
    """With the place of what is too much, in a query as in a body; nothing is looked through for it."""

    async def scenario(service: Workflows) -> None:
        named = asked.get("attribute")
        parts = [f"{name}={value}" for name, value in asked.items() if name != "attribute"]
        query = "&".join([*parts, *([f"attr.{named[0]}={named[1]}"] if named else [])])
        listed = await service.ask("GET", "/v1/runs", query=query)
        assert (400, True) == (listed.status, listed.json()["where"].endswith(where)), listed
        body = {"filter": {name: value for name, value in asked.items() if name != "sort"}}
        if "sort" in asked:
            body["sort"] = asked["sort"]
        searched = await service.ask("POST", "/v1/runs/search", body)
        assert (400, True) == (searched.status, searched.json()["where"].endswith(where)), searched

    served(scenario)


def test_a_filter_that_is_none_is_refused_in_a_query() -> None:
    """The filters that there are are told, attributes among them."""

    async def scenario(service: Workflows) -> None:
        listed = await service.ask("GET", "/v1/runs", query="attrs.n=1")
        told = listed.json()
        assert (400, "query.attrs.n", True) == (listed.status, told["where"], told["detail"].endswith(", attr.NAME"))

    served(scenario)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        (f"attr.n={513 * 'x'}", "query.attr.n"),
        (f"definition=nap&step={510 * 'x'}", "query.step"),
        (f"definition={513 * 'x'}", "query.definition"),
    ],
)
def test_what_is_longer_than_any_run_has_it_is_refused(query: str, where: str) -> None:
    """With its place."""

    async def scenario(service: Workflows) -> None:
        answer = await service.ask("GET", "/v1/runs", query=query)
        assert (400, where) == (answer.status, answer.json()["where"])

    served(scenario)
