"""The official suite of JSONata, run against the port: what passes goes on passing, and what does not is known by name."""

import json
from pathlib import Path
from typing import Any

from services.workflows.expressions import (
    BadExpressionError,
    EvaluationError,
    ExpressionLimitError,
    Limits,
    UndefinedError,
    compile_expression,
    evaluate,
)

DATA = Path(__file__).parents[2] / "data" / "jsonata"
UNDEFINED = "undefined"
STOPPED = {"code": "U1001"}  # What the suite calls a run that was cut off, for whatever limit.


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


DATASETS = {line["name"]: json.dumps(line["data"]) for line in _lines("datasets.jsonl")}
CASES = _lines("cases.jsonl")


def _expected(case: dict[str, Any]) -> Any:
    if "undefinedResult" in case:
        return UNDEFINED
    if "result" in case:
        return {"result": _plain(case["result"])}
    return {"code": case["error"]["code"] if "error" in case else case["code"]}


def _observed(case: dict[str, Any]) -> Any:
    document = json.dumps(case["data"]) if "data" in case else DATASETS.get(case["dataset"])
    limits = Limits(time_ms=case.get("timelimit", 5_000), depth=case.get("depth", 1_000), steps=2_000_000, items=10**7)
    try:
        compiled = compile_expression(case["expr"])
        value = evaluate(compiled, case.get("bindings") or {}, now_ms=0, limits=limits, document=document)
    except UndefinedError:
        return UNDEFINED
    except ExpressionLimitError:
        return STOPPED
    except (BadExpressionError, EvaluationError) as error:
        return {"code": error.reason}
    return {"result": _plain(value)}


def _plain(value: Any) -> str:
    """The value as text in which 1 is 1.0, as in JavaScript, but not `true`, as in Python."""
    return json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True)


def test_the_suite_deviates_exactly_where_it_is_known_to() -> None:
    """Each of the 1,686 cases has the suite's outcome, or stands in deviations.json with the reason."""
    known = {case for cases in json.loads((DATA / "deviations.json").read_text()).values() for case in cases}

    deviating = {case["id"] for case in CASES if _expected(case) != _observed(case)}

    assert 1_686 == len(CASES)
    assert known == deviating
