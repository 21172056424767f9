"""Errors as HTTP: one table from error class to status, and one form for all of them (RFC 9457).

A problem document says what a program can act on (`code`, `where`, `retry_after_ms`, `outcome`)
and what a person can search for (`request_id`, `trace_id`). A status of 500 never carries the
error's own text: that stands in the log, next to the same request id. Every 429 and 503 says when
to ask again. Nothing here needs Litestar: the guard and the fast lanes answer with it too.

Sources: RFC 9457 (problem details), RFC 9110 10.2.3 (Retry-After), RFC 6750 3 (WWW-Authenticate).
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from shared.bounds import RETRY_AFTER_MS
from shared.errors import (
    BEARER,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
    TenureError,
    UnauthenticatedError,
)
from shared.http.errors import (
    BodyTimeoutError,
    ForeignOriginError,
    HeadersTooLargeError,
    MethodNotAllowedError,
    UnsupportedMediaTypeError,
    UpgradeRequiredError,
)
from shared.objects.errors import (
    CommitFailedError,
    DeadlineExceededError,
    DomainError,
    HandlerError,
    KeyReusedError,
    NoRoomError,
    OutcomeUnknownError,
    OverloadedError,
    QuarantinedError,
    TooLargeError,
    UnavailableError,
)
from shared.objects.ingress import TooManySocketsError
from shared.objects.transactions import TransactionAbortedError, TransactionBusyError
from shared.storage.interface import StoreAwayError, StoreFullError, StoreInDoubtError

MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:tenure:problem:"
"""Followed by the code: the stable `type` of a problem."""

Headers: TypeAlias = list[tuple[bytes, bytes]]


class Row(msgspec.Struct, frozen=True):
    """How an error is told: its status, its title, and which members its document has besides.

    `members` are attributes of the error; `fixed` are the same for every error of the class.
    """

    status: int
    title: str
    members: tuple[str, ...] = ()
    fixed: Mapping[str, str | bool] = {}


Rows: TypeAlias = Mapping[type[TenureError], Row]
"""A table of errors."""

CORE: Rows = {
    InvalidInputError: Row(400, "Invalid input", ("where",)),
    UnauthenticatedError: Row(401, "Authentication required"),
    ForbiddenError: Row(403, "Not allowed", ("scope",)),
    ForeignOriginError: Row(403, "Foreign origin"),
    NotFoundError: Row(404, "Not found"),
    MethodNotAllowedError: Row(405, "Method not allowed"),
    BodyTimeoutError: Row(408, "Request too slow"),
    ConflictError: Row(409, "Conflict"),
    DomainError: Row(409, "Refused by the object"),
    PreconditionFailedError: Row(412, "Precondition failed"),
    TooLargeError: Row(413, "Too large", ("size_max",)),
    UnsupportedMediaTypeError: Row(415, "Unsupported media type"),
    KeyReusedError: Row(422, "Key used for another request", (), {"started": False}),
    UpgradeRequiredError: Row(426, "Upgrade required"),
    HeadersTooLargeError: Row(431, "Header too large"),
    HandlerError: Row(500, "Failed in the object"),
    RefusedError: Row(503, "Not now"),
    TooManySocketsError: Row(503, "Too many streams", (), {"started": False}),
    OverloadedError: Row(503, "Overloaded", (), {"started": False}),
    UnavailableError: Row(503, "Unavailable", (), {"started": False}),
    StoreAwayError: Row(503, "Unavailable", (), {"started": False}),
    CommitFailedError: Row(503, "Not stored"),
    NoRoomError: Row(507, "Insufficient storage"),
    StoreFullError: Row(507, "Insufficient storage"),
    OutcomeUnknownError: Row(503, "Outcome unknown", (), {"outcome": "unknown"}),
    StoreInDoubtError: Row(503, "Outcome unknown", (), {"outcome": "unknown"}),
    QuarantinedError: Row(503, "Quarantined", (), {"started": False}),
    TransactionBusyError: Row(503, "Busy", (), {"started": False}),
    TransactionAbortedError: Row(503, "Transaction aborted"),
    DeadlineExceededError: Row(504, "Deadline passed", ("started",)),
}
"""What every service can say. A subclass of an error is told as its nearest ancestor."""

_INTERNAL = Row(500, "Internal error")
_INTERNAL_DETAIL = "The request failed because of a fault in the service; its log has the reason under the request id."
_HANDLER_DETAIL = (
    "The object's own method failed: it raised an error, or returned a value, that it does not declare. "
    "The node's log has the reason under the request id."
)
_REALM = b'Bearer realm="tenure"'
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error made ready to be sent: the status, the header fields, and the document."""

    status: int
    headers: Headers
    document: dict[str, Any]

    def body(self) -> bytes:
        """The document as JSON."""
        return _encode(self.document)


