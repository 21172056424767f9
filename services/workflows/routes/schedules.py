"""Schedules: put, look at, list, pause, resume, trigger, fill in, delete; and what a timetable means."""

from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from services.workflows.beginning import Beginning, attributes_of, program_of
from services.workflows.book import DefinitionBook, UnknownDefinitionError
from services.workflows.bounds import PREVIEW_TIMES_MAX, SCHEDULE_ATTRIBUTES, SCHEDULE_ID_BYTES_MAX
from services.workflows.draft import Surroundings
from services.workflows.machine import start
from services.workflows.paths import name_in, run_path
from services.workflows.refusals import PayloadTooLargeError, WrongAnswerError
from services.workflows.routes.access import READ, WRITE, TheRuns
from services.workflows.schedule import LISTED, Schedule, ScheduleLook
from services.workflows.schedule_schemas import (
    BackfillBegun,
    BackfillSchedule,
    FiringView,
    NominalTime,
    NominalTimes,
    PauseSchedule,
    PreviewTimetable,
    PutSchedule,
    ResumeSchedule,
    ScheduleList,
    ScheduleView,
    Triggered,
    TriggerSchedule,
)
from services.workflows.scheduling import Plan, check_plan
from services.workflows.timetable import Timetable, check_timetable, local, preview
from shared.bounds import MOMENT_MS_MAX
from shared.errors import ConflictError, InvalidInputError
from shared.http.auth import Caller, require
from shared.http.calls import KEYED_PROBLEMS, AnyRequest
from shared.http.cursors import PageCursor, PageLimit
from shared.objects.address import Address

Book = NamedDependency[DefinitionBook]
Count = Annotated[int, QueryParameter(ge=1, le=PREVIEW_TIMES_MAX, description="How many times.")]
After = Annotated[int | None, QueryParameter(ge=0, le=MOMENT_MS_MAX, description="Unix ms; without it, now.")]
_SCHEDULE = "/v1/schedules/{schedule_id:str}"
_CREATED = {201: ResponseSpec(data_container=ScheduleView, description="It is new.", generate_examples=False)}
_SHOWN = 5


@put(
    _SCHEDULE,
    guards=[require(WRITE)],
    problems=(*KEYED_PROBLEMS, UnknownDefinitionError, WrongAnswerError, PayloadTooLargeError),
    responses=_CREATED,
    response_description="It was there, and is so from now on.",
    durable=True,
    of_object=True,
    tags=["schedules"],
)
async def put_schedule(
    *,
    credential: Caller,
    runs: TheRuns,
    book: Book,
    schedule_id: FromPath[str],
    data: JSONBody[PutSchedule],
    request: AnyRequest,
) -> Response[ScheduleView]:
    """Set what is started when, from now on; a paused schedule stays so unless it is said. A start is tried first."""
    schedule = _address(credential, schedule_id)
    plan = Plan(**{field: getattr(data, field) for field in Plan.__struct_fields__})
    _check(plan, book, credential.tenant, now_ms=runs.host.store_clock.now_ms())
    created = await runs.call(request, schedule, Schedule.put, plan, data.paused)
    view = _view(schedule, await runs.call(request, schedule, Schedule.look))
    return Response(view, status_code=201 if created else 200)


@get(_SCHEDULE, guards=[require(READ)], of_object=True, tags=["schedules"])
async def get_schedule(
    credential: Caller, runs: TheRuns, schedule_id: FromPath[str], request: AnyRequest
) -> ScheduleView:
    """A schedule: what it starts when, what has become of its times, and what comes next."""
    schedule = _address(credential, schedule_id)
    return _view(schedule, await runs.call(request, schedule, Schedule.look))


@get("/v1/schedules", guards=[require(READ)], tags=["schedules"])
async def list_schedules(
    credential: Caller, runs: TheRuns, request: AnyRequest, cursor: PageCursor = None, limit: PageLimit = 100
) -> ScheduleList:
    """Schedules, oldest first."""
    look, tenant = Schedule.look_if_there, credential.tenant
    found, after = await runs.listed(request, Schedule, look, index=LISTED, tenant=tenant, cursor=cursor, limit=limit)
    return ScheduleList(schedules=[_view(*each) for each in found], next_cursor=after)


@delete(_SCHEDULE, guards=[require(WRITE)], problems=KEYED_PROBLEMS, durable=True, of_object=True, tags=["schedules"])
async def delete_schedule(credential: Caller, runs: TheRuns, schedule_id: FromPath[str], request: AnyRequest) -> None:
    """Forget a schedule. Runs that it has started go on."""
    await runs.call(request, _address(credential, schedule_id), Schedule.delete)


@post(
    _SCHEDULE + "/pause",
    status_code=200,
    guards=[require(WRITE)],
    problems=KEYED_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["schedules"],
)
async def pause_schedule(
    credential: Caller,
    runs: TheRuns,
    schedule_id: FromPath[str],
    data: JSONBody[PauseSchedule],
    request: AnyRequest,
) -> ScheduleView:
    """Fire nothing until it is resumed, but what is triggered. Runs that are open go on."""
    schedule = _address(credential, schedule_id)
    await runs.call(request, schedule, Schedule.pause, data.note)
    return _view(schedule, await runs.call(request, schedule, Schedule.look))


