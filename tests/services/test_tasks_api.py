"""What workers call, over real ASGI: poll, sign of life, answer, release; and what is told of queues."""

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from services.workflows.desk import Desk, queue_address
from services.workflows.queue import TaskQueue
from services.workflows.tickets import ticket_of, token_of
from shared import bounds
from tests.support.workflows_app import Workflows, code, with_workflows

CHECK = """
workflow: check
start: look
steps:
  look: { task: kyc.identity, input: { n: "{% $input %}" }, timeout: 10m, heartbeat: 60s, retry: [], next: done }
  done: { wait: { title: Go on }, end: true }
"""

ASKED = """
workflow: asked
start: both
steps:
  both:
    parallel:
      branches:
        a: { start: look, steps: { look: { task: kyc.identity, end: true } } }
        b: { start: approve, steps: { approve: { wait: { title: Approve }, end: true } } }
    end: true
"""


def served(scenario: Any) -> None:
    """Run a scenario with the definition in place, and one run of it."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(CHECK, name="check")).status
        await service.started("check", 7, id="r-1")
        await scenario(service)

    with_workflows(main)


async def poll(
    service: Workflows, *, queue: str = "kyc.identity", gone: asyncio.Event | None = None, **more: Any
) -> Any:
    """The answer to a poll, which waits for 20 s if it is not told otherwise."""
    path = f"/v1/queues/{quote(queue, safe='')}/poll"
    body = {"worker": "host-1", "wait_ms": 20_000, **more}
    return await service.ask("POST", path, body, raw_path=path.encode(), gone=gone)


async def polled(service: Workflows, **more: Any) -> Any:
    """The one task that there is."""
    answer = await poll(service, **more)
    assert 200 == answer.status, answer
    (task,) = answer.json()["tasks"]
    return task


async def queue_shown(service: Workflows, queue: str = "kyc.identity") -> Any:
    """What operators see of a queue."""
    path = f"/v1/queues/{quote(queue, safe='')}"
    return (await service.ask("GET", path, raw_path=path.encode())).json()


async def passed(service: Workflows, seconds: float) -> None:
    """Let time pass; the node has read its documents again, as it does every second and a half."""
    await asyncio.sleep(seconds)
    await service.node.documents.poll()
    await service.node.shared_documents.poll()


async def tell(service: Workflows, task: Any, what: str, body: Any = None, **more: Any) -> Any:
    """Say something of a task."""
    return await service.ask("POST", f"/v1/tasks/{task['token']}/{what}", body, **more)


def test_a_task_from_poll_to_answer() -> None:
    """It comes with all that the worker needs; the run shows who has it, how far it is, and goes on with the answer."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        shown = {name: task[name] for name in ("queue", "run", "step", "key", "attempt", "workers_lost", "input")}
        assert {
            "queue": "kyc.identity",
            "run": "r-1",
            "step": "look",
            "key": "r-1/look:1",
            "attempt": 1,
            "workers_lost": 0,
            "input": {"n": 7},
        } == shown
        assert 60_000 == task["heartbeat_ms"]
        beat = await tell(service, task, "heartbeat", {"progress": {"pages": 3}})
        assert (200, False) == (beat.status, beat.json()["cancel_requested"])
        (step,) = (await service.run("r-1"))["steps"]
        assert ("host-1", {"pages": 3}) == (step["worker"], step["progress"])
        done = await tell(service, task, "complete", {"result": {"ok": True}})
        assert (200, {"run": "r-1", "step": "look", "repeated": False}) == (done.status, done.json())
        assert "1" == done.field("x-tenure-durability")
        assert done.field("x-object-requests") is not None
        (step,) = (await service.run("r-1"))["steps"]
        assert "done" == step["path"]

    served(scenario)


def test_a_poll_waits_for_a_task_and_says_when_there_is_none() -> None:
    """Nothing is not an error: it is told without a body, in its time."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        none = await poll(service, wait_ms=1_000)
        assert (204, b"") == (none.status, none.body)
        waiting = asyncio.ensure_future(polled(service))
        await asyncio.sleep(1)
        assert 204 == (await tell(service, task, "release")).status
        assert ("look", 1) == ((await waiting)["step"], (await waiting)["attempt"])

    served(scenario)


def test_a_worker_that_goes_away_while_it_waits_gets_no_task() -> None:
    """The next task is for those who are there, at once."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        gone = asyncio.Event()
        waiting = asyncio.ensure_future(poll(service, gone=gone))
        await asyncio.sleep(1)
        gone.set()
        assert 204 == (await waiting).status
        await tell(service, task, "release")
        assert "look" == (await polled(service, wait_ms=0))["step"]

    served(scenario)


