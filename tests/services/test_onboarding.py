"""The onboarding example over REST, its happy way and each unhappy one, in moved time: its days are hours here.

Real workers and processes, and a node that is killed at the pivot, are in tests/e2e/test_onboarding.py; a crash at any
commit of what it does to two objects is in test_onboarding_saga.py.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from examples.onboarding.objects import PROPERTIES_MAX, Listing, OwnerAccount
from services.workflows.definition import define, read_yaml
from services.workflows.events import Skipped, TimerDue
from services.workflows.intents import SendTask
from shared.outbound.client import Answer
from shared.outbound.request import Request, check_request
from tests.architecture.tree import ROOT
from tests.support.flow import START_MS, Flow
from tests.support.receivers import replied
from tests.support.workflows_app import Workflows, code, with_workflows

WRITTEN = (ROOT / "examples/onboarding/onboarding.yaml").read_text()
DEFINITION = re.sub(r"\bP(\d+)D\b", r"PT\1H", WRITTEN)
GIVEN = {"property_id": "p-1", "owner": "ann", "region": "eu"}
RUN = "onb-p-1"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class World:
    """The registry, which answers later, and whoever is notified."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.callbacks: list[str] = []

    async def send(self, tenant: str, request: Request, *, timeout_ms: int) -> Answer:
        """Take a call of acme's."""
        assert ("acme", True) == (tenant, timeout_ms > 0)
        check_request(request)
        self.sent.append(request.url.removeprefix("https://"))
        if request.url.endswith("/searches"):
            self.callbacks.append(request.engine_headers["Tenure-Callback"])
            return replied(202)
        return replied(204)


class Onboarding:
    """One property, and everybody who has to do with it."""

    def __init__(self, service: Workflows, world: World) -> None:
        self.service, self.world = service, world

    async def upload(self, *names: str, in_ms: int = 2 * HOUR_MS) -> None:
        """The owner uploads documents and asks for an inspection so much later."""
        at_ms = self.service.node.host.store_clock.now_ms() + in_ms
        window = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
        documents = [{"name": name, "preferred_window": window} for name in names]
        await self.answer("document_upload", by="ann", result={"documents": documents})

    async def answer(self, step: str, **body: Any) -> None:
        """Somebody answers a step."""
        told = await self.service.tell(RUN, f"steps/{step}/complete", body)
        assert 200 == told.status, told
        await self.service.settle()

    async def work(self, queue: str, result: Any = None, *, error: str = "") -> Any:
        """A worker does the next task of a queue; what it was given."""
        body = {"worker": "w", "wait_ms": 20_000}
        polled = await self.service.ask("POST", f"/v1/queues/{queue}/poll", body)
        assert 200 == polled.status, (queue, polled)
        (task,) = polled.json()["tasks"]
        said = {"error": error, "retry": False} if error else {"result": result}
        path = f"/v1/tasks/{task['token']}/{'fail' if error else 'complete'}"
        assert 200 == (await self.service.ask("POST", path, said)).status
        await self.service.settle()
        return task["input"]

    async def verify(self) -> None:
        """Two workers and the registry find nothing wrong."""
        await self.upload("deed.pdf", "plan.png")
        await self.work("kyc.identity", {"clean": True})
        for _ in range(2):
            await self.work("docs.scan", {"read": True})
        answered = await self.service.ask("POST", self.world.callbacks[-1], {"result": {"clean": True}}, key=None)
        assert 200 == answered.status, answered
        await self.service.settle()

    async def reserve(self, slot: str, *, in_ms: int = HOUR_MS) -> int:
        """A worker reserves a slot for the inspection; when that is."""
        at_ms: int = self.service.node.host.store_clock.now_ms() + in_ms
        starts = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
        await self.work("inspection.reserve", {"slot_id": slot, "starts_at": starts, "inspector": "ines"})
        return at_ms

    async def inspect(self, score: int) -> None:
        """All up to the report, with this score."""
        await self.verify()
        await self.reserve("slot-1")
        await self.service.pass_time(HOUR_MS)
        await self.answer("inspection_report", by="ines", result={"score": score, "reason": "the roof"})

    async def inbox(self, whose: str) -> list[str]:
        """The steps that somebody is asked for."""
        await self.service.settle()
        items = (await self.service.ask("GET", f"/v1/inbox?{whose}")).json()["items"]
        return [item["step"] for item in items]

    async def at(self) -> tuple[str, list[str]]:
        """The status, and where the run is."""
        run = await self.service.run(RUN)
        return run["status"], [step["path"] for step in run["steps"]]

    async def end(self) -> tuple[str, str]:
        """How it has ended, and by which error."""
        await self.service.settle()
        end = (await self.service.run(RUN))["end"]
        return end["status"], (end.get("error") or {"error": ""})["error"]

    async def objects(self) -> tuple[str, Any]:
        """The state of the listing, and the account."""
        listing = await self.service.ask("POST", "/v1/objects/listing/p-1/read", {})
        account = await self.service.ask("POST", "/v1/objects/owner_account/ann/read", {})
        return listing.json()["state"], account.json()

    async def events(self, event: str) -> list[tuple[str, int]]:
        """The steps of such events, and when they happened."""
        page = (await self.service.ask("GET", f"/v1/runs/{RUN}/history?limit=1000")).json()
        return [(line.get("step", ""), line["at_ms"]) for line in page["lines"] if line["event"] == event]


