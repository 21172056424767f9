"""Who carries out which errand: calls of objects, child runs, reports to the run that waits for one.

Each sends what it is given under a key that is the same for every sending of one visit of a step, so the other side
can tell a repeat. An error of the other side is an answer, and the machine decides what follows; a sender raises only
where nobody can say yet.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.workflows.beginning import Beginning
from services.workflows.book import DefinitionBook, UnknownDefinitionError
from services.workflows.calling import request_key
from services.workflows.errands import Parent, Report
from services.workflows.events import Completed, Failed
from services.workflows.intents import CallObject, StartChild
from services.workflows.problems import DefinitionError
from services.workflows.refusals import PayloadTooLargeError, RunExistsError, RunTooLargeError
from services.workflows.run import WorkflowRun
from services.workflows.schedule import Schedule
from shared.errors import InvalidInputError, TenureError
from shared.objects.address import Address
from shared.objects.errors import DomainError, HandlerError, KeyReusedError, TooLargeError
from shared.objects.host import Host
from shared.objects.once import KeyedRequest
from shared.objects.published import PublicMethod, PublishedKind


class ObjectSender:
    """Calls public methods of the objects that this node hosts beside runs. Each call of one key takes effect once."""

    def __init__(self, kinds: Sequence[PublishedKind]) -> None:
        self._methods = {(kind.name, method.name): method for kind in kinds for method in kind.methods}
        self._native = {kind.name for kind in kinds if kind.cls.native}

    async def __call__(self, host: Host, run: Address, call: CallObject) -> Completed | Failed:
        """Make the call; what it returned, or why it did not."""
        method = self._methods.get((call.kind, call.method))
        if method is None:
            return _failed(
                call, "object.unknown", f"No object of kind {call.kind!r} shows a method {call.method!r} here"
            )
        try:
            result = await self._call(host, run, call, method)
        except (msgspec.ValidationError, InvalidInputError) as error:
            return _failed(call, "object.bad_arguments", str(error))
        except DomainError as error:
            return _failed(call, f"object.{error.code}", str(error))
        except (HandlerError, KeyReusedError, TooLargeError) as error:
            return _failed(call, "object.failed", str(error))
        except TenureError as error:
            return _failed(call, "object.unreachable", str(error))
        return Completed(path=call.path, serial=call.serial, result=result)

    async def _call(self, host: Host, run: Address, call: CallObject, method: PublicMethod) -> Any:
        values = msgspec.structs.astuple(msgspec.convert(call.args, method.parameters))
        repeatable = not method.readonly and call.kind not in self._native
        once = KeyedRequest(request_key(run.name, call.key), method.function, values) if repeatable else None
        address = Address(call.kind, run.tenant, call.name)
        reply = await host.call(address, method.function, *values, once=once)
        return msgspec.to_builtins(reply, str_keys=True)


class ChildSender:
    """Starts child runs. Of one id there is one, so a start that is made again starts nothing."""

    def __init__(self, book: DefinitionBook) -> None:
        self._book = book

    async def __call__(self, host: Host, run: Address, call: StartChild) -> Failed | None:
        """Start the child; its end is told by its own report.

        Raises:
            UnavailableError: that of the attempt before has not ended yet; this one starts it later.
        """
        try:
            definition = self._book.definition(run.tenant, call.workflow, call.version)
            beginning = Beginning(
                text=definition.text, version=definition.version, input=call.input, parent=_parent(run, call)
            )
            await host.call(Address(WorkflowRun.kind, run.tenant, call.id), WorkflowRun.start_child, beginning)
        except UnknownDefinitionError as error:
            return _failed(call, "child.unknown", str(error))
        except RunExistsError as error:
            return _failed(call, "child.exists", str(error))
        except (InvalidInputError, DefinitionError, PayloadTooLargeError, RunTooLargeError) as error:
            return _failed(call, "child.bad_input", str(error))
        return None


async def recall_child(host: Host, run: Address, call: StartChild) -> None:
    """Cancel the child that the run has given up."""
    await host.call(Address(WorkflowRun.kind, run.tenant, call.id), WorkflowRun.recall, _parent(run, call))


async def report_end(host: Host, run: Address, report: Report) -> None:
    """Tell the run, or the schedule, that waits for this one. One that does not any more, or is gone, need not know."""
    if report.to.schedule:
        await host.call(Address(Schedule.kind, run.tenant, report.to.schedule), Schedule.ended, run.name)
        return
    parent = Address(WorkflowRun.kind, run.tenant, report.to.run)
    await host.call(parent, WorkflowRun.settle, 0, report.ended)


def _parent(run: Address, call: StartChild) -> Parent:
    return Parent(run=run.name, path=call.path, serial=call.serial, key=call.key)


def _failed(call: CallObject | StartChild, error: str, cause: str) -> Failed:
    return Failed(path=call.path, serial=call.serial, error=error, cause=cause)
