"""The handlers of the onboarding's worker, each called as a function."""

import asyncio
from typing import Any

import pytest
from tenure_client import Task, TaskFailedError, Worker

from examples.onboarding.worker import made


def handlers() -> Any:
    """The handler of each queue."""
    worker: Worker = made("http://127.0.0.1:1", "tnk_none")
    return worker.handlers


def test_an_owner_is_looked_at() -> None:
    """Whoever is barred is not clean; that is a result, and no error."""
    look = handlers()["kyc.identity"]
    assert [asyncio.run(look(Task.example({"owner": owner}))) for owner in ("ann", "mallory")] == [
        {"clean": True},
        {"clean": False},
    ]


def test_a_document_that_cannot_be_read_is_rejected() -> None:
    """By the error that the definition names, and without another try."""
    scan = handlers()["docs.scan"]
    assert scan(Task.example({"doc": {"name": "deed.pdf"}}))["name"] == "deed.pdf"
    with pytest.raises(TaskFailedError) as failed:
        scan(Task.example({"doc": {"name": "deed.exe"}}))
    assert (failed.value.error, failed.value.retry) == ("document.rejected", False)


def test_a_reservation_is_made_once_a_key_and_can_be_undone() -> None:
    """Twice under one key is one slot; what undoes it bears that there is none."""
    by_queue = handlers()
    reserve, release = by_queue["inspection.reserve"], by_queue["inspection.release"]
    window = {"window": "2031-05-01T09:00:00Z"}
    first, again, other = (asyncio.run(reserve(Task.example(window, key=key))) for key in ("a", "a", "b"))
    assert first == again != other
    released = [
        asyncio.run(release(Task.example({"slot": slot}))) for slot in (first["slot_id"], first["slot_id"], None)
    ]
    assert released == [{"released": True}, {"released": False}, {"released": False}]