def test_more_workers_than_a_queue_can_hold_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with a time, and those who wait are not disturbed."""
    monkeypatch.setattr(bounds, "PARKED_CALLS_MAX", 1)

    async def scenario(service: Workflows) -> None:
        await polled(service)
        waiting = asyncio.ensure_future(poll(service, wait_ms=5_000))
        await asyncio.sleep(1)
        refused = await poll(service)
        assert (503, "overloaded") == code(refused)
        assert refused.field("retry-after") is not None
        assert 204 == (await waiting).status

    served(scenario)


def test_a_task_that_is_handed_out_as_its_worker_goes_away_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, and nobody counts as lost."""
    hand_out = Desk._hand

    async def slow(self: Desk, queue: Any, task: Any) -> Any:
        await asyncio.sleep(0.5)
        return await hand_out(self, queue, task)

    async def scenario(service: Workflows) -> None:
        gone = asyncio.Event()
        waiting = asyncio.ensure_future(poll(service, gone=gone))
        await asyncio.sleep(0.2)
        gone.set()
        assert 204 == (await waiting).status
        again = await polled(service)
        assert (1, 0) == (again["attempt"], again["workers_lost"])

    monkeypatch.setattr(Desk, "_hand", slow)
    served(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"worker": "w", "max": 0}, 400),
        ({"worker": "w", "max": 51}, 400),
        ({"worker": "w", "wait_ms": 60_001}, 400),
        ({"worker": "w", "lease_s": 0}, 400),
        ({"worker": ""}, 400),
        ({"worker": "w", "other": 1}, 400),
        ({}, 400),
    ],
)
def test_a_poll_that_is_wrong_is_refused(body: Any, status: int) -> None:
    """With the place of what is wrong, and nothing is leased."""

    async def scenario(service: Workflows) -> None:
        assert status == (await service.ask("POST", "/v1/queues/q/poll", body)).status
        assert 1 == (await queue_shown(service))["waiting"]

    served(scenario)


def test_answers_that_come_twice_or_too_late_are_told_apart() -> None:
    """The same once more 200, another 409, of a lease that has ended 409, after the timeout 410, of no task 404."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service, lease_s=1)
        await passed(service, 70)
        again = await polled(service)
        assert (1, 1) == (again["workers_lost"], again["attempt"])
        assert (409, "task.superseded") == code(await tell(service, task, "complete", {"result": 1}))
        assert (409, "task.superseded") == code(await tell(service, task, "heartbeat", {}))
        assert (409, "task.superseded") == code(await tell(service, task, "release"))
        assert 200 == (await tell(service, again, "complete", {"result": 1})).status
        repeated = await tell(service, again, "complete", {"result": 1})
        assert (200, True) == (repeated.status, repeated.json()["repeated"])
        assert (409, "task.already_completed") == code(await tell(service, again, "complete", {"result": 2}))
        assert (409, "task.already_completed") == code(await tell(service, again, "fail", {"error": "no"}))
        assert (404, "task.unknown") == code(await tell(service, {"token": "tsk_none"}, "complete", {}))

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(CHECK.replace("heartbeat: 60s, ", ""), name="check")).status
        await service.started("check", 7, id="r-1")
        await scenario(service)

    with_workflows(main)


def test_an_answer_after_the_timeout_is_gone() -> None:
    """By the missed heartbeat too, which a lease however long does not outlast."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service, lease_s=600)
        await passed(service, 61)
        beat = await tell(service, task, "heartbeat", {})
        assert (200, True) == (beat.status, beat.json()["cancel_requested"])
        assert (410, "task.timed_out") == code(await tell(service, task, "complete", {"result": 1}))

    served(scenario)


