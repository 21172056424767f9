"""The worker of the onboarding: looks at owners and documents, and reserves inspections.

    python examples/onboarding/worker.py http://127.0.0.1:7102 .tenure/dev-key

What has an effect is done under the key of its task, so that a task that is done twice reserves one slot and not two.
The calendar stands in for one that others keep, to which the key would be sent as its `Idempotency-Key`.
"""

import sys
from pathlib import Path
from typing import Any

from tenure_client import Task, TaskFailedError, Worker

BARRED = frozenset({"mallory"})
READABLE = (".pdf", ".png")


class Calendar:
    """Slots of inspectors, each reserved under a key."""

    def __init__(self) -> None:
        self._slots: dict[str, dict[str, str]] = {}

    def reserve(self, key: str, window: str) -> dict[str, str]:
        """The slot that was reserved under this key, now or before."""
        slot = {"slot_id": f"slot-{key}", "starts_at": window, "inspector": "ines"}
        return self._slots.setdefault(key, slot)

    def release(self, slot_id: str) -> bool:
        """Give a slot back; False where there is none, which is no error: perhaps it was never reserved."""
        return self._slots.pop(slot_id.removeprefix("slot-"), None) is not None


def made(url: str, key: str) -> Worker:
    """The worker, with a handler for each queue of the definition."""
    worker = Worker(url, key, concurrency=5)
    calendar = Calendar()

    @worker.task("kyc.identity")
    async def identity(task: Task) -> dict[str, bool]:
        """Whether the owner may offer a property; one who may not is a result, and no error."""
        task.progress({"asked": task.input["owner"]})
        return {"clean": task.input["owner"] not in BARRED}

    @worker.task("docs.scan", concurrency=2)
    def scan(task: Task) -> dict[str, str]:
        """Read one document, in a thread; one that cannot be read sends the run back to the upload."""
        name = task.input["doc"]["name"]
        if not name.endswith(READABLE):
            raise TaskFailedError("document.rejected", f"{name} cannot be read", retry=False)
        return {"name": name, "text": f"what {name} says"}

    @worker.task("inspection.reserve")
    async def reserve(task: Task) -> dict[str, str]:
        """A slot of an inspector within the window."""
        return calendar.reserve(task.key, task.input["window"])

    @worker.task("inspection.release")
    async def release(task: Task) -> dict[str, Any]:
        """Undoes a reservation, whether there is one or not."""
        slot_id = task.input["slot"]
        return {"released": bool(slot_id) and calendar.release(slot_id)}

    return worker


if __name__ == "__main__":
    address, key_file = sys.argv[1:]
    made(address, Path(key_file).read_text().strip()).run()
