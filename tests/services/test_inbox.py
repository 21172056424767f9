"""What people are asked: found by whom it is for, as the run has it now, and gone when it is answered."""

from typing import Any

import pytest

from tests.support.workflows_app import Workflows, with_workflows

FOUR_EYES = """
workflow: four
start: first
steps:
  first:
    wait: { title: First, assign: { user: "{% $input.user %}" }, outcomes: [yes, no] }
    escalate: [ { after: 1h, assign: { group: leads }, extend: 1h } ]
    timeout: 2h
    catch: [ { errors: [timeout], next: second } ]
    next: second
  second: { wait: { title: Second, assign: { group: board }, forbid_same_user_as: [first] }, end: true }
"""
HOUR_MS = 3_600_000


def four_eyes(scenario: Any) -> None:
    """Run a scenario with the definition in place."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(FOUR_EYES, name="four")).status
        await scenario(service)

    with_workflows(main)


async def inbox(service: Workflows, query: str = "") -> list[dict[str, Any]]:
    """What is in it, once what was just begun is carried out."""
    await service.settle()
    answer = await service.ask("GET", f"/v1/inbox?{query}")
    assert 200 == answer.status, answer
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_a_wait_is_in_the_inbox_of_whom_it_is_for() -> None:
    """With all that is needed to answer it; once answered, the next one has it."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("four", {"user": "ann"})
        (item,) = await inbox(service, "user=ann")
        assert (run_id, "four", "first", "First", ["yes", "no"]) == tuple(
            item[name] for name in ("run", "definition", "step", "title", "outcomes")
        )
        assert item["due_ms"] == item["since_ms"] + 2 * HOUR_MS
        assert [] == await inbox(service, "user=ben")
        assert [] == await inbox(service, "group=board")
        answer = {"outcome": "yes", "by": "ann", "serial": item["serial"]}
        assert 200 == (await service.tell(run_id, "steps/first/complete", answer)).status
        assert ([], ["second"]) == (
            await inbox(service, "user=ann"),
            [one["step"] for one in await inbox(service, "group=board")],
        )
        await service.tell(run_id, "steps/second/complete", {"by": "ben"})
        assert [] == await inbox(service)

    four_eyes(scenario)


def test_a_claim_is_seen_at_once() -> None:
    """The inbox reads the run, so it never shows an old claim."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("four", {"user": "ann"})
        await inbox(service)
        await service.tell(run_id, "steps/first/claim", {"by": "ann"})
        assert ["ann"] == [item["claimed_by"] for item in (await service.ask("GET", "/v1/inbox")).json()["items"]]

    four_eyes(scenario)


def test_what_is_given_to_others_is_in_their_inbox() -> None:
    """By hand, and by an escalation, with the time that they have for it."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("four", {"user": "ann"})
        await service.tell(run_id, "steps/first/assign", {"user": "ben"})
        assert ([], 1) == (await inbox(service, "user=ann"), len(await inbox(service, "user=ben")))
        await service.pass_time(HOUR_MS)
        (item,) = await inbox(service, "group=leads")
        assert ([], item["since_ms"] + 2 * HOUR_MS) == (await inbox(service, "user=ben"), item["due_ms"])

    four_eyes(scenario)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_what_is_given_up_is_in_no_inbox(how: str) -> None:
    """A run that has ended asks nobody anything."""

    async def scenario(service: Workflows) -> None:
        run_id = await service.started("four", {"user": "ann"})
        await inbox(service)
        await service.tell(run_id, how)
        assert [] == await inbox(service)

    four_eyes(scenario)


def test_the_most_urgent_comes_first() -> None:
    """Over pages; what need not be answered before a moment can be left out."""

    async def scenario(service: Workflows) -> None:
        ids = []
        for _ in range(3):
            ids.append(await service.started("four", {"user": "ann"}))
            await service.pass_time(60_000)
        await service.tell(ids[1], "steps/first/complete", {"outcome": "yes", "by": "ann"})
        await service.settle()
        seen, cursor = [], ""
        while True:
            page = (await service.ask("GET", f"/v1/inbox?limit=1{cursor}")).json()
            seen += [item["run"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert [ids[0], ids[2], ids[1]] == seen
        first = (await inbox(service))[0]
        assert [ids[0]] == [item["run"] for item in await inbox(service, f"due_before={first['due_ms'] + 1}")]

    four_eyes(scenario)


def test_an_inbox_is_that_of_a_user_or_of_a_group() -> None:
    """Both at once are refused, and so is a cursor that is none."""

    async def scenario(service: Workflows) -> None:
        for query in ("user=a&group=b", "cursor=no", "due_before=-1"):
            assert 400 == (await service.ask("GET", f"/v1/inbox?{query}")).status

    four_eyes(scenario)
