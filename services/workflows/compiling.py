"""A valid definition into the intermediate form. What is wrong with a definition was said before; nothing here fails.

Defaults that the Amazon States Language has are its own. Those that it has not: `task`, `http` and `object` steps
without a `retry` are retried when nobody knows what became of them or the other side asked for patience, and an `http`
or `object` call has 30 s.
"""

from collections.abc import Mapping
from typing import Any, Literal

from services.workflows.bounds import CALL_TIMEOUT_MS, COMPENSATION_TIMEOUT_MS, ENDED_KEPT_MS
from services.workflows.clauses import METHODS
from services.workflows.durations import duration_ms, moment_ms
from services.workflows.grammar import kinds_of
from services.workflows.program import (
    Action,
    Block,
    Catcher,
    Child,
    Compensation,
    Deadline,
    Escalation,
    Fail,
    Http,
    Map,
    ObjectCall,
    Parallel,
    Pass,
    Program,
    Reminder,
    Retrier,
    Rule,
    Secret,
    Sleep,
    Span,
    Step,
    Succeed,
    Task,
    Template,
    Wait,
)
from services.workflows.shapes import is_expression

Tree = Mapping[str, Any]

UNKNOWN_OUTCOMES = ("timeout", "task.lost", "http.unreachable", "http.no_answer", "object.unreachable")
"""Errors after which nobody knows whether the step happened: what cannot be sent now may have been before a crash."""
UNSURE = (*UNKNOWN_OUTCOMES, "http.bad_answer")
"""Errors after which a step may have had its effect all the same; one whose answer cannot be taken is not repeated."""
RETRY_DEFAULT = Retrier(
    errors=(*UNKNOWN_OUTCOMES, "http.408", "http.425", "http.429", "http.5xx"),
    max_delay_ms=300_000,
    retries_max=8,
    full_jitter=True,
)
_COMPENSATION_RETRY = Retrier(errors=("*",), max_delay_ms=300_000, retries_max=20, full_jitter=True)


class _Defaults:
    """What steps have that do not say otherwise."""

    def __init__(self, tree: Tree) -> None:
        self.on_exhausted: Literal["stall", "fail"] = tree.get("on_exhausted", "stall")
        self.retry = _retry(tree["retry_default"]) if "retry_default" in tree else (RETRY_DEFAULT,)


def compile_program(tree: Tree, *, version: int = 1) -> Program:
    """The program of a definition in which no problem was found. `version` is that of a definition that names none."""
    deadline = tree.get("deadline")
    return Program(
        name=tree["workflow"],
        version=tree.get("version", version),
        root=_block(tree, _Defaults(tree)),
        run_id=tree.get("run_id"),
        attributes=tree.get("attributes", {}),
        input_schema=tree.get("input_schema"),
        deadline=Deadline(after=_span(deadline["after"]), next=deadline.get("next")) if deadline else None,
        kept_ms=duration_ms(tree["retention"]) if "retention" in tree else ENDED_KEPT_MS,
    )


def _block(tree: Tree, defaults: _Defaults) -> Block:
    return Block(start=tree["start"], steps={name: _step(step, defaults) for name, step in tree["steps"].items()})


def _step(tree: Tree, defaults: _Defaults) -> Step:
    (kind,) = kinds_of(dict(tree))
    return Step(
        kind=_KINDS[kind](tree, defaults),
        next=tree.get("next"),
        rules=tuple(_rule(rule) for rule in tree.get("choice", ())),
        default=tree.get("default"),
        assign=tree.get("assign_vars", {}),
        output=_template(tree, "output"),
        retry=_retry(tree["retry"]) if "retry" in tree else _retry_default(kind, defaults),
        catch=tuple(_catcher(catcher) for catcher in tree.get("catch", ())),
        on_exhausted=tree.get("on_exhausted", defaults.on_exhausted),
        timeout=_span(tree["timeout"]) if "timeout" in tree else _timeout_default(kind, tree),
        heartbeat=_span(tree["heartbeat"]) if "heartbeat" in tree else None,
        compensate=_compensation(tree["compensate"]) if "compensate" in tree else None,
        pivot=tree.get("pivot", False),
        visits_max=tree.get("max_visits"),
    )


def _retry_default(kind: str, defaults: _Defaults) -> tuple[Retrier, ...]:
    return defaults.retry if kind in {"task", "http", "object"} else ()


def _timeout_default(kind: str, tree: Tree) -> Span | None:
    if kind == "object" or (kind == "http" and not tree["http"].get("callback")):
        return CALL_TIMEOUT_MS
    return None


def _retry(retriers: list[Tree]) -> tuple[Retrier, ...]:
    return tuple(_retrier(retrier) for retrier in retriers)


def _retrier(tree: Tree) -> Retrier:
    attempts = tree.get("attempts", 3)
    return Retrier(
        errors=tuple(tree["errors"]),
        interval_ms=duration_ms(tree.get("interval", "1s")),
        rate=float(tree.get("rate", 2)),
        max_delay_ms=duration_ms(tree["max_delay"]) if "max_delay" in tree else None,
        retries_max=None if attempts == "unlimited" else attempts,
        full_jitter=tree.get("jitter") == "full",
    )


