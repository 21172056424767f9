"""The same done to many runs: as an operation, that is begun, looked at, stopped and listed."""

from typing import Any

import msgspec
import pytest

from services.workflows.bounds import OPERATIONS_OPEN_MAX
from services.workflows.routes.access import made_of_key
from shared.objects.address import Address, shard_of
from shared.objects.quarantine import TERMS
from tests.support.workflows_app import ORDER, Workflows, code, served

WEEK_MS = 7 * 24 * 3_600_000


async def started(service: Workflows, count: int, **changes: Any) -> list[str]:
    """So many runs, oldest first, each a moment after the other."""
    ids = []
    for _ in range(count):
        ids.append(await service.started("refund", ORDER | changes))
        await service.pass_time(1)
    return ids


async def begun(service: Workflows, body: dict[str, Any], key: str = "") -> Any:
    """The operation that has begun with it."""
    headers = [("idempotency-key", key)] if key else []
    answer = await service.ask("POST", "/v1/bulk", body, headers=headers)
    assert answer.status == 202, answer
    told = answer.json()
    assert f"/v1/operations/{told['id']}" == answer.field("location")
    return told


async def look(service: Workflows, operation: str) -> Any:
    """The operation as it is."""
    return (await service.ask("GET", f"/v1/operations/{operation}")).json()


async def ended(service: Workflows, body: dict[str, Any]) -> Any:
    """The operation once it has ended."""
    told = await begun(service, body)
    await service.settle()
    told = await look(service, told["id"])
    assert "running" != told["status"]
    return told


async def quarantine(service: Workflows, run_id: str, minutes: int = 1) -> None:
    """Have a run refused for so long."""
    run, shards = Address("run", "acme", run_id), len(service.core.ownership.shards)
    await service.settle()
    assert service.host.residents.passivate(run)
    terms = msgspec.structs.replace(TERMS, first_ms=minutes * 60_000)
    await service.store.quarantine(shard_of(run.encode(), shards), run.encode(), terms)


@pytest.mark.parametrize(("op", "status"), [("cancel", "cancelled"), ("terminate", "terminated"), ("pause", "paused")])
def test_many_runs_are_changed_by_an_operation(op: str, status: str) -> None:
    """Those that the filter finds, and no others; so many at most, and then from where it has ended."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 3) + await started(service, 2, region="us")
        body = {"op": op, "filter": {"attribute": ["region", "eu"]}, "limit": 2}
        first = await begun(service, body)
        assert (op, "running", 0, None) == (first["op"], first["status"], first["changed"], first["ended_ms"])
        await service.settle()
        first = await look(service, first["id"])
        assert ("done", 2, 0, []) == (first["status"], first["changed"], first["refused"], first["errors"])
        assert first["ended_ms"] >= first["started_ms"]
        assert ["running", status, status] == [(await service.run(one))["status"] for one in ids[:3]]
        rest = await ended(service, {**body, "cursor": first["next_cursor"]})
        assert ("done", 1, None) == (rest["status"], rest["changed"], rest["next_cursor"])
        assert [status] * 3 + ["running"] * 2 == [(await service.run(one))["status"] for one in ids]

    served(scenario)


def test_runs_are_named_one_by_one() -> None:
    """What does not fit one of them is told, and hinders no other."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 3)
        await service.tell(ids[1], "terminate")
        told = await ended(service, {"op": "pause", "ids": [ids[2], ids[1], "ghost"], "reason": "a look"})
        assert ("done", 1, 2) == (told["status"], told["changed"], told["refused"])
        assert [(ids[1], "run.closed"), ("ghost", "not_found")] == [(one["id"], one["code"]) for one in told["errors"]]
        assert ["running", "terminated", "paused"] == [(await service.run(one))["status"] for one in ids]
        resumed = await ended(service, {"op": "resume", "ids": [ids[2]]})
        retried = await ended(service, {"op": "retry", "filter": {"definition": "refund", "status": "running"}})
        assert (1, 0, {"step.not_waiting"}) == (
            resumed["changed"],
            retried["changed"],
            {one["code"] for one in retried["errors"]},
        )
        purged = await ended(service, {"op": "purge", "filter": {}})
        assert (1, 2, {"conflict"}) == (purged["changed"], purged["refused"], {one["code"] for one in purged["errors"]})
        assert (410, "run.gone") == code(await service.ask("GET", f"/v1/runs/{ids[1]}"))

    served(scenario)


