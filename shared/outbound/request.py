"""What may be sent: the form of an address and of header fields. Pure, and asked before anything is resolved.

The text of an address decides nothing about where it leads (`shared.outbound.networks` does). Here stands what would
be read differently by two programs, or would let a tenant speak as us: credentials in an address, line breaks, fields
that frame a message, and those that the engine sets itself.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec
from yarl import URL

from shared.bounds import (
    OUTBOUND_BODY_BYTES_MAX,
    OUTBOUND_FIELDS_MAX,
    OUTBOUND_HEADER_BYTES_MAX,
    OUTBOUND_URL_BYTES_MAX,
)
from shared.outbound.errors import BadTargetError

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
METHODS: frozenset[str] = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_URL = re.compile(r"https?://[!-~]+")
_AUTHORITY_WITH_USER = re.compile(r"https?://[^/?#]*@")
_OURS = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|upgrade|te|trailer|expect|accept-encoding|"
    r"proxy-.*|webhook-.*|idempotency-key|x-attempt|traceparent|tracestate|tenure-.*"
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `engine_headers` are ours and bound by no rule for tenants; `headers` are theirs."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    engine_headers: Mapping[str, str] = {}
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"Request({self.method} {URL(self.url).origin() if _URL.fullmatch(self.url) else '?'})"


def check_request(request: Request) -> URL:
    """The address of the request, which can be sent as it is.

    Raises:
        BadTargetError: it cannot.
    """
    if request.method not in METHODS:
        raise BadTargetError(f"The method is one of {', '.join(sorted(METHODS))}", "method")
    check_headers(request.headers)
    if request.body is not None and len(request.body) > OUTBOUND_BODY_BYTES_MAX:
        raise BadTargetError(f"A body has at most {OUTBOUND_BODY_BYTES_MAX} bytes", "body")
    return check_url(request.url)


def check_url(text: str) -> URL:
    """The address, read once: what is checked is what is dialled.

    Raises:
        BadTargetError: it has another scheme, a credential, a character that programs disagree on, or no host.
    """
    if len(text) > OUTBOUND_URL_BYTES_MAX or not _URL.fullmatch(text) or "\\" in text:
        raise BadTargetError("An address begins with https:// and is at most 2,048 characters of ASCII", "url")
    try:
        url = URL(text)
        port = url.port
    except ValueError as error:
        raise BadTargetError("This is no address", "url") from error
    if not url.host or not port:
        raise BadTargetError("An address has a host", "url")
    if _AUTHORITY_WITH_USER.match(text):
        raise BadTargetError("A credential is a reference in a header field, and no part of the address", "url")
    return url


def check_headers(headers: Mapping[str, str]) -> None:
    """Nothing where a tenant may send these fields.

    Raises:
        BadTargetError: a name or a value is none, or the field is not a tenant's to set.
    """
    if len(headers) > OUTBOUND_FIELDS_MAX or _size(headers.items()) > OUTBOUND_HEADER_BYTES_MAX:
        raise BadTargetError("A call has at most 32 header fields, of 8 KiB together", "headers")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise BadTargetError("The name of a header field is a token", "headers")
        if _OURS.fullmatch(name.lower()):
            raise BadTargetError(f"The header field {name} is set by the engine", f"headers.{name}")
        if not _VALUE.fullmatch(value):
            raise BadTargetError("A header field has printable characters of ASCII", f"headers.{name}")


def _size(fields: Iterable[tuple[str, str]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields)