def test_an_answer_to_a_run_that_has_ended_is_refused() -> None:
    """The worker hears of it with its next sign of life, or with its answer."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        assert 200 == (await service.tell("r-1", "terminate")).status
        await asyncio.sleep(1)
        assert (await tell(service, task, "heartbeat", {})).json()["cancel_requested"]
        assert (409, "run.closed") == code(await tell(service, task, "complete", {"result": 1}))

    served(scenario)


@pytest.mark.parametrize("secret", [None, b"made up!"])
@pytest.mark.parametrize("serial", [None, 0])
@pytest.mark.parametrize("verb", ["complete", "fail", "heartbeat", "release"])
def test_a_worker_answers_its_task_and_no_other_step(secret: bytes | None, serial: int | None, verb: str) -> None:
    """A token that is made of its own lease, or of none, for what somebody else is asked, is refused and changes nothing."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(ASKED, name="asked")).status
        await service.started("asked", id="r-1")
        own, before = ticket_of((await polled(service))["token"]), await service.run("r-1")
        asked = next(step for step in before["steps"] if step["path"] == "both/b/approve")
        changes: dict[str, Any] = {"serial": asked["serial"] if serial is None else serial}
        if secret is not None:
            changes["secret"] = secret
        lease = msgspec.structs.replace(own.lease, **changes)
        forged = {"token": token_of(msgspec.structs.replace(own, path=asked["path"], lease=lease, watched=True))}
        body = {"complete": {"result": 1}, "fail": {"error": "x"}, "heartbeat": {"progress": 1}}.get(verb)
        refused = await tell(service, forged, verb, body)
        assert 409 == refused.status, refused
        assert "task.superseded" == refused.json()["code"]
        assert before == await service.run("r-1")
        assert "held" == await service.core.host.call(
            queue_address("acme", "kyc.identity"), TaskQueue.standing, own.lease
        )

    with_workflows(main)


def test_a_result_that_is_too_large_is_refused_and_the_run_is_not_wedged() -> None:
    """The worker has the task still, and can say that it has failed."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        assert (413, "payload.too_large") == code(await tell(service, task, "complete", {"result": "x" * 100_000}))
        failed = await tell(service, task, "fail", {"error": "too.large", "cause": {"bytes": 100_000}, "retry": False})
        assert 200 == failed.status
        (step,) = (await service.run("r-1"))["steps"]
        assert ("stalled", "too.large") == (step["phase"], step["error"]["error"])

    served(scenario)


def test_operators_see_queues_and_lost_workers() -> None:
    """How many wait and for how long, who has the others, and who was not heard of again."""

    async def scenario(service: Workflows) -> None:
        await service.started("check", 7, id="r-2")
        await passed(service, 5)
        await polled(service, worker="lost", lease_s=1)
        shown = await queue_shown(service)
        assert (1, 1, [("lost", 1)]) == (
            shown["waiting"],
            shown["leased"],
            [(one["worker"], one["tasks"]) for one in shown["workers"]],
        )
        assert 5_000 <= shown["oldest_age_ms"] <= 6_000
        assert {"queues": ["kyc.identity"], "next_cursor": None} == (await service.ask("GET", "/v1/queues")).json()
        empty = await queue_shown(service, "nobody")
        assert (0, 0, None) == (empty["waiting"], empty["leased"], empty["oldest_age_ms"])

    served(scenario)


def test_a_lost_worker_is_shown() -> None:
    """With the run that it had a task of."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(CHECK.replace("heartbeat: 60s, ", ""), name="check")).status
        await service.started("check", 7, id="r-1")
        await polled(service, worker="lost", lease_s=1)
        await passed(service, 3)
        shown = await queue_shown(service)
        assert [("lost", "r-1")] == [(one["worker"], one["run"]) for one in shown["lost_workers"]]
        (step,) = (await service.run("r-1"))["steps"]
        assert "" == step.get("worker", "")

    with_workflows(main)


def test_a_key_of_another_tenant_meets_another_queue() -> None:
    """And a token of ours is none there."""

    async def scenario(service: Workflows) -> None:
        task = await polled(service)
        other = await service.add_key("other", "workflows:work")
        path = "/v1/queues/kyc.identity/poll"
        none = await service.ask("POST", path, {"worker": "w"}, key=other, raw_path=path.encode())
        assert 204 == none.status
        assert 404 == (await tell(service, task, "complete", {"result": 1}, key=other)).status

    served(scenario)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/queues/q/poll", "workflows:work"),
        ("POST", "/v1/tasks/t/complete", "workflows:work"),
        ("POST", "/v1/tasks/t/fail", "workflows:work"),
        ("POST", "/v1/tasks/t/heartbeat", "workflows:work"),
        ("POST", "/v1/tasks/t/release", "workflows:work"),
        ("GET", "/v1/queues/q", "workflows:read"),
        ("GET", "/v1/queues", "workflows:read"),
    ],
)
def test_a_worker_s_key_can_do_what_workers_do_and_nothing_else(method: str, path: str, scope: str) -> None:
    """Each route wants its scope, and one alone."""

    async def scenario(service: Workflows) -> None:
        others = {"workflows:read", "workflows:write", "workflows:work", "workflows:admin"} - {scope}
        key = await service.add_key("acme", *others)
        body = {"worker": "w"} if method == "POST" else None
        assert (403, "forbidden") == code(await service.ask(method, path, body, key=key))

    with_workflows(scenario)
