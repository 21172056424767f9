"""Turns an action of a definition into a call with values, ready to be sent and kept until it is answered."""

from hashlib import blake2b
from typing import Any

from services.workflows.bounds import RUN_ID_BYTES_MAX
from services.workflows.intents import CallObject, SendHttp, SendTask, StartChild
from services.workflows.program import Action, Child, Http, Secret, Task
from services.workflows.values import StepError, Values
from shared.bounds import REQUEST_KEY_BYTES_MAX


def call_of(action: Action, values: Values, *, lenient: bool = False, **given: Any) -> SendTask | SendHttp | CallObject:
    """The call. `given` are the fields that all calls have; `lenient` takes null for what is undefined.

    Raises:
        StepError: a value cannot be had.
    """
    if isinstance(action, Task):
        task_input = action.input.value if action.input else values.bindings["states"]["input"]
        return SendTask(
            queue=values.text(action.queue),
            input=values.render(task_input, lenient=lenient) if action.input else task_input,
            **given,
        )
    if isinstance(action, Http):
        return _http(action, values, lenient=lenient, **given)
    return CallObject(
        kind=values.text(action.kind),
        name=values.text(action.name),
        method=action.call,
        args=values.render(action.args, lenient=lenient),
        **given,
    )


def child_of(child: Child, values: Values, *, run_id: str, **given: Any) -> StartChild:
    """The start of a child. Without an id of its own it has one made of this run's and the step's key.

    Raises:
        StepError: a value cannot be had.
    """
    name = values.text(child.id) if child.id is not None else f"{run_id}/{given['key']}"
    if len(name.encode()) > RUN_ID_BYTES_MAX:
        raise StepError("child.bad_id", f"A run id has at most {RUN_ID_BYTES_MAX} bytes")
    return StartChild(
        workflow=child.workflow,
        version=child.version,
        id=name,
        input=values.template(child.input, values.bindings["states"]["input"]),
        **given,
    )


def request_key(run_id: str, key: str) -> str:
    """The key of what a step sends: the run, and the step with its visit; as a digest where that is too long."""
    whole = f"{run_id}/{key}"
    if len(whole.encode()) <= REQUEST_KEY_BYTES_MAX:
        return whole
    return blake2b(whole.encode(), digest_size=32).hexdigest()


def _http(http: Http, values: Values, *, lenient: bool, **given: Any) -> SendHttp:
    return SendHttp(
        method=http.method,
        url=values.text(http.url),
        headers={
            name: value if isinstance(value, Secret) else values.text(value) for name, value in http.headers.items()
        },
        body=values.render(http.body.value, lenient=lenient) if http.body else None,
        has_body=http.body is not None,
        callback=http.callback,
        **given,
    )