def _catcher(tree: Tree) -> Catcher:
    return Catcher(
        errors=tuple(tree["errors"]),
        next=tree["next"],
        visits_max=tree.get("max_visits"),
        assign=tree.get("assign_vars", {}),
        output=_template(tree, "output"),
    )


def _rule(tree: Tree) -> Rule:
    return Rule(
        when=tree["when"], next=tree["next"], assign=tree.get("assign_vars", {}), output=_template(tree, "output")
    )


def _compensation(tree: Tree) -> Compensation:
    return Compensation(
        action=_action(tree),
        retry=_retry(tree["retry"]) if "retry" in tree else (_COMPENSATION_RETRY,),
        timeout_ms=duration_ms(tree["timeout"]) if "timeout" in tree else COMPENSATION_TIMEOUT_MS,
    )


def _action(tree: Tree) -> Action:
    if "http" in tree:
        return _http(tree["http"])
    return _object(tree["object"]) if "object" in tree else _task(tree)


def _http(tree: Tree) -> Http:
    (method,) = (method for method in METHODS if method in tree)
    return Http(
        method=method,
        url=tree[method],
        headers={name: _header(value) for name, value in tree.get("headers", {}).items()},
        body=_template(tree, "body"),
        callback=tree.get("callback", False),
    )


def _header(value: Any) -> Any:
    return Secret(secret=value["secret"], prefix=value.get("prefix", "")) if isinstance(value, dict) else value


def _object(tree: Tree) -> ObjectCall:
    return ObjectCall(kind=tree["type"], name=tree["id"], call=tree["call"], args=tree.get("args", {}))


def _task(tree: Tree) -> Task:
    return Task(queue=tree["task"], input=_template(tree, "input"))


def _wait(tree: Tree) -> Wait:
    wait = tree["wait"]
    remind = tree.get("remind")
    return Wait(
        title=wait.get("title", ""),
        description=wait.get("description", ""),
        assign=wait.get("assign", {}),
        outcomes=tuple(wait.get("outcomes", ())),
        result_schema=wait.get("result_schema"),
        others=tuple(wait.get("forbid_same_user_as", ())),
        signal=wait.get("signal", ""),
        remind=_reminder(remind) if remind else None,
        escalate=tuple(_escalation(escalation) for escalation in tree.get("escalate", ())),
    )


def _reminder(tree: Tree) -> Reminder:
    return Reminder(every_ms=duration_ms(tree["every"]), times=tree["max"], http=_http(tree["do"]["http"]))


def _escalation(tree: Tree) -> Escalation:
    return Escalation(
        after_ms=duration_ms(tree["after"]),
        assign=tree["assign"],
        extend_ms=duration_ms(tree["extend"]) if "extend" in tree else 0,
    )


def _sleep_until(tree: Tree) -> Sleep:
    until = tree["sleep_until"]
    return Sleep(until=until if is_expression(until) else moment_ms(until))


def _parallel(tree: Tree, defaults: _Defaults) -> Parallel:
    parallel = tree["parallel"]
    branches = {name: _block(block, defaults) for name, block in parallel["branches"].items()}
    join = parallel.get("join", "all")
    need = join["count"] if isinstance(join, dict) else 1 if join == "any" else len(branches)
    return Parallel(branches=branches, need=need, wait_others=parallel.get("on_failure") == "wait_others")


def _map(tree: Tree, defaults: _Defaults) -> Map:
    mapped = tree["map"]
    tolerate = mapped.get("tolerate", 0)
    return Map(
        items=mapped["items"],
        each=_block(tree["each"], defaults),
        concurrency=mapped.get("concurrency", 0),
        tolerate=0 if isinstance(tolerate, str) else tolerate,
        tolerate_percent=int(tolerate[:-1]) if isinstance(tolerate, str) else 0,
    )


def _child(tree: Tree) -> Child:
    child = tree["child"]
    return Child(
        workflow=child["workflow"], version=child.get("version"), id=child.get("id"), input=_template(tree, "input")
    )


def _fail(tree: Tree) -> Fail:
    fail = tree["fail"]
    return Fail(error=fail["error"], cause=fail.get("cause", ""), compensate_all=tree.get("compensate_all", False))


def _span(value: str) -> Span:
    return value if is_expression(value) else duration_ms(value)


def _template(tree: Tree, name: str) -> Template | None:
    return Template(tree[name]) if name in tree else None


_KINDS: dict[str, Any] = {
    "wait": lambda tree, _: _wait(tree),
    "http": lambda tree, _: _http(tree["http"]),
    "task": lambda tree, _: _task(tree),
    "object": lambda tree, _: _object(tree["object"]),
    "sleep": lambda tree, _: Sleep(span=_span(tree["sleep"])),
    "sleep_until": lambda tree, _: _sleep_until(tree),
    "parallel": _parallel,
    "map": _map,
    "child": lambda tree, _: _child(tree),
    "pass": lambda tree, _: Pass(result=_template(tree, "pass")),
    "choice": lambda _tree, _: Pass(),
    "fail": lambda tree, _: _fail(tree),
    "succeed": lambda tree, _: Succeed(output=Template(tree["succeed"])),
}