@pytest.mark.parametrize("op", ["cancel", "retry", "purge"])
def test_a_dry_run_says_what_would_be_and_changes_nothing(op: str) -> None:
    """Each run says whether it would be changed: it counts as what the same operation counts then."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 3)
        await service.tell(ids[0], "terminate")
        before = [(await service.run(one))["seq"] for one in ids]
        dry = await ended(service, {"op": op, "filter": {}, "dry_run": True})
        assert dry["dry_run"]
        assert before == [(await service.run(one))["seq"] for one in ids]
        wet = await ended(service, {"op": op, "filter": {}})
        assert [dry[field] for field in ("changed", "refused", "errors")] == [
            wet[field] for field in ("changed", "refused", "errors")
        ]
        assert {"cancel": 2, "retry": 0, "purge": 1}[op] == wet["changed"]

    served(scenario)


def test_more_runs_than_are_changed_at_once_are_changed() -> None:
    """And the first errors are told, of as many as there are."""

    async def scenario(service: Workflows) -> None:
        for number in range(60):
            await service.started("refund", ORDER, id=f"r-{number:02}")
        ghosts = [f"ghost-{number}" for number in range(45)]
        told = await ended(service, {"op": "pause", "ids": [*ghosts, *(f"r-{number:02}" for number in range(60))]})
        assert (60, 45, ghosts[:20]) == (told["changed"], told["refused"], [one["id"] for one in told["errors"]])
        found = await ended(service, {"op": "resume", "filter": {"status": "paused"}, "limit": 55})
        assert (55, 0) == (found["changed"], found["refused"])
        assert {"running": 55, "paused": 5}.items() <= (await service.ask("GET", "/v1/runs/count")).json()[
            "counts"
        ].items()

    served(scenario)


def test_a_repeated_request_is_answered_with_its_operation() -> None:
    """While it is under way and after; the same key with another body is refused."""

    async def scenario(service: Workflows) -> None:
        await started(service, 2)
        body = {"op": "pause", "filter": {"definition": "refund"}}
        first = await begun(service, body, key="k")
        await service.settle()
        again = await begun(service, body, key="k")
        assert (first["id"], "done", 2) == (again["id"], again["status"], again["changed"])
        other = await service.ask("POST", "/v1/bulk", {**body, "op": "resume"}, headers=[("idempotency-key", "k")])
        assert (422, "idempotency_key_reused") == code(other)
        assert first["id"] != (await begun(service, body))["id"]

    served(scenario)


@pytest.mark.slow
def test_operations_are_listed_and_kept_for_a_week() -> None:
    """The newest first; then whoever asks is told that there is none."""

    async def scenario(service: Workflows) -> None:
        ids = []
        for _ in range(3):
            ids.append((await begun(service, {"op": "pause", "filter": {}}))["id"])
            await service.pass_time(10)
        page = (await service.ask("GET", "/v1/operations", query="limit=2")).json()
        rest = (await service.ask("GET", "/v1/operations", query=f"limit=2&cursor={page['next_cursor']}")).json()
        listed = [one["id"] for one in page["operations"] + rest["operations"]]
        assert (ids[::-1], None) == (listed, rest["next_cursor"])
        await service.pass_time(WEEK_MS - 60_000)
        assert 200 == (await service.ask("GET", f"/v1/operations/{ids[0]}")).status
        await service.pass_time(120_000)
        assert (404, "not_found") == code(await service.ask("GET", f"/v1/operations/{ids[0]}"))

    served(scenario, limit_ms=2 * WEEK_MS)


def test_what_stands_in_the_way_is_waited_for_and_then_told() -> None:
    """A run that cannot be asked holds up no other for longer than minutes."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 2)
        await quarantine(service, ids[0], minutes=5)
        first = await begun(service, {"op": "pause", "ids": ids})
        await service.pass_time(15_000)
        told = await look(service, first["id"])
        assert ("running", 1, 0) == (told["status"], told["changed"], told["refused"])
        assert told["waits_for"]
        await service.pass_time(120_000)
        told = await look(service, first["id"])
        assert ("done", 1, 1, "") == (told["status"], told["changed"], told["refused"], told["waits_for"])
        assert [(ids[0], "quarantined")] == [(one["id"], one["code"]) for one in told["errors"]]

    served(scenario)


def test_what_stood_in_the_way_for_a_moment_is_no_error() -> None:
    """It is tried again, and counts as if nothing had been."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 2)
        await quarantine(service, ids[0])
        first = await begun(service, {"op": "pause", "ids": ids})
        await service.pass_time(70_000)
        told = await look(service, first["id"])
        assert ("done", 2, 0, "") == (told["status"], told["changed"], told["refused"], told["waits_for"])

    served(scenario)


def test_an_operation_can_be_stopped() -> None:
    """What it has changed stays so, what it had at hand is told, and to stop it again changes nothing."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 2)
        await quarantine(service, ids[0])
        first = await begun(service, {"op": "pause", "ids": ids})
        await service.pass_time(15_000)
        stopped = [await service.ask("POST", f"/v1/operations/{first['id']}/stop") for _ in range(2)]
        assert stopped[0].json() == stopped[1].json()
        told = stopped[0].json()
        assert ("stopped", 1, 1) == (told["status"], told["changed"], told["refused"])
        assert [(ids[0], "operation.stopped")] == [(one["id"], one["code"]) for one in told["errors"]]
        await service.pass_time(60_000)
        assert told == await look(service, first["id"])
        assert "running" == (await service.run(ids[0]))["status"]

    served(scenario)