class ProblemTable:
    """Which error is told how: the core's rows, and those that a service adds."""

    __slots__ = ("_rows",)

    def __init__(self, extra: Rows | None = None) -> None:
        self._rows: dict[type, Row] = {**CORE, **(extra or {})}

    def row(self, error_class: type[BaseException]) -> Row:
        """The row of the class or of its nearest ancestor; of no ancestor: 500."""
        return next((self._rows[cls] for cls in error_class.__mro__ if cls in self._rows), _INTERNAL)

    def problem(self, error: BaseException, *, request_id: str = "", trace_id: str = "") -> Problem:
        """`error` as it is told to the caller; empty ids are left out."""
        row = self.row(type(error))
        code = error.code if isinstance(error, TenureError) else TenureError.code
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + code,
            "title": row.title,
            "status": row.status,
            "detail": _detail(row, error),
            "code": code,
        }
        for name in row.members:
            if (value := getattr(error, name)) != "":
                document[name] = value
        document.update(row.fixed)
        headers = _headers(row, error)
        if row.status in (429, 503):
            retry_after_ms = max(1, getattr(error, "retry_after_ms", RETRY_AFTER_MS))
            document["retry_after_ms"] = retry_after_ms
            headers.append((b"retry-after", b"%d" % -(-retry_after_ms // 1000)))
        if request_id:
            document["request_id"] = request_id
        if trace_id:
            document["trace_id"] = trace_id
        return Problem(status=row.status, headers=headers, document=document)


CORE_TABLE = ProblemTable()


def problem_response(
    error: BaseException, *, table: ProblemTable = CORE_TABLE, request_id: str = "", trace_id: str = ""
) -> tuple[int, Headers, bytes]:
    """Status, header fields (content type and length among them) and body: all that bare ASGI has to send."""
    problem = table.problem(error, request_id=request_id, trace_id=trace_id)
    body = problem.body()
    return problem.status, [*problem.headers, (b"content-length", b"%d" % len(body))], body


def _detail(row: Row, error: BaseException) -> str:
    if row.status == 500:
        return _HANDLER_DETAIL if isinstance(error, HandlerError) else _INTERNAL_DETAIL
    return str(getattr(error, "detail", "") or error)


def _challenge(field: str, more: str) -> bytes:
    """What is wanted, and where. A field of our own has no registered scheme, so it is named in a parameter."""
    if more:
        return b"%b, %b" % (_REALM, more.encode("ascii"))
    return _REALM if field == BEARER else b'ApiKey realm="tenure", header="%b"' % field.encode("ascii")


def _headers(row: Row, error: BaseException) -> Headers:
    headers: Headers = [(b"content-type", MEDIA_TYPE)]
    if row.status == 401:
        headers.append(
            (b"www-authenticate", _challenge(getattr(error, "field", BEARER), getattr(error, "challenge", "")))
        )
    elif isinstance(error, ForbiddenError) and error.scope and error.field == BEARER:
        scope = b'%b, error="insufficient_scope", scope="%b"' % (_REALM, error.scope.encode("ascii"))
        headers.append((b"www-authenticate", scope))
    elif isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allow.encode("ascii")))
    elif row.status == 426:
        headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    return headers
