"""Every error becomes one form of document, and what a program needs is in it."""

import json
from typing import Any, ClassVar

import pytest

from shared.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
    TenureError,
    UnauthenticatedError,
)
from shared.http.errors import BodyTimeoutError, HeadersTooLargeError, MethodNotAllowedError, UnsupportedMediaTypeError
from shared.http.problem import ProblemTable, Row, problem_response
from shared.objects.config import VersionMismatchError
from shared.objects.errors import (
    CallCycleError,
    CommitFailedError,
    DeadlineExceededError,
    DomainError,
    HandlerError,
    NoRoomError,
    OutcomeUnknownError,
    OverloadedError,
    TooLargeError,
    UnavailableError,
)
from shared.storage.interface import StoreAwayError, StoreFullError, StoreInDoubtError

ERRORS = [
    (InvalidInputError("no", "$.a"), 400, "invalid_input"),
    (UnauthenticatedError(), 401, "unauthenticated"),
    (ForbiddenError("limits:read"), 403, "forbidden"),
    (NotFoundError("policy"), 404, "not_found"),
    (MethodNotAllowedError("GET"), 405, "method_not_allowed"),
    (BodyTimeoutError(15_000), 408, "body_timeout"),
    (ConflictError("no"), 409, "conflict"),
    (DomainError("no"), 409, "domain_error"),
    (PreconditionFailedError("no"), 412, "precondition_failed"),
    (VersionMismatchError(3), 412, "precondition_failed"),
    (TooLargeError("It", size=3, size_max=2), 413, "too_large"),
    (UnsupportedMediaTypeError("no"), 415, "unsupported_media_type"),
    (HeadersTooLargeError(fields_max=1, bytes_max=2), 431, "headers_too_large"),
    (CallCycleError(["a", "b"]), 500, "call_cycle"),
    (HandlerError("Limiter", "check"), 500, "handler_failed"),
    (ValueError("secret=hunter2"), 500, "internal"),
    (RefusedError("no", retry_after_ms=5), 503, "refused"),
    (OverloadedError("no", retry_after_ms=5), 503, "overloaded"),
    (UnavailableError("no", retry_after_ms=5), 503, "unavailable"),
    (OutcomeUnknownError(), 503, "outcome_unknown"),
    (CommitFailedError("no"), 503, "commit_failed"),
    (NoRoomError(), 507, "insufficient_storage"),
    (StoreFullError("no"), 507, "insufficient_storage"),
    (StoreAwayError("no"), 503, "store"),
    (StoreInDoubtError("no"), 503, "store"),
    (DeadlineExceededError(started=False), 504, "deadline_exceeded"),
]


class QuotaError(RefusedError):
    """An error of some service."""

    code: ClassVar[str] = "quota"


def respond(error: BaseException, **kwargs: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, header fields by name, and the document."""
    status, headers, body = problem_response(error, **kwargs)
    return status, {name.decode(): value.decode() for name, value in headers}, json.loads(body)


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: str(type(value).__name__))
def test_every_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    """Status, type, title, detail and code are there, agree with each other, and are what the table says."""
    seen, headers, document = respond(error)
    assert (status, status, code) == (seen, document["status"], document["code"])
    assert document["type"] == f"urn:tenure:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert headers["content-type"] == "application/problem+json"


def test_the_length_is_that_of_the_body() -> None:
    """Bare ASGI can send the answer as it is."""
    _, headers, body = problem_response(NotFoundError("thing"))
    assert dict(headers)[b"content-length"] == str(len(body)).encode()


@pytest.mark.parametrize("error", [ValueError("secret=1"), HandlerError("secret=1", "m"), CallCycleError(["secret=1"])])
def test_a_fault_does_not_tell_its_message(error: Exception) -> None:
    """L-04: what went wrong inside stands in the log and not in the answer."""
    status, _, document = respond(error, request_id="r1")
    assert status == 500
    assert "secret" not in json.dumps(document)
    assert document["request_id"] == "r1"


def test_bad_input_says_where() -> None:
    """The place is a member of its own, not a part of the sentence."""
    _, _, document = respond(InvalidInputError("Expected `int`, got `str`", "$.cost"))
    assert ("$.cost", "Expected `int`, got `str`") == (document["where"], document["detail"])


def test_an_unknown_place_is_left_out() -> None:
    """Members without a value do not appear."""
    assert "where" not in respond(InvalidInputError("no"))[2]


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")])
def test_a_refusal_says_when_to_ask_again(retry_after_ms: int, seconds: str) -> None:
    """Milliseconds exactly in the document, whole seconds rounded up and never 0 in the header."""
    _, headers, document = respond(OverloadedError("no", retry_after_ms=retry_after_ms))
    assert (seconds, max(1, retry_after_ms)) == (headers["retry-after"], document["retry_after_ms"])


@pytest.mark.parametrize("error", [error for error, status, _ in ERRORS if status == 503])
def test_every_503_says_when_to_ask_again(error: Exception) -> None:
    """Also where the error itself does not know."""
    _, headers, document = respond(error)
    assert int(headers["retry-after"]) >= 1
    assert document["retry_after_ms"] >= 1


def test_what_became_of_the_request_is_told() -> None:
    """Unknown is told apart from surely not started."""
    assert respond(OutcomeUnknownError())[2]["outcome"] == "unknown"
    assert respond(UnavailableError("no", retry_after_ms=1))[2]["started"] is False
    assert respond(DeadlineExceededError(started=True))[2]["started"] is True
    assert "started" not in respond(OutcomeUnknownError())[2]


def test_credentials_are_asked_for_as_rfc_6750_says() -> None:
    """401 names the scheme, 403 the scope; 405 names the methods."""
    assert respond(UnauthenticatedError())[1]["www-authenticate"] == 'Bearer realm="tenure"'
    assert 'scope="limits:read"' in respond(ForbiddenError("limits:read"))[1]["www-authenticate"]
    assert respond(MethodNotAllowedError("GET, PUT"))[1]["allow"] == "GET, PUT"


def test_ids_are_told_where_there_are_any() -> None:
    """An empty id is left out."""
    document = respond(NotFoundError("thing"), request_id="r1", trace_id="t1")[2]
    assert ("r1", "t1") == (document["request_id"], document["trace_id"])
    assert not {"request_id", "trace_id"} & respond(NotFoundError("thing"))[2].keys()


def test_a_service_adds_rows_for_itself_alone() -> None:
    """An error of a service has the service's row in its table, and its ancestor's in any other."""
    table = ProblemTable({QuotaError: Row(429, "Quota used up")})
    error = QuotaError("no", retry_after_ms=2500)
    status, headers, document = respond(error, table=table)
    assert (429, "3", "quota", "Quota used up") == (status, headers["retry-after"], document["code"], document["title"])
    assert respond(error)[0] == 503


def test_text_from_outside_cannot_become_a_header() -> None:
    """H-13: line ends and other control characters stay inside the JSON."""
    text = "a\r\nset-cookie: x\x00\u2028ä"
    status, headers, body = problem_response(InvalidInputError(text, text))
    assert status == 400
    assert not [value for _, value in headers if b"set-cookie" in value]
    assert b"\r" not in body
    assert json.loads(body)["detail"] == text


def test_the_nearest_ancestor_counts() -> None:
    """A subclass nobody has listed is told as what it is a kind of."""

    class MissingTeaError(NotFoundError):
        code: ClassVar[str] = "no_tea"

    status, _, document = respond(MissingTeaError("tea"))
    assert (404, "no_tea", "There is no tea.") == (status, document["code"], document["detail"])
    assert issubclass(MissingTeaError, TenureError)
