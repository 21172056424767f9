"""The comparison with the Amazon States Language leaves nothing of it out, and what it says of functions is so."""

import re

import pytest

from services.workflows.expressions import ExpressionError, compile_expression, evaluate
from tests.support.launching import ROOT

PAGE = (ROOT / "docs/explanation/states-language.md").read_text()
NAMED = set(re.findall(r"[A-Za-z.]+", " ".join(re.findall(r"`([^`]*)`", PAGE))))

_TYPES = ("Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map")
_FIELDS = """
    StartAt States Comment Version TimeoutSeconds QueryLanguage
    Next End Assign Output Arguments Retry Catch HeartbeatSeconds Credentials Resource
    Choices Condition Default Seconds Timestamp Branches Error Cause
    Items ItemSelector ItemProcessor ProcessorConfig MaxConcurrency ToleratedFailureCount ToleratedFailurePercentage
    ItemReader ItemBatcher ResultWriter Label
    ErrorEquals IntervalSeconds MaxAttempts BackoffRate MaxDelaySeconds JitterStrategy
    InputPath OutputPath ResultPath Parameters ResultSelector
"""
_ERRORS = """
    ALL Timeout HeartbeatTimeout TaskFailed Permissions Runtime NoChoiceMatched QueryEvaluationError DataLimitExceeded
    BranchFailed ExceedToleratedFailureThreshold ItemReaderFailed ResultWriterFailed IntrinsicFailure
    ParameterPathFailure ResultPathMatchFailure
"""
_ADDED = ("$partition([1], 1)", "$range(1, 2, 1)", "$hash('a', 'MD5')", "$uuid()", "$parse('{}')", "$eval('1')")


@pytest.mark.parametrize("name", [*_TYPES, *_FIELDS.split(), *(f"States.{error}" for error in _ERRORS.split())])
def test_each_type_field_and_error_is_on_the_page(name: str) -> None:
    """As the language's specification lists them, those of JSONPath as far as they are fields of every state."""
    assert name in NAMED


@pytest.mark.parametrize("source", _ADDED)
def test_functions_that_are_not_there_are_not(source: str) -> None:
    """Those that the language adds to JSONata, and the one that it leaves out."""
    assert source.partition("(")[0] in PAGE
    with pytest.raises(ExpressionError):
        evaluate(compile_expression(source), {}, now_ms=0)
