"""The same done to many runs: begin, look, wait, stop."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from tenure_client.transport import Client, given
from tenure_client.workflows import PAGE, NotChanged, RunFilter

Op: TypeAlias = Literal["cancel", "terminate", "pause", "resume", "retry", "purge", "migrate"]
_LOOK_S = 0.2
_LOOK_S_MAX = 5.0


@dataclass(frozen=True)
class Operation:
    """An operation as it is; `shown` is all of it."""

    id: str
    status: str
    """`running`, `done`, or `stopped`."""
    changed: int
    refused: int
    errors: tuple[NotChanged, ...]
    """Of the first runs that it did not fit."""
    next_cursor: str | None
    """Where it has ended, if there may be more runs behind."""
    shown: dict[str, Any]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status != "running"


@dataclass(frozen=True)
class OperationPage:
    """Some operations, newest first, and where to go on; None: there are no more."""

    operations: tuple[Operation, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class MigrateTo:
    """Which version runs are to have, and the steps of theirs that go on at another one there."""

    definition: str
    version: int
    step_map: dict[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """As the API has it."""
        return {"definition": self.definition, "version": self.version, "step_map": self.step_map or {}}


class Operations(Client):
    """Calls a workflow service. Every call may be made again without harm, and is, while the service is away."""

    async def begin(
        self,
        op: Op,
        runs: RunFilter | Sequence[str],
        *,
        to: MigrateTo | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        dry_run: bool = False,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Operation:
        """Begin to do the same to the runs that a filter finds or that are named; it goes on by itself.

        With the same idempotency key it is the same operation, for as long as that is kept.

        Raises:
            ApiError: `operation.too_many`: so many are under way at once.
        """
        which = {"filter": runs.body()} if isinstance(runs, RunFilter) else {"ids": list(runs)}
        body = {"op": op, "dry_run": dry_run, "reason": reason, **which}
        body |= given(to=to and to.body(), limit=limit, cursor=cursor)
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return _operation(await self._transport.call("POST", "/v1/bulk", body, headers=headers))

    async def get(self, operation_id: str) -> Operation:
        """How far it is."""
        return _operation(await self._transport.call("GET", _path(operation_id)))

    async def wait(self, operation_id: str, *, timeout_s: float = 3_600.0) -> Operation:
        """The operation once it has ended, or as it is after that time."""
        loop = asyncio.get_running_loop()
        until_s, pause_s = loop.time() + timeout_s, _LOOK_S
        while True:
            operation = await self.get(operation_id)
            left_s = until_s - loop.time()
            if operation.ended or left_s <= 0:
                return operation
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LOOK_S_MAX)

    async def list(self, *, cursor: str | None = None, limit: int = PAGE) -> OperationPage:
        """A page of operations, newest first."""
        query = f"?limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor is not None else "")
        told = await self._transport.call("GET", f"/v1/operations{query}")
        return OperationPage(tuple(_operation(one) for one in told["operations"]), told["next_cursor"])

    async def stop(self, operation_id: str) -> Operation:
        """Change no more runs. Those that are changed stay so."""
        return _operation(await self._transport.call("POST", f"{_path(operation_id)}/stop"))


def _path(operation_id: str) -> str:
    return f"/v1/operations/{quote(operation_id, safe='')}"


def _operation(shown: dict[str, Any]) -> Operation:
    return Operation(
        id=shown["id"],
        status=shown["status"],
        changed=shown["changed"],
        refused=shown["refused"],
        errors=tuple(NotChanged(**one) for one in shown["errors"]),
        next_cursor=shown["next_cursor"],
        shown=shown,
    )
