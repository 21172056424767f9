"""Runs of workflows: start, look, signal, answer, wait."""

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tenure_client.transport import ANSWER_S, Client

ENDED = frozenset({"succeeded", "failed", "cancelled", "terminated"})
WAIT_S_MAX = 30  # Of one request; `wait` makes as many as it takes.


@dataclass(frozen=True)
class Run:
    """A run as the service shows it; `shown` is all of it."""

    id: str
    status: str
    seq: int
    shown: dict[str, Any]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ENDED

    @property
    def output(self) -> Any:
        """What came of it; None while it is open."""
        return (self.shown.get("end") or {}).get("output")

    @property
    def error(self) -> Any:
        """Why it has failed, if it has."""
        return (self.shown.get("end") or {}).get("error")


class Workflows(Client):
    """Calls a workflow service. Every call may be made again without harm, and is, while the service is away."""

    async def start(
        self,
        definition: str,
        run_input: Any = None,
        *,
        run_id: str | None = None,
        version: int | None = None,
        attributes: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run, or find the one that was started so before.

        Without `run_id` the definition makes the id; if it does not, the idempotency key does, so give one that stands
        for what you do, or two calls of yours are two runs.

        Raises:
            ApiError: `run.exists`: of this id there is one that was started otherwise.
        """
        given = {"id": run_id, "version": version, "attributes": attributes}
        body = {"definition": definition, "input": run_input}
        body |= {name: value for name, value in given.items() if value is not None}
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return _run(await self._transport.call("POST", "/v1/runs", body, headers=headers))

    async def get(self, run_id: str) -> Run:
        """The run as it is."""
        return _run(await self._transport.call("GET", _path(run_id)))

    async def wait(self, run_id: str, *, timeout_s: float = 3_600.0) -> Run:
        """The run once it has ended, or as it is after that time."""
        left_s = timeout_s
        while True:
            wait_s = int(min(WAIT_S_MAX, max(left_s, 0)))
            path = f"{_path(run_id)}?wait={wait_s}"
            run = _run(await self._transport.call("GET", path, answer_s=wait_s + ANSWER_S))
            left_s -= max(wait_s, 1)
            if run.ended or left_s <= 0:
                return run

    async def signal(self, run_id: str, name: str, payload: Any = None, *, idempotency_key: str | None = None) -> str:
        """Send a signal; the status after it. A wait takes it now or later."""
        path = f"{_path(run_id)}/signals/{quote(name, safe='')}"
        return await self._change(path, {"payload": payload}, idempotency_key)

    async def complete(
        self,
        run_id: str,
        step: str,
        result: Any = None,
        *,
        outcome: str = "",
        by: str = "",
        idempotency_key: str | None = None,
    ) -> str:
        """Answer what a step waits for; the status after it."""
        body = {"result": result, "outcome": outcome, "by": by}
        return await self._change(f"{_path(run_id)}/steps/{quote(step, safe='')}/complete", body, idempotency_key)

    async def cancel(self, run_id: str, reason: str = "", *, idempotency_key: str | None = None) -> str:
        """Stop the run, and undo what it has done; the status after it."""
        return await self._change(f"{_path(run_id)}/cancel", {"reason": reason}, idempotency_key)

    async def _change(self, path: str, body: Any, key: str | None) -> str:
        headers = {"idempotency-key": key or str(uuid.uuid4())}
        return str((await self._transport.call("POST", path, body, headers=headers))["status"])


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"


def _run(shown: dict[str, Any]) -> Run:
    return Run(id=shown["id"], status=shown["status"], seq=shown["seq"], shown=shown)
