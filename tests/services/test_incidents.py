"""Incidents: each is resolved once, by whoever is first, and one that is over is none any more."""

from typing import Any

import pytest

from shared.objects.handler import DurableObject, public
from tests.support.carried import Shelf
from tests.support.workflows_app import Workflows, code, with_workflows

STALLS = "workflow: stalls\nstart: a\nsteps: { a: { object: { type: none, id: x, call: y }, retry: [], end: true } }"
BEHIND = {
    "workflow": "behind",
    "start": "take",
    "steps": {
        "take": {
            "object": {"type": "shelf", "id": "money", "call": "take", "args": {"count": 1}},
            "compensate": {"object": {"type": "none", "id": "x", "call": "y"}, "retry": []},
            "next": "hold",
        },
        "hold": {"wait": {"title": "Go on"}, "end": True},
    },
}

LOOP = """
workflow: loop
start: a
steps:
  a:
    task: nobody
    input: 1
    timeout: 1s
    retry: []
    compensate: { object: { type: ledger, id: l, call: take_back, args: { text: "{% $input %}" } } }
    catch: [ { errors: [timeout], next: a } ]
    end: true
"""


class Ledger(DurableObject):
    """It knows what was taken back."""

    kind = "ledger"

    @public
    def take_back(self, text: str) -> int:
        """Take back one entry; how many that makes."""
        count: int = self.storage.get(text[:1], int, default=0) + 1
        self.storage.put(text[:1], count)
        return count