def onboarding(scenario: Callable[[Onboarding], Awaitable[None]], definition: str = DEFINITION) -> None:
    """Run a scenario with a run that has just been started."""
    world = World()

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(definition, name="property_onboarding", version=3)).status
        assert RUN == await service.started("property_onboarding", GIVEN)
        await scenario(Onboarding(service, world))

    env = {"notify": "https://notify.example"}
    with_workflows(main, env=env, objects=[Listing, OwnerAccount], calls=world)


def test_a_property_is_onboarded() -> None:
    """Uploaded, verified, inspected on its day and not before, approved by another, committed on both sides, told."""

    async def scenario(one: Onboarding) -> None:
        await one.verify()
        day_ms = await one.reserve("slot-1")
        await one.service.pass_time(HOUR_MS)
        (entered_ms,) = (at_ms for step, at_ms in await one.events("step.entered") if step == "inspection_report")
        assert 0 <= entered_ms - day_ms < 100
        assert ["inspection_report"] == await one.inbox("user=ines")
        await one.answer("inspection_report", by="ines", result={"score": 70})
        assert ["final_approval"] == await one.inbox("group=approvers")
        approve = {"outcome": "approve", "by": "ines"}
        assert (403, "wait.same_user") == code(await one.service.tell(RUN, "steps/final_approval/complete", approve))
        await one.answer("final_approval", outcome="approve", by="ben")
        assert ("succeeded", "") == await one.end()
        assert ("published", {"listed": 1, "held": 0}) == await one.objects()
        assert ["registry.example/searches", "notify.example/onboarded"] == one.world.sent

    onboarding(scenario)


def test_a_good_report_needs_no_approval() -> None:
    """And there is no second one to answer."""

    async def scenario(one: Onboarding) -> None:
        await one.inspect(95)
        assert ("succeeded", "") == await one.end()
        assert [] == await one.inbox("group=approvers")

    onboarding(scenario)


def test_nobody_uploads_anything() -> None:
    """Three reminders, an escalation with more time, and then it has expired; what comes afterwards is too late."""

    async def scenario(one: Onboarding) -> None:
        await one.service.pass_time(7 * HOUR_MS + 60_000)
        assert ["notify.example/reminder"] * 3 == one.world.sent
        assert (["document_upload"], []) == (await one.inbox("group=onboarding-ops"), await one.inbox("user=ann"))
        (step,) = (await one.service.run(RUN))["steps"]
        left_ms = step["due_ms"] - one.service.node.host.store_clock.now_ms()
        await one.service.pass_time(left_ms - 60_000)
        assert ("running", ["document_upload"]) == await one.at()
        await one.service.pass_time(120_000)
        assert ("failed", "onboarding.expired") == await one.end()
        late = {"result": {"documents": []}, "serial": step["serial"]}
        answer = await one.service.tell(RUN, "steps/document_upload/complete", late)
        assert (409, "run.closed") == code(answer)
        assert ["notify.example/reminder"] * 3 == one.world.sent

    onboarding(scenario)


