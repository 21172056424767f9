"""The port to JSONata: what is bound is read, every error has its type and place, and every evaluation ends."""

from typing import Any

import pytest

from services.workflows.bounds import EXPRESSION_BYTES_MAX
from services.workflows.expressions import (
    BadExpressionError,
    EvaluationError,
    ExpressionLimitError,
    Limits,
    UndefinedError,
    compile_expression,
    evaluate,
    is_bindable,
)
from shared.errors import TenureError

NOW_MS = 1_700_000_000_000


ORDINARY = Limits()


def value(source: str, limits: Limits = ORDINARY, **bindings: Any) -> Any:
    return evaluate(compile_expression(source), bindings, now_ms=NOW_MS, seed=7, limits=limits)


def test_bound_values_are_read_by_name() -> None:
    """`$states` and assigned variables are ordinary names."""
    assert "a-2" == value("$states.input.name & '-' & $string($total)", states={"input": {"name": "a"}}, total=2)


def test_what_is_read_of_a_value_is_enough() -> None:
    """Members that the expression does not name are not handed over, and are not missed."""
    order = {"lines": [{"price": 2, "name": "x"}, {"price": 3}], "large": ["y"] * 1_000}

    assert 5 == value("$sum($order.lines.price)", order=order)
    assert order == value("$order", order=order)
    assert ["lines", "large"] == value("$keys($order)", order=order)


def test_functions_of_the_language_keep_their_names() -> None:
    """What may be bound is what does not hide a function: `$count` is one, `$total` is none."""
    assert (False, True) == (is_bindable("count"), is_bindable("total"))


def test_error_is_a_function_where_it_is_called_and_else_a_value() -> None:
    """The one name that has both meanings, since that is what an author would write."""
    assert "boom" == value("$error.cause", error={"cause": "boom"})
    with pytest.raises(EvaluationError, match="no"):
        value("$error('no')", error={"cause": "boom"})


def test_null_is_a_value_and_undefined_is_none() -> None:
    """What is not there is an error of its own, since neither JSON nor a variable can hold it."""
    assert value("$x.a", x={"a": None}) is None
    with pytest.raises(UndefinedError):
        value("$x.b", x={"a": None})
    with pytest.raises(UndefinedError):
        value("$nobody")
    with pytest.raises(UndefinedError):
        value("$sum")  # A function is no value outside the language.


def test_an_expression_has_no_clock_and_no_dice_of_its_own() -> None:
    """The same call gives the same value for ever."""
    assert "2023-11-14T22:13:20.000Z" == value("$now()")
    assert value("$random()") == value("$random()")
    assert evaluate(compile_expression("$random()"), {}, now_ms=0, seed=8) != value("$random()")


@pytest.mark.parametrize(
    ("source", "position", "reason"),
    [
        ("1 +", 3, "S0207"),
        ("$x[", 3, "S0203"),
        ("", 0, "S0207"),
        ("'abc", 4, "S0101"),
        ("1 2", 3, "S0201"),
        ("2 + $eval('1')", 4, ""),
        ("'\ud800'", 1, ""),
    ],
)
def test_a_bad_expression_says_where(source: str, position: int, reason: str) -> None:
    """The position counts characters, and the code is the language's."""
    with pytest.raises(BadExpressionError) as caught:
        compile_expression(source)

    assert (position, reason, "expression.bad") == (caught.value.position, caught.value.reason, caught.value.code)


def test_an_expression_is_short() -> None:
    """Longer ones are refused before they are looked at, and are not repeated in the message."""
    with pytest.raises(BadExpressionError, match="at most") as caught:
        compile_expression("1" * (EXPRESSION_BYTES_MAX + 1))

    assert 200 > len(str(caught.value))


def test_deep_nesting_is_refused_when_it_is_compiled() -> None:
    """The parser has a floor of its own."""
    with pytest.raises(BadExpressionError, match="nested too deeply"):
        compile_expression("[" * 3_000 + "]" * 3_000)


@pytest.mark.parametrize(
    ("source", "reason"), [("1 + 'a'", "T2002"), ("$error('no')", "D3137"), ("1/0", "D1001"), ("$nothing(1)", "T1006")]
)
def test_a_failed_evaluation_has_the_code_of_the_language(source: str, reason: str) -> None:
    """What an author looks up is what the JSONata documentation says."""
    with pytest.raises(EvaluationError) as caught:
        value(source)

    assert (reason, "expression.failed") == (caught.value.reason, caught.value.code)
    assert isinstance(caught.value, TenureError)


@pytest.mark.parametrize(
    ("source", "limits", "limit"),
    [
        ("($f := function(){$f()}; $f())", ORDINARY, "steps"),
        ("($f := function($n){1 + $f($n)}; $f(1))", ORDINARY, "depth"),
        ("$sum([1..1000000])", ORDINARY, "size"),
        ("$pad('', 200000, 'x')", ORDINARY, "size"),
        ("[1..40000].('abc')", ORDINARY, "size"),
        ("$match('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab', /(a+)+$/)", Limits(time_ms=20), "time"),
    ],
)
def test_an_endless_evaluation_ends(source: str, limits: Limits, limit: str) -> None:
    """Recursion, growth and patterns that backtrack are stopped, and the error says by which limit."""
    with pytest.raises(ExpressionLimitError) as caught:
        value(source, limits)

    assert (limit, "expression.limit") == (caught.value.limit, caught.value.code)


def test_a_value_that_is_nested_too_deeply_is_no_document() -> None:
    """What cannot be handed over is an error of the evaluation, not of the program."""
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]

    with pytest.raises(EvaluationError, match="1000 levels"):
        value("$x", x=deep)