def with_incident(scenario: Any) -> None:
    """Run a scenario with a service and a run that has stalled."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(STALLS, name="stalls")).status
        run_id = await service.started("stalls")
        await service.settle()
        await scenario(service, run_id)

    with_workflows(main, objects=[Shelf])


async def the_incident(service: Workflows) -> Any:
    """The only one."""
    (incident,) = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
    return incident


async def resolve(service: Workflows, incident: str, body: Any, **more: Any) -> Any:
    """Resolve it."""
    return await service.ask("POST", f"/v1/incidents/{incident}/resolve", body, **more)


def test_an_incident_is_resolved_by_another_try_and_the_next_one_is_another() -> None:
    """Whoever resolves the first once more is told that he is late."""

    async def scenario(service: Workflows, run_id: str) -> None:
        first = await the_incident(service)
        answer = await resolve(service, first["id"], {"action": "retry"})
        assert (200, run_id) == (answer.status, answer.json()["id"])
        await service.settle()
        second = await the_incident(service)
        assert (first["step"], True) == (second["step"], first["id"] != second["id"])
        for action in ("retry", "skip"):
            assert (409, "task.superseded") == code(await resolve(service, first["id"], {"action": action}))
        assert second == await the_incident(service)

    with_incident(scenario)


def test_an_incident_is_resolved_by_going_on_without_the_step() -> None:
    """With a result in its place; then there is none, and resolving it is too late."""

    async def scenario(service: Workflows, run_id: str) -> None:
        incident = await the_incident(service)
        assert 200 == (await resolve(service, incident["id"], {"action": "skip", "result": {"by": "hand"}})).status
        run = await service.run(run_id)
        assert ("succeeded", {"by": "hand"}) == (run["status"], run["end"]["output"])
        assert [] == (await service.ask("GET", "/v1/incidents")).json()["incidents"]
        assert (409, "run.closed") == code(await resolve(service, incident["id"], {"action": "retry"}))

    with_incident(scenario)


def test_a_compensation_that_has_stalled_is_an_incident_too() -> None:
    """It is retried or left as any step is."""

    async def scenario(service: Workflows, _: str) -> None:
        assert 201 == (await service.ask("PUT", "/v1/definitions/behind/versions/1", BEHIND)).status
        run_id = await service.started("behind")
        await service.settle()
        assert 202 == (await service.tell(run_id, "cancel")).status
        await service.settle()
        found = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
        (first,) = [one for one in found if one["run"] == run_id]
        assert 200 == (await resolve(service, first["id"], {"action": "retry"})).status
        await service.settle()
        found = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
        (second,) = [one for one in found if one["run"] == run_id]
        assert (409, "task.superseded") == code(await resolve(service, first["id"], {"action": "skip"}))
        assert 200 == (await resolve(service, second["id"], {"action": "skip"})).status
        assert "cancelled" == (await service.run(run_id))["status"]

    with_incident(scenario)


def test_a_run_that_is_full_is_an_incident_and_can_be_ended() -> None:
    """A loop fills it with what is to be undone; it is cancelled, and then all of that is undone, or terminated."""

    async def scenario(service: Workflows) -> None:
        assert 201 == (await service.put(LOOP, name="loop")).status
        cancelled, terminated = [await service.started("loop", letter * 8_000) for letter in "xy"]
        await service.pass_time(100_000)
        found = (await service.ask("GET", "/v1/incidents")).json()["incidents"]
        assert {cancelled, terminated} == {one["run"] for one in found}
        assert {"payload.too_large"} == {one["error"]["error"] for one in found}
        assert 200 == (await resolve(service, found[0]["id"], {"action": "retry"})).status
        assert 2 == len((await service.ask("GET", "/v1/incidents")).json()["incidents"])

        lines = (await service.ask("GET", f"/v1/runs/{cancelled}/history", query="limit=1000")).json()["lines"]
        timed_out = [one["event"] for one in lines].count("step.caught")
        assert timed_out > 20
        for run_id, how in ((cancelled, "cancel"), (terminated, "terminate")):
            assert (await service.tell(run_id, how)).status in {200, 202}
        await service.pass_time(20_000)
        assert "cancelled" == (await service.run(cancelled))["status"]
        assert "terminated" == (await service.run(terminated))["status"]
        for letter, before in (("x", timed_out), ("y", 0)):
            answer = await service.ask("POST", "/v1/objects/ledger/l/take_back", {"text": letter})
            assert before + 1 == answer.json(), answer
        assert [] == (await service.ask("GET", "/v1/incidents")).json()["incidents"]

    with_workflows(scenario, objects=[Ledger])


@pytest.mark.parametrize(
    ("incident", "body", "refused"),
    [
        ("!", {"action": "retry"}, (400, "path.incident_id")),
        ("AAAA", {"action": "retry"}, (400, "path.incident_id")),
        ("", {"action": "wait"}, (400, "$.action")),
        ("", {}, (400, "$")),
        ("", {"action": "retry", "result": 1}, (400, "$.result")),
    ],
)
def test_what_cannot_be_resolved_so_is_refused(incident: str, body: Any, refused: tuple[int, str]) -> None:
    """With what is wrong and where; the incident is there as it was."""

    async def scenario(service: Workflows, _: str) -> None:
        there = await the_incident(service)
        answer = await resolve(service, incident or there["id"], body)
        assert refused == (answer.status, answer.json()["where"]), answer
        assert there == await the_incident(service)

    with_incident(scenario)


def test_who_may_resolve_an_incident() -> None:
    """To skip a step takes more than to retry it; of another tenant there is no such run."""

    async def scenario(service: Workflows, _: str) -> None:
        incident = (await the_incident(service))["id"]
        reader = await service.add_key("acme", "workflows:read")
        writer = await service.add_key("acme", "workflows:read", "workflows:write")
        stranger = await service.add_key("other", "workflows:write")
        assert 403 == (await resolve(service, incident, {"action": "retry"}, key=reader)).status
        assert 403 == (await resolve(service, incident, {"action": "skip"}, key=writer)).status
        assert 404 == (await resolve(service, incident, {"action": "retry"}, key=stranger)).status
        assert 200 == (await resolve(service, incident, {"action": "retry"}, key=writer)).status

    with_incident(scenario)


@pytest.mark.parametrize(
    ("prefer", "applied", "waits_s"),
    [
        ("wait=5", "wait=5", 5),
        ("respond-async, wait=100", "wait=60", 60),
        ("WAIT=2; foo", "wait=2", 2),
        ("wait=0", None, 0),
        ("waiting=5", None, 0),
        ("wait=soon", None, 0),
    ],
)
def test_a_start_waits_for_the_end_of_the_run_where_that_is_preferred(
    prefer: str, applied: str | None, waits_s: int
) -> None:
    """For so long; what it cannot wait for is passed over, as RFC 7240 says."""

    async def scenario(service: Workflows) -> None:
        nap = "workflow: nap\nstart: a\nsteps: { a: { sleep: 90s, end: true } }"
        short = "workflow: short\nstart: a\nsteps: { a: { sleep: 1s, next: b }, b: { pass: 7, end: true } }"
        for name, text in (("nap", nap), ("short", short)):
            assert 201 == (await service.put(text, name=name)).status
        headers = (("prefer", prefer), ("content-type", "application/json"))
        ended = (await service.ask("POST", "/v1/runs", {"definition": "short"}, headers=headers)).json()["end"]
        assert (waits_s > 0) == (ended == {"status": "succeeded", "output": 7})
        began_ms = service.host.store_clock.now_ms()
        answer = await service.ask("POST", "/v1/runs", {"definition": "nap"}, headers=headers)
        waited_ms = service.host.store_clock.now_ms() - began_ms
        assert (201, "running", applied) == (answer.status, answer.json()["status"], answer.field("preference-applied"))
        assert waits_s * 1_000 <= waited_ms < waits_s * 1_000 + 500

    with_workflows(scenario)