def test_each_run_of_which_nothing_is_known_at_the_stop_is_told() -> None:
    """Behind the first errors, and however many: whoever goes on behind them would never come to them."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 25)
        for one in ids:
            await quarantine(service, one)
        ghosts = [f"ghost-{number}" for number in range(22)]
        first = await begun(service, {"op": "pause", "ids": ghosts + ids})
        await service.pass_time(15_000)
        told = (await service.ask("POST", f"/v1/operations/{first['id']}/stop")).json()
        assert ("stopped", 0, 47) == (told["status"], told["changed"], told["refused"])
        assert ghosts[:20] + ids == [one["id"] for one in told["errors"]]
        assert {"operation.stopped"} == {one["code"] for one in told["errors"][20:]}
        assert "may be changed" in told["errors"][-1]["detail"]

    served(scenario)


def test_a_request_cannot_take_the_key_of_an_operation() -> None:
    """Whoever knows the id of an operation, or foresees it, keeps no run from it by a request under its key."""

    async def scenario(service: Workflows) -> None:
        (run_id,) = await started(service, 1)
        operation = made_of_key("acme", "k")
        answers = [
            await service.tell(run_id, "pause", headers=[("idempotency-key", f"{mark}operation {operation}")])
            for mark in ("", "§")
        ]
        assert [200, 400] == [answer.status for answer in answers]
        told = await begun(service, {"op": "cancel", "ids": [run_id]}, key="k")
        await service.settle()
        told = await look(service, told["id"])
        assert (operation, 1, 0) == (told["id"], told["changed"], told["refused"])

    served(scenario)


def test_so_many_operations_are_under_way_at_once() -> None:
    """One more is refused, with when to ask again; a repeat of one that has begun is not."""

    async def scenario(service: Workflows) -> None:
        ids = await started(service, 1)
        await quarantine(service, ids[0])
        body = {"op": "pause", "ids": ids}
        first, *_ = [await begun(service, body, key=f"k-{number}") for number in range(OPERATIONS_OPEN_MAX)]
        refused = await service.ask("POST", "/v1/bulk", body)
        assert (429, "operation.too_many", "1") == (*code(refused), refused.field("retry-after"))
        assert first["id"] == (await begun(service, body, key="k-0"))["id"]
        assert 200 == (await service.ask("POST", f"/v1/operations/{first['id']}/stop")).status
        assert "running" == (await begun(service, body))["status"]

    served(scenario)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"op": "explode", "filter": {}}, "$.op"),
        ({"op": "pause", "filter": {}, "limit": 100_001}, "$.limit"),
        ({"op": "pause"}, "$.filter"),
        ({"op": "pause", "filter": {}, "ids": ["a"]}, "$.filter"),
        ({"op": "pause", "ids": ["a"], "cursor": "no"}, "$.cursor"),
        ({"op": "pause", "filter": {}, "cursor": "no"}, "query.cursor"),
        ({"op": "pause", "filter": {"attribute": ["a/b", "x"]}}, "$.filter.attr.a/b"),
        ({"op": "pause", "filter": {"step": "pay"}}, "$.filter.step"),
        ({"op": "pause", "filter": {"definition": "refund", "step": 300 * "é"}}, "$.filter.step"),
        ({"op": "pause", "filter": {"attribute": ["region", 513 * "x"]}}, "$.filter.attr.region"),
        ({"op": "pause", "ids": ["a", "b", "c", "b"]}, "$.ids[3]"),
    ],
)
def test_an_operation_that_cannot_be_is_refused(body: dict[str, Any], where: str) -> None:
    """Before any run is touched, with the place of what is wrong."""

    async def scenario(service: Workflows) -> None:
        await started(service, 1)
        answer = await service.ask("POST", "/v1/bulk", body)
        assert (400, where) == (answer.status, answer.json()["where"])
        assert [] == (await service.ask("GET", "/v1/operations")).json()["operations"]

    served(scenario)


def test_an_operation_that_is_not_there_is_not_found() -> None:
    """Nor is one of a name that none can have; and whoever may not change runs begins none."""

    async def scenario(service: Workflows) -> None:
        for name in (32 * "0", "no", "%FF"):
            assert 404 == (await service.ask("GET", f"/v1/operations/{name}")).status
            assert 404 == (await service.ask("POST", f"/v1/operations/{name}/stop")).status
        service.key = await service.add_key("acme", "workflows:read", "workflows:write")
        assert 403 == (await service.ask("POST", "/v1/bulk", {"op": "pause", "filter": {}})).status

    served(scenario)