@post(
    _SCHEDULE + "/resume",
    status_code=200,
    guards=[require(WRITE)],
    problems=KEYED_PROBLEMS,
    durable=True,
    of_object=True,
    tags=["schedules"],
)
async def resume_schedule(
    credential: Caller,
    runs: TheRuns,
    schedule_id: FromPath[str],
    data: JSONBody[ResumeSchedule],
    request: AnyRequest,
) -> ScheduleView:
    """Go on from now, or, to catch up, from where it was paused, as after an outage."""
    schedule = _address(credential, schedule_id)
    await runs.call(request, schedule, Schedule.resume, data.go_on_from == "pause")
    return _view(schedule, await runs.call(request, schedule, Schedule.look))


@post(
    _SCHEDULE + "/trigger",
    status_code=202,
    guards=[require(WRITE)],
    problems=(*KEYED_PROBLEMS, ConflictError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["schedules"],
)
async def trigger_schedule(
    credential: Caller,
    runs: TheRuns,
    schedule_id: FromPath[str],
    data: JSONBody[TriggerSchedule],
    request: AnyRequest,
) -> Triggered:
    """Fire once, at once, though it be paused. What becomes of it is among its firings."""
    schedule = _address(credential, schedule_id)
    run_id: str = await runs.call_once(request, schedule, Schedule.trigger, data.overlap)
    return Triggered(run=run_id, location=run_path(run_id))


@post(
    _SCHEDULE + "/backfill",
    status_code=202,
    guards=[require(WRITE)],
    problems=(*KEYED_PROBLEMS, ConflictError),
    durable=True,
    of_object=True,
    repeatable=True,
    tags=["schedules"],
)
async def backfill_schedule(
    credential: Caller,
    runs: TheRuns,
    schedule_id: FromPath[str],
    data: JSONBody[BackfillSchedule],
    request: AnyRequest,
) -> BackfillBegun:
    """Fire the nominal times of a stretch of the past, both ends included. Those that have a run keep it."""
    if data.from_ms > data.to_ms:
        raise InvalidInputError("The end is before the beginning", "$.to_ms")
    schedule = _address(credential, schedule_id)
    times = await runs.call_once(request, schedule, Schedule.backfill, data.from_ms, data.to_ms, data.overlap)
    return BackfillBegun(times=times)


@get(_SCHEDULE + "/next", guards=[require(READ)], of_object=True, tags=["schedules"])
async def get_next_times(
    *,
    credential: Caller,
    runs: TheRuns,
    schedule_id: FromPath[str],
    request: AnyRequest,
    after: After = None,
    n: Count = 10,
) -> NominalTimes:
    """The next nominal times of a schedule, in its own zone, whether or not it is paused."""
    look: ScheduleLook = await runs.call(request, _address(credential, schedule_id), Schedule.look)
    return _times(look.plan.timetable, runs.host.store_clock.now_ms() if after is None else after, n)


@post("/v1/timetables/preview", status_code=200, guards=[require(READ)], tags=["schedules"], sync_to_thread=False)
def preview_timetable(runs: TheRuns, data: JSONBody[PreviewTimetable]) -> NominalTimes:
    """The next nominal times of a timetable that no schedule has yet."""
    check_timetable(data.timetable)
    after_ms = runs.host.store_clock.now_ms() if data.after_ms is None else data.after_ms
    return _times(data.timetable, after_ms, data.n)


def _address(credential: Caller, schedule_id: str) -> Address:
    """The schedule that the path names.

    Raises:
        InvalidInputError: the segment is no name, or too long a one.
    """
    name = name_in(schedule_id, "schedule_id")
    if len(name.encode()) > SCHEDULE_ID_BYTES_MAX:
        raise InvalidInputError(f"The id of a schedule has at most {SCHEDULE_ID_BYTES_MAX} bytes", "path.schedule_id")
    return Address(Schedule.kind, credential.tenant, name)


def _check(plan: Plan, book: DefinitionBook, tenant: str, *, now_ms: int) -> None:
    """Try the start of a run, with what there is now.

    Raises:
        InvalidInputError, UnknownDefinitionError, PayloadTooLargeError: it would be refused.
    """
    check_plan(plan)
    definition = book.definition(tenant, plan.definition, plan.version)
    program = program_of(definition.text, definition.version)
    attributes = plan.attributes | dict.fromkeys(SCHEDULE_ATTRIBUTES, "")
    beginning = Beginning(text="", version=definition.version, input=plan.input, attributes=attributes)
    attributes_of(program, beginning, now_ms=now_ms)
    start(program, run_id="schedule", run_input=plan.input, around=Surroundings(now_ms=now_ms))


def _view(schedule: Address, look: ScheduleLook) -> ScheduleView:
    plan, standing = look.plan, look.standing
    after_ms = None if look.next_ms is None else look.next_ms - 1
    return ScheduleView(
        id=schedule.name,
        **{field: getattr(plan, field) for field in Plan.__struct_fields__},
        paused=standing.paused,
        note=standing.note,
        next=[] if after_ms is None else _times(plan.timetable, after_ms, _SHOWN).times,
        running=list(standing.running),
        waiting=[one.nominal_ms for one in (*standing.due, *standing.waiting)],
        firings=[FiringView.of(one) for one in standing.recent],
        counts=dict(standing.counts),
        created_ms=standing.created_ms,
        changed_ms=standing.changed_ms,
    )


def _times(timetable: Timetable, after_ms: int, count: int) -> NominalTimes:
    found = preview(timetable, after_ms, count)
    return NominalTimes(times=[NominalTime(at_ms=one, local=local(one, timetable.timezone)) for one in found])


HANDLERS = (
    put_schedule,
    get_schedule,
    list_schedules,
    delete_schedule,
    pause_schedule,
    resume_schedule,
    trigger_schedule,
    backfill_schedule,
    get_next_times,
    preview_timetable,
)
