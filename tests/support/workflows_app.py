"""The whole workflow service in virtual time over the store in memory, asked through real ASGI."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

from services.workflows.app import Service as WorkflowService
from services.workflows.settings import WorkflowsSettings
from shared.objects.handler import DurableObject
from shared.outbound.client import Calls
from shared.outbound.errors import UnreachableError
from shared.runtime.node import Node
from shared.telemetry.traces import Tracer
from shared.testing.clock import LoopClock, run_virtual
from shared.testing.store import MemoryStore
from tests.support.carried import Shelf
from tests.support.limiter_app import Answer, Service
from tests.support.receivers import Receivers
from tests.support.simulated import Core, core

T = TypeVar("T")
_LIMIT_MS = 24 * 3_600_000
ALL = ("workflows:read", "workflows:write", "workflows:work", "workflows:admin", "objects:call")
YAML = (("content-type", "application/yaml"),)
REFUND = """
workflow: refund
attributes: { region: "{% $input.region %}" }
input_schema: { type: object, required: [order] }
start: decide
steps:
  decide:
    wait: { title: "{% 'Refund ' & $input.order %}", assign: { group: support }, outcomes: [yes, no], signal: decided }
    timeout: P3D
    catch: [ { errors: [timeout], next: refuse } ]
    choice: [ { when: "{% $outcome = 'yes' %}", next: pay } ]
    default: refuse
  pay:
    object: { type: shelf, id: money, call: take, args: { count: "{% $input.amount %}" } }
    compensate: { object: { type: shelf, id: money, call: put_back, args: { count: "{% $input.amount %}" } } }
    next: confirm
  confirm: { wait: { title: Confirm }, end: true }
  refuse: { fail: { error: refund.refused, cause: "{% $outcome %}" } }
"""
ORDER = {"order": "o-1", "region": "eu", "amount": 3}


class Workflows(Service):
    """A node of the workflow service with one tenant, `acme`, and a key for everything."""

    def __init__(
        self, running: Core, store: MemoryStore, service: WorkflowService, objects: Sequence[type[DurableObject]]
    ) -> None:
        super().__init__(running, store, objects=objects)
        self._service = service

    async def start(self) -> None:
        """Make the applications, the tenant and its key."""
        await self.node.documents.poll()
        await self.node.shared_documents.poll()
        self.app, self.admin = self._service.build(cast("Node", self.node))
        self.key = await self.add_key("acme", *ALL)

    async def put(self, text: str, *, name: str, version: int = 1) -> Answer:
        """Put a definition, as YAML."""
        return await self.ask_yaml("PUT", f"/v1/definitions/{name}/versions/{version}", text)

    async def ask_yaml(self, method: str, path: str, text: str) -> Answer:
        """One request with a body of YAML."""
        return await self.ask(method, path, text.encode(), headers=YAML)

    async def started(self, definition: str, run_input: Any = None, **more: Any) -> str:
        """The id of a run that was started, which must be answered with 201."""
        body = {"definition": definition, "input": run_input, **more}
        answer = await self.ask("POST", "/v1/runs", body)
        assert answer.status == 201, answer
        run_id: str = answer.json()["id"]
        return run_id

    async def settle(self) -> None:
        """Let what was begun be carried out: some commits one after another."""
        await self.pass_time(1_000)

    async def pass_time(self, ms: int) -> None:
        """Let so much time pass, with its alarms."""
        await asyncio.sleep(ms / 1000)
        await self.node.shared_documents.poll()

    async def run(self, run_id: str, query: str = "") -> Any:
        """A run as it is."""
        answer = await self.ask("GET", run_path(run_id), query=query, raw_path=run_path(run_id).encode())
        assert answer.status == 200, answer
        return answer.json()

    async def tell(self, run_id: str, what: str, body: Any = None, **more: Any) -> Answer:
        """POST something to a run: `cancel`, `steps/a/complete`."""
        path = f"{run_path(run_id)}/{what}"
        return await self.ask("POST", path, {} if body is None else body, raw_path=path.encode(), **more)


def run_path(run_id: str) -> str:
    """The path of a run, its id encoded whole."""
    return f"/v1/runs/{quote(run_id, safe='')}"


def with_workflows(
    scenario: Callable[[Workflows], Awaitable[T]],
    *,
    env: dict[str, Any] | None = None,
    objects: Sequence[type[DurableObject]] = (),
    tracer: Tracer | None = None,
    calls: Calls | None = None,
    limit_ms: int = _LIMIT_MS,
    **settings: Any,
) -> T:
    """Run `scenario` with a service of its own, in virtual time; `objects` are hosted beside runs.

    `calls` makes the calls outside; without it, nobody answers.
    """

    async def main() -> T:
        store = MemoryStore(LoopClock(asyncio.get_running_loop()))
        given = {"workflow_keys": f"1:{43 * 'A'}", "definition_env": json.dumps(env) if env else "", **settings}
        chosen = WorkflowsSettings(**given)
        service = WorkflowService(chosen, calls or Receivers(UnreachableError()))
        async with core(store, kinds=[*service.kinds, *objects], tracer=tracer) as running:
            asked = Workflows(running, store, service, objects)
            asked.node.tracer = tracer or asked.node.tracer
            await asked.start()
            return await scenario(asked)

    return run_virtual(main, limit_ms=limit_ms)


def served(scenario: Any, *, limit_ms: int = _LIMIT_MS) -> None:
    """Run a scenario with the definition in place."""

    async def main(service: Workflows) -> None:
        assert 201 == (await service.put(REFUND, name="refund")).status
        await scenario(service)

    with_workflows(main, objects=[Shelf], limit_ms=limit_ms)


def code(answer: Any) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status, answer.json()["code"]
