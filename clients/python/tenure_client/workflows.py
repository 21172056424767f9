"""Runs of workflows: start, find, look, signal, answer, help, wait."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from tenure_client.transport import ANSWER_S, Client, given

ENDED = frozenset({"succeeded", "failed", "cancelled", "terminated"})
WAIT_S_MAX = 30  # Of one request; `wait` makes as many as it takes.
PAGE = 100


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


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs are meant: all that is said holds for each of them. Moments are ms since 1970."""

    status: str | None = None
    definition: str | None = None
    version: int | None = None
    """Of the definition, with that."""
    attribute: tuple[str, str] | None = None
    """A name and a value; not together with a step or a moment."""
    step: str | None = None
    """Open runs at this step, with its definition."""
    due_before_ms: int | None = None
    """Open runs of which a step times out, wakes or is tried again, or the deadline is over, before then."""

    def body(self) -> dict[str, Any]:
        """As the API has it."""
        return given(
            status=self.status,
            definition=self.definition,
            version=self.version,
            attribute=self.attribute,
            step=self.step,
            due_before=self.due_before_ms,
        )


@dataclass(frozen=True)
class RunSummary:
    """A run as a listing shows it."""

    id: str
    definition: str
    version: int
    status: str
    started_ms: int


@dataclass(frozen=True)
class RunPage:
    """Some of the runs that are found, and where to go on; None: there are no more."""

    runs: tuple[RunSummary, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class NotChanged:
    """A run that something did not fit, and why."""

    id: str
    code: str
    detail: str


@dataclass(frozen=True)
class Signalled:
    """Which runs a signal was sent to. `started` is the one among them that it has begun."""

    runs: tuple[str, ...]
    refused: tuple[NotChanged, ...]
    started: str | None


@dataclass(frozen=True, kw_only=True)
class StartIfNone:
    """The run that a signal begins where it finds none."""

    input: Any = None
    run_id: str | None = None
    version: int | None = None

    def body(self) -> dict[str, Any]:
        """As the API has it."""
        return {"input": self.input} | given(id=self.run_id, version=self.version)


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
        start_at_ms: int | None = None,
        delay_ms: int | None = None,
        deadline_at_ms: int | None = None,
        deadline_after_ms: int | None = None,
        on_conflict: Literal["fail", "use_existing", "terminate_existing"] | None = None,
        reuse: Literal["never", "failed_only", "any"] | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run, or find the one that was started so before.

        Without `run_id` the definition makes the id; if it does not, the idempotency key does, so give one that stands
        for what you do, or two calls of yours are two runs. `on_conflict` and `reuse` say what becomes of another run
        that has the id: while it is open, and once it has ended. Moments are ms since 1970.

        Raises:
            ApiError: `run.exists`: of this id there is one that was started otherwise.
        """
        body = {"definition": definition, "input": run_input} | given(
            id=run_id,
            version=version,
            attributes=attributes,
            start_at_ms=start_at_ms,
            delay_ms=delay_ms,
            deadline_at_ms=deadline_at_ms,
            deadline_after_ms=deadline_after_ms,
            on_conflict=on_conflict,
            reuse=reuse,
        )
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

    async def search(
        self,
        runs: RunFilter | None = None,
        *,
        sort: Literal["-created", "due"] | None = None,
        cursor: str | None = None,
        limit: int = PAGE,
    ) -> RunPage:
        """A page of the runs that a filter finds: newest first, or what is due first.

        Raises:
            ApiError: `invalid_input`: no index serves such a filter.
        """
        body = {"filter": (runs or RunFilter()).body(), "limit": limit} | given(sort=sort, cursor=cursor)
        told = await self._transport.call("POST", "/v1/runs/search", body)
        return RunPage(tuple(_summary(one) for one in told["runs"]), told["next_cursor"])

    async def each(
        self, runs: RunFilter | None = None, *, sort: Literal["-created", "due"] | None = None
    ) -> AsyncIterator[RunSummary]:
        """All runs that a filter finds, page by page."""
        cursor = None
        while True:
            page = await self.search(runs, sort=sort, cursor=cursor)
            for one in page.runs:
                yield one
            cursor = page.next_cursor
            if cursor is None:
                return

    async def count(self, definition: str | None = None) -> dict[str, int]:
        """How many runs there are of each status."""
        query = "" if definition is None else f"?definition={quote(definition, safe='')}"
        told = await self._transport.call("GET", f"/v1/runs/count{query}")
        counts: dict[str, int] = told["counts"]
        return counts

    async def history(self, run_id: str, *, newest_first: bool = False) -> AsyncIterator[dict[str, Any]]:
        """What has happened, each with `at_ms`, `event`, and maybe `step` and `data`."""
        after, order = 0, "&reverse=true" if newest_first else ""
        while True:
            page = await self._transport.call("GET", f"{_path(run_id)}/history?after={after}{order}")
            for line in page["lines"]:
                yield line
            if page["next_cursor"] is None:
                return
            after = page["next_cursor"]

    async def signal(
        self, run_id: str, name: str, payload: Any = None, *, ttl_ms: int = 0, idempotency_key: str | None = None
    ) -> str:
        """Send a signal; the status after it. A wait takes it now or later, or with `ttl_ms` within that time."""
        path = f"{_path(run_id)}/signals/{quote(name, safe='')}"
        return await self._change(path, {"payload": payload, "ttl_ms": ttl_ms}, idempotency_key)

    async def signal_about(
        self,
        definition: str,
        attribute: tuple[str, str],
        name: str,
        payload: Any = None,
        *,
        ttl_ms: int = 0,
        start_if_none: StartIfNone | None = None,
        require_match: bool = False,
        idempotency_key: str | None = None,
    ) -> Signalled:
        """Send a signal to all open runs that have an attribute, or begin one with it where there is none.

        Raises:
            ApiError: `not_found`: with `require_match`, there is none.
        """
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        body = {"definition": definition, "attribute": attribute, "name": name, "payload": payload, "ttl_ms": ttl_ms}
        first = given(start_if_none=start_if_none and start_if_none.body()) | {"require_match": require_match}
        told = await self._transport.call("POST", "/v1/signals", body | first, headers=headers)
        runs, refused, started = list(told["changed"]), list(told["refused"]), told["started"]
        while told["next_cursor"] is not None:
            more = body | {"cursor": told["next_cursor"]}
            told = await self._transport.call("POST", "/v1/signals", more, headers=headers)
            runs += told["changed"]
            refused += told["refused"]
        return Signalled(tuple(runs), tuple(NotChanged(**one) for one in refused), started)

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
        return await self._change(_step(run_id, step, "complete"), body, idempotency_key)

    async def fail(
        self, run_id: str, step: str, error: str, cause: Any = "", *, idempotency_key: str | None = None
    ) -> str:
        """Say that what a step waits for did not come to be; the status after it."""
        return await self._change(_step(run_id, step, "fail"), {"error": error, "cause": cause}, idempotency_key)

    async def skip(self, run_id: str, step: str, result: Any = None, *, idempotency_key: str | None = None) -> str:
        """Take a step as done, whatever it is at; the status after it."""
        return await self._change(_step(run_id, step, "skip"), {"result": result}, idempotency_key)

    async def retry(self, run_id: str, step: str, *, idempotency_key: str | None = None) -> str:
        """Try a step again that has stalled; the status after it."""
        return await self._change(_step(run_id, step, "retry"), None, idempotency_key)

    async def cancel(self, run_id: str, reason: str = "", *, idempotency_key: str | None = None) -> str:
        """Stop the run, and undo what it has done; the status after it."""
        return await self._change(f"{_path(run_id)}/cancel", {"reason": reason}, idempotency_key)

    async def terminate(self, run_id: str, reason: str = "", *, idempotency_key: str | None = None) -> str:
        """Stop the run at once, and undo nothing; the status after it."""
        return await self._change(f"{_path(run_id)}/terminate", {"reason": reason}, idempotency_key)

    async def pause(self, run_id: str, *, idempotency_key: str | None = None) -> str:
        """Begin no more steps of the run; the status after it."""
        return await self._change(f"{_path(run_id)}/pause", None, idempotency_key)

    async def resume(self, run_id: str, *, idempotency_key: str | None = None) -> str:
        """Go on with the run; the status after it."""
        return await self._change(f"{_path(run_id)}/resume", None, idempotency_key)

    async def reset(
        self, run_id: str, step: str, *, keep_signals: bool = False, idempotency_key: str | None = None
    ) -> str:
        """Go on at a step of the run itself, as a new visit; the status after it."""
        body = {"to_step": step, "keep_signals": keep_signals}
        return await self._change(f"{_path(run_id)}/reset", body, idempotency_key)

    async def restart(
        self,
        run_id: str,
        *,
        new_id: str | None = None,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Start a new run with the definition, input and attributes of this one, which stays as it is; the id of that.

        Raises:
            ApiError: `run.exists`: there is a run of the id that it would have.
        """
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        body = given(id=new_id, version=version)
        return str((await self._transport.call("POST", f"{_path(run_id)}/restart", body, headers=headers))["id"])

    async def migrate(
        self,
        run_id: str,
        version: int,
        *,
        step_map: dict[str, str] | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> str:
        """Have the run go on with another version of its definition; the status after it.

        Raises:
            ApiError: `step.unmappable`: it is at a step that cannot go on there; `problem["step"]` says which.
        """
        body = {"version": version, "step_map": step_map or {}, "dry_run": dry_run}
        return await self._change(f"{_path(run_id)}/migrate", body, idempotency_key)

    async def purge(self, run_id: str) -> None:
        """Forget a run that has ended, if it is there."""
        await self._transport.remove(_path(run_id))

    async def _change(self, path: str, body: Any, key: str | None) -> str:
        headers = {"idempotency-key": key or str(uuid.uuid4())}
        return str((await self._transport.call("POST", path, body, headers=headers))["status"])


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"


def _step(run_id: str, step: str, what: str) -> str:
    return f"{_path(run_id)}/steps/{quote(step, safe='')}/{what}"


def _run(shown: dict[str, Any]) -> Run:
    return Run(id=shown["id"], status=shown["status"], seq=shown["seq"], shown=shown)


def _summary(shown: dict[str, Any]) -> RunSummary:
    return RunSummary(
        id=shown["id"],
        definition=shown["definition"],
        version=shown["version"],
        status=shown["status"],
        started_ms=shown["started_ms"],
    )