def test_documents_that_are_rejected_are_asked_for_again() -> None:
    """The other branches are given up; after the third time somebody has to look at it."""

    async def scenario(one: Onboarding) -> None:
        for _ in range(2):
            await one.upload("deed.exe")
            await one.work("docs.scan", error="document.rejected")
            assert ("running", ["document_upload"]) == await one.at()
        late = await one.service.ask("POST", one.world.callbacks[0], {"result": {"clean": True}}, key=None)
        assert 409 == late.status
        await one.upload("deed.exe")
        await one.work("docs.scan", error="document.rejected")
        assert "stalled" == (await one.at())[0]
        (incident,) = (await one.service.ask("GET", "/v1/incidents")).json()["incidents"]
        assert RUN == incident["run"]

    onboarding(scenario)


def test_no_report_is_filed() -> None:
    """Another inspection is reserved, once; then the run stalls, and who cancels it gets both slots released."""

    async def scenario(one: Onboarding) -> None:
        await one.verify()
        for slot in ("slot-1", "slot-2"):
            await one.reserve(slot)
            await one.service.pass_time(5 * HOUR_MS)
        assert ("stalled", ["inspection_report"]) == await one.at()
        assert 202 == (await one.service.tell(RUN, "cancel", {})).status
        released = [(await one.work("inspection.release", {"released": True}))["slot"] for _ in range(2)]
        assert ["slot-2", "slot-1"] == released
        assert ("cancelled", "run.cancelled") == await one.end()

    onboarding(scenario)


def test_nobody_approves() -> None:
    """The leads are asked, then it is an incident; tried again, it can be approved."""

    async def scenario(one: Onboarding) -> None:
        await one.inspect(70)
        await one.service.pass_time(HOUR_MS + 60_000)
        assert (["final_approval"], []) == (await one.inbox("group=approver-leads"), await one.inbox("group=approvers"))
        await one.service.pass_time(5 * HOUR_MS)
        assert ("stalled", ["final_approval"]) == await one.at()
        assert 200 == (await one.service.tell(RUN, "steps/final_approval/retry", {})).status
        await one.answer("final_approval", outcome="approve", by="ben")
        assert ("succeeded", "") == await one.end()

    onboarding(scenario)


def test_the_approvers_reject() -> None:
    """The slot is released before the run has failed; neither object was touched."""

    async def scenario(one: Onboarding) -> None:
        await one.inspect(70)
        await one.answer("final_approval", outcome="reject", by="ben")
        assert "undoing" == (await one.at())[0]
        assert {"slot": "slot-1"} == await one.work("inspection.release", {"released": True})
        assert ("failed", "onboarding.rejected") == await one.end()
        assert ("free", {"listed": 0, "held": 0}) == await one.objects()

    onboarding(scenario)


def test_the_approvers_want_another_inspection() -> None:
    """Then the day and the report come once more."""

    async def scenario(one: Onboarding) -> None:
        await one.inspect(70)
        await one.answer("final_approval", outcome="redo_inspection", by="ben")
        await one.reserve("slot-2")
        await one.service.pass_time(HOUR_MS)
        await one.answer("inspection_report", by="ines", result={"score": 30, "reason": "the cellar"})
        for slot in ("slot-2", "slot-1"):
            assert {"slot": slot} == await one.work("inspection.release", {"released": True})
        assert ("failed", "onboarding.rejected") == await one.end()

    onboarding(scenario)


