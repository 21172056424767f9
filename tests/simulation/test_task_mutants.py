"""Broken variants of queues of tasks, each caught by a named test."""

from functools import partial

import pytest

from services.workflows.backlog import Backlog
from services.workflows.desk import Desk
from services.workflows.queue import TaskQueue
from services.workflows.run import WorkflowRun
from shared.objects.parking import Parking
from tests.services import test_tasks_api as workers
from tests.simulation import test_parking as parking
from tests.simulation import test_task_crashes as crashes
from tests.simulation import test_task_queue as queue
from tests.simulation import test_tasks_of_runs as tasks
from tests.simulation.test_core_mutants import Mutant, Text, check_detected, nothing

MUTANTS = (
    Mutant(
        "offered_twice_is_there_twice",
        Backlog,
        "has",
        Text("return (offer.run, offer.serial) in self._numbers", "return False"),
        queue.test_a_task_that_is_offered_again_is_there_once,
    ),
    Mutant(
        "given_back_to_the_end",
        Backlog,
        "_remember",
        Text("heapq.heappush(self._waiting, task.number)", "self._waiting.append(task.number)"),
        queue.test_the_oldest_task_is_given_first_whoever_had_it_meanwhile,
    ),
    Mutant(
        "lease_that_ends_early",
        Backlog,
        "end_leases",
        Text("end_ms > now_ms", "end_ms > now_ms + 5_000"),
        queue.test_of_several_leases_each_ends_at_its_own_time,
    ),
    Mutant(
        "lease_that_never_ends",
        TaskQueue,
        "_settle",
        Text("self.alarms.set(LEASES, at_ms=end_ms)", "pass"),
        queue.test_a_lease_ends_by_itself_and_never_early,
    ),
    Mutant(
        "any_secret_will_do",
        Backlog,
        "standing",
        Text("not secrets.compare_digest(task.held.secret, lease.secret)", "False"),
        queue.test_a_lease_is_known_by_its_secret,
    ),
    Mutant(
        "old_lease_is_as_good",
        Backlog,
        "standing",
        Text(
            "task.leases != lease.nth or not secrets.compare_digest(task.held.secret, lease.secret)",
            "task.held is None",
        ),
        tasks.test_a_worker_that_has_lost_its_lease_cannot_answer,
    ),
    Mutant(
        "lease_of_one_task_for_another_step",
        Backlog,
        "standing",
        Text("(task.offer.run, task.offer.serial) != (lease.run, lease.serial)", "False"),
        partial(workers.test_a_worker_answers_its_task_and_no_other_step, secret=None, serial=None, verb="complete"),
    ),
    Mutant(
        "no_lease_for_what_is_no_task",
        WorkflowRun,
        "answer",
        Text('raise SupersededError("This lease has ended.")', "pass"),
        partial(workers.test_a_worker_answers_its_task_and_no_other_step, secret=b"made up!", serial=None, verb="fail"),
    ),
    Mutant(
        "withdrawn_is_held_on",
        Backlog,
        "extend",
        Text("if task.withdrawn:", "if False:"),
        queue.test_a_task_that_nobody_wants_is_given_to_nobody,
    ),
    Mutant(
        "lost_for_ever_and_ever",
        Backlog,
        "_end_lease",
        Text("lost=task.lost + 1", "lost=task.lost"),
        tasks.test_a_lost_worker_costs_a_lease_and_the_last_of_several_an_attempt,
    ),
    Mutant(
        "heartbeat_shorter_than_its_lease",
        Backlog,
        "_lease",
        Text("task.offer.heartbeat_ms + HEARTBEAT_GRACE_MS", "0"),
        queue.test_a_lease_lasts_longer_than_the_heartbeat_of_its_step,
    ),
    Mutant(
        "nobody_is_called",
        TaskQueue,
        "_call_one",
        nothing,
        queue.test_one_new_task_calls_one_of_a_thousand_that_wait,
    ),
    Mutant(
        "everybody_is_called",
        TaskQueue,
        "poll",
        Text("one=True", "one=False"),
        queue.test_one_new_task_calls_one_of_a_thousand_that_wait,
    ),
    Mutant(
        "answer_without_a_lease",
        WorkflowRun,
        "answer",
        Text("if not held and", "if False and"),
        tasks.test_a_worker_that_has_lost_its_lease_cannot_answer,
    ),
    Mutant(
        "given_to_whoever_asks",
        Desk,
        "_hand",
        Text("if handed is None:", "if False:"),
        tasks.test_a_task_whose_run_is_gone_is_given_to_nobody,
    ),
    Mutant(
        "done_and_never_forgotten",
        Desk,
        "_forget",
        Text("await self._host.call(queue, TaskQueue.finish, ticket.lease.number)", "pass"),
        tasks.test_a_task_is_given_with_all_that_a_worker_needs,
    ),
    Mutant(
        "forgotten_before_it_counts",
        Desk,
        "answer",
        Text("    try:\n        fresh", "    await self._forget(queue, ticket)\n    try:\n        fresh"),
        crashes.test_a_crash_at_any_commit_loses_no_task_and_counts_none_twice,
    ),
    Mutant(
        "gone_and_nobody_in_its_place",
        Parking,
        "_begin_service",
        nothing,
        parking.test_one_that_goes_away_before_its_turn_takes_nothing_from_the_next,
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_detects_the_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes on the queue as it is and fails on the changed one, by an assertion or an error of the core."""
    check_detected(mutant, monkeypatch, TimeoutError, ValueError)
