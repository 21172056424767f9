"""What may be sent: addresses and header fields that can be read in one way only."""

import pytest

from shared.outbound.errors import BadTargetError
from shared.outbound.request import Request, check_request, check_url


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "ftp://example.com/",
        "//example.com/",
        "https:///path",
        "https://",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/ x",
        "https://example.com/\r\nHost: other",
        "https://exämple.com/",
        "https://[::1/",
        "https://example.com/" + "a" * 2_048,
    ],
)
def test_o03_an_address_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    """Other schemes, credentials, backslashes, line breaks, characters beyond ASCII."""
    with pytest.raises(BadTargetError):
        check_url(url)


@pytest.mark.parametrize("url", ["https://example.com/a?b=c#d", "https://[2606:4700::1]:443/", "http://127.0.0.1:80/"])
def test_an_ordinary_address_is_taken(url: str) -> None:
    """Where it leads is decided when it is dialled."""
    assert check_url(url).host in {"example.com", "2606:4700::1", "127.0.0.1"}


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Proxy-Authorization", "TE"),
        *("webhook-signature", "Webhook-Id", "Idempotency-Key", "X-Attempt", "traceparent", "Accept-Encoding"),
        *("Bad Name", "", "naïve", "x\r\ny"),
    ],
)
def test_o08_a_tenant_cannot_set_what_frames_or_signs_a_call(name: str) -> None:
    """These are the engine's, or no names at all."""
    with pytest.raises(BadTargetError):
        check_request(Request(method="POST", url="https://example.com/", headers={name: "x"}))


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b", "ü"])
def test_o08_a_header_field_cannot_begin_another_one(value: str) -> None:
    """Line breaks, NUL and characters beyond ASCII are refused."""
    with pytest.raises(BadTargetError):
        check_request(Request(method="POST", url="https://example.com/", headers={"X-A": value}))


@pytest.mark.parametrize(
    "request_",
    [
        Request(method="TRACE", url="https://example.com/"),
        Request(method="get", url="https://example.com/"),
        Request(method="GET", url="https://example.com/", headers={f"x-{n}": "y" for n in range(33)}),
        Request(method="GET", url="https://example.com/", headers={"x": "y" * 9_000}),
        Request(method="PUT", url="https://example.com/", body=b"x" * (128 * 1024 + 1)),
    ],
    ids=["trace", "lower case", "fields", "header", "body"],
)
def test_o06_what_is_sent_is_bounded(request_: Request) -> None:
    """Methods from a list; header and body of a stated size."""
    with pytest.raises(BadTargetError):
        check_request(request_)


def test_a_request_shows_neither_its_path_nor_its_headers() -> None:
    """Both may hold credentials, and a `repr` may end in a log."""
    shown = repr(Request(method="GET", url="https://example.com/secret?t=1", headers={"Authorization": "Bearer x"}))

    assert shown == "Request(GET https://example.com)"
