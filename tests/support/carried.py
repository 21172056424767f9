"""Runs whose errands are carried out, in virtual time: objects that they call, children, and what each object heard."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from services.workflows.book import DefinitionBook
from services.workflows.carrier import Carrier
from services.workflows.definition import read_yaml
from services.workflows.desk import offer_task, recall_task
from services.workflows.errands import Report
from services.workflows.inbox import InboxEntry, show_wait, take_away_wait
from services.workflows.installation import Installation
from services.workflows.intents import AskFor, CallObject, SendHttp, SendTask, StartChild
from services.workflows.operation import Operation
from services.workflows.outside import HttpSender
from services.workflows.queue import TaskQueue
from services.workflows.run import WorkflowRun, hosted
from services.workflows.schedule import Hosting, scheduled
from services.workflows.sending import ChildSender, ObjectSender, recall_child, report_end
from shared.objects.config import Document, Documents
from shared.objects.errors import DomainError
from shared.objects.handler import DurableObject, public
from shared.objects.published import published
from shared.outbound.client import Calls
from shared.outbound.credentials import Secrets
from shared.outbound.errors import UnreachableError
from tests.support.receivers import Receivers, fixed_callbacks


class SoldOutError(DomainError):
    """Nothing is left."""

    code = "sold_out"


class Shelf(DurableObject):
    """Goods on a shelf. It says how often it was really taken from."""

    kind = "shelf"

    @public
    def take(self, count: int) -> int:
        """Take so many; what is left of ten."""
        left: int = self.storage.get("left", int, default=10) - count
        if left < 0:
            raise SoldOutError(f"{left} are missing")
        self.storage.put("left", left)
        return left

    @public
    def put_back(self, count: int) -> int:
        """Put so many back; what is there then."""
        left: int = self.storage.get("left", int, default=10) + count
        self.storage.put("left", left)
        return left

    @public
    def broken(self) -> None:
        """Fail without a reason."""
        raise ValueError("no")


class Installed:
    """A kind of runs with its carrier; `definitions` are what children are started from."""

    def __init__(
        self,
        definitions: Mapping[str, str] | None = None,
        env: dict[str, Any] | None = None,
        objects: Sequence[type[DurableObject]] = (),
        calls: Calls | None = None,
    ) -> None:
        kinds: list[type[DurableObject]] = [Shelf, *objects]
        documents = SimpleNamespace(subscribe=lambda _, listener: self._tell(listener, definitions or {}))
        self.book = book = DefinitionBook(cast("Documents", documents))
        self.carrier = Carrier({CallObject, SendHttp, StartChild, SendTask, AskFor, Report})
        calling = HttpSender(
            calls or Receivers(UnreachableError()), Secrets(""), fixed_callbacks(), public_url="https://flows.example"
        )
        self.carrier.begin(
            {
                CallObject: ObjectSender([published(cls) for cls in kinds]),
                SendHttp: calling,
                StartChild: ChildSender(book),
                SendTask: offer_task,
                AskFor: show_wait,
                Report: report_end,
            },
            recalls={StartChild: recall_child, SendTask: recall_task, AskFor: take_away_wait},
        )
        installation = Installation(env=env or {}, carried=self.carrier.carried, wake=self.carrier.wake)
        schedules = scheduled(Hosting(book.definition))
        self.kinds: list[type[DurableObject]] = [
            hosted(installation),
            schedules,
            Operation,
            TaskQueue,
            InboxEntry,
            *kinds,
        ]

    @staticmethod
    def _tell(listener: Any, definitions: Mapping[str, str]) -> None:
        for name, text in definitions.items():
            stored = msgspec.json.encode(read_yaml(text).tree).decode()
            body = msgspec.json.encode({"text": stored, "source": text, "media_type": "application/yaml"})
            document = Document(kind="definition", tenant="acme", name=f"{name}/1", version=1, body=body, changed_ms=0)
            listener("acme", f"{name}/1", document)


__all__ = ["Installed", "Shelf", "WorkflowRun"]
