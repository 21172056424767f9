"""The inbox: what people are asked. Answers go to the step of the run: complete, claim, assign."""

from typing import Annotated

from litestar import get
from litestar.params import FromQuery, QueryParameter

from services.workflows.inbox import EVERYBODY, Asked, InboxEntry, read_inbox
from services.workflows.routes.access import READ, TheRuns
from services.workflows.schemas import InboxItem, InboxList
from shared.errors import InvalidInputError
from shared.http.auth import Caller, require
from shared.http.cursors import PageCursor, PageLimit, read_cursor, written_cursor
from shared.objects.errors import DeadlineExceededError

DueBefore = Annotated[
    int | None, QueryParameter(ge=0, description="Unix ms: only what has to be answered before then.")
]


@get("/v1/inbox", guards=[require(READ)], problems=(DeadlineExceededError,), tags=["inbox"])
async def get_inbox(
    *,
    credential: Caller,
    runs: TheRuns,
    user: FromQuery[str | None] = None,
    group: FromQuery[str | None] = None,
    due_before: DueBefore = None,
    cursor: PageCursor = None,
    limit: PageLimit = 100,
) -> InboxList:
    """What a user, a group or everybody is asked: the most urgent first. A page may be short although there is more."""
    if user is not None and group is not None:
        raise InvalidInputError("An inbox is that of a user or of a group", "query.group")
    index, value = ("user", user) if user is not None else ("group", group)
    if value is None:
        index, value = EVERYBODY, EVERYBODY
    after = read_cursor(cursor, InboxEntry.kind, credential.tenant)
    page = await read_inbox(runs.host, credential.tenant, index, value, after=after, limit=limit)
    urgent = [one for one in page.asked if due_before is None or _due_ms(one) < due_before]
    passed = due_before is not None and page.after is not None and page.after.sort_ms >= due_before
    more = None if page.after is None or passed else written_cursor(page.after)
    return InboxList(items=[_item(one) for one in urgent], next_cursor=more)


def _due_ms(asked: Asked) -> float:
    return float("inf") if asked.shown.due_ms is None else asked.shown.due_ms


def _item(asked: Asked) -> InboxItem:
    return InboxItem(
        run=asked.run,
        definition=asked.definition,
        step=asked.shown.path,
        serial=asked.shown.serial,
        title=asked.shown.title,
        description=asked.shown.description,
        assign=asked.shown.assign,
        outcomes=list(asked.shown.outcomes),
        claimed_by=asked.activity.claimed_by,
        since_ms=asked.activity.entered_ms,
        due_ms=asked.shown.due_ms,
    )


HANDLERS = (get_inbox,)