def test_it_lasts_too_long() -> None:
    """The deadline comes before the day of the inspection: the slot is released, then the run has expired. Days are minutes here."""

    async def scenario(one: Onboarding) -> None:
        begun_ms = (await one.service.run(RUN))["started_ms"]
        await one.verify()
        await one.reserve("slot-1", in_ms=HOUR_MS)
        assert 45 * 60_000 == (await one.service.run(RUN))["deadline_ms"] - begun_ms
        left_ms = begun_ms + 45 * 60_000 - one.service.node.host.store_clock.now_ms()
        await one.service.pass_time(left_ms - 1_000)
        assert ("running", ["inspection_day"]) == await one.at()
        await one.service.pass_time(1_100)
        ((_, passed_ms),) = await one.events("run.deadline_passed")
        assert 0 <= passed_ms - begun_ms - 45 * 60_000 < 100
        assert ("undoing", ["inspection_scheduling!undo"]) == await one.at()
        assert {"slot": "slot-1"} == await one.work("inspection.release", {"released": True})
        assert ("failed", "onboarding.expired") == await one.end()
        assert ("free", {"listed": 0, "held": 0}) == await one.objects()

    onboarding(scenario, re.sub(r"\bP(\d+)D\b", r"PT\1M", WRITTEN))


def days_in(*, until: str) -> Flow:
    """The run as its definition is written, at this step; the inspection is on the 60th day."""
    run = Flow(define(read_yaml(WRITTEN)), GIVEN, env={"notify": "https://notify.example"})
    starts = datetime.fromtimestamp((START_MS + 60 * DAY_MS) / 1_000, UTC).isoformat()
    answers = {
        "document_upload": {"documents": [{"name": "deed.pdf", "preferred_window": "any"}]},
        "verification/identity/check": {"clean": True},
        "verification/title/search": {"clean": True},
        "verification/documents/scan/0/one": {"read": True},
        "inspection_scheduling": {"slot_id": "slot-1", "starts_at": starts, "inspector": "ines"},
        "inspection_day": None,
        "inspection_report": {"score": 95},
        "reserve_listing": None,
        "reserve_account": None,
    }
    for path, result in answers.items():
        if run.at == until:
            break
        run.send(Skipped(path=path)) if path == "inspection_day" else run.complete(path, result, by="ines")
    assert until == run.at
    return run


def test_the_deadline_is_on_the_45th_day_and_none_after_the_pivot() -> None:
    """Not a millisecond early: what was done is undone, and the run has expired. Behind the pivot it goes on."""
    run, committing = days_in(until="inspection_day"), days_in(until="commit")

    assert ("open", "inspection_day") == (run.pass_ms(45 * DAY_MS - 1).status, run.at)
    run.pass_ms(1)
    release = run.sent(SendTask)
    assert ("undoing", "inspection.release", {"slot": "slot-1"}) == (run.status, release.queue, release.input)
    run.complete("inspection_scheduling!undo")
    assert ("failed", "onboarding.expired") == (run.status, run.error)
    committing.now_ms += 46 * DAY_MS
    assert ("open", "commit") == (committing.send(TimerDue()).status, committing.at)
    assert "run.deadline_passed" in run.history
    assert "run.deadline_passed" not in committing.history


def test_an_account_that_is_full_undoes_the_rest_when_the_run_is_cancelled() -> None:
    """The listing was held: it is free again, and the slot is released."""

    async def scenario(one: Onboarding) -> None:
        for _ in range(PROPERTIES_MAX):
            await one.service.ask("POST", "/v1/objects/owner_account/ann/prepare", {})
        await one.inspect(95)
        assert ("stalled", ["reserve_account"]) == await one.at()
        assert "held" == (await one.objects())[0]
        assert 202 == (await one.service.tell(RUN, "cancel", {})).status
        await one.work("inspection.release", {"released": True})
        assert ("cancelled", "run.cancelled") == await one.end()
        assert ("free", {"listed": 0, "held": PROPERTIES_MAX}) == await one.objects()

    onboarding(scenario)
