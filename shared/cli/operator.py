"""How commands ask the operator's API of a node, and how they show what comes back.

The node is the one of `--admin`, or the one of the settings here; the token that of `TENURE_ADMIN_TOKEN`, or the one
that `tenure run` keeps in the data directory. Whatever a name or a value holds, it cannot steer a terminal.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from shared.cli.listing import table as columns
from shared.cli.store import node_settings
from shared.clock import rfc3339
from shared.errors import ConfigurationError, InvalidInputError, TenureError
from shared.runtime.kept_secrets import token_path
from shared.runtime.local_call import Endpoint, NoAnswerError
from shared.settings import NodeSettings

_TIMEOUT_MS = 40_000  # A turn may wait for one of 30 s.
_ANSWER_BYTES_MAX = 64 * 1024 * 1024  # A page of a thousand large journal entries, in JSON.


class AdminError(TenureError):
    """The node did not do it; the message is its own sentence, or that it does not answer."""

    code = "admin"


class Operator:
    """Asks one node."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        settings = node_settings(environ)
        self._endpoint = _endpoint(arguments.admin, settings)
        self._token = _token(settings)
        self.json: bool = arguments.json

    def ask(self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None) -> Any:
        """One request below `/admin`; parameters that are empty or None are left out.

        Raises:
            InvalidInputError: the node says that it cannot be asked for this.
            AdminError: the node refuses, or does not answer.
        """
        asked = {name: value for name, value in (query or {}).items() if value not in ("", None)}
        target = f"/admin/{path}" + (f"?{urlencode(asked)}" if asked else "")
        headers = {"Authorization": f"Bearer {self._token}"}
        payload = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        call = self._endpoint.call(
            method, target, headers=headers, body=payload, timeout_ms=_TIMEOUT_MS, answer_bytes_max=_ANSWER_BYTES_MAX
        )
        try:
            answer = asyncio.run(call)
            told = json.loads(answer.body)
        except (NoAnswerError, ValueError) as exc:
            raise AdminError(f"The node did not answer: {exc}") from exc
        if answer.status != 200:
            sentence = f"{told.get('detail', 'The node refuses.')} ({answer.status} {told.get('code', '')})"
            raise InvalidInputError(sentence) if answer.status == 400 else AdminError(sentence)
        return told

    def print(self, told: Any, text: str) -> None:
        """The answer as it is, or as text."""
        sys.stdout.write((json.dumps(told, indent=2) if self.json else text) + "\n")

    def print_rows(self, told: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A listing of one page."""
        self.print(told, table(head, rows) if rows else "There is none.")

    def print_page(self, told: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A page of a listing, and on stderr how to go on."""
        self.print_rows(told, head, rows)
        if told["next"] is not None and not self.json:
            sys.stderr.write(f"There may be more: --after {told['next']}\n")


def object_path(arguments: argparse.Namespace, *rest: str) -> str:
    """The path of an object, or of something of it, every name percent-encoded whole."""
    names = (arguments.kind, arguments.tenant, arguments.name, *rest)
    return "/".join(["objects", *(quote(name, safe="").replace(".", "%2E") for name in names)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, aligned; every cell on one line."""
    return columns(head, [[printable(cell) for cell in row] for row in rows]).rstrip("\n")


def printable(text: str) -> str:
    """`text` on one line, without what would steer a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def told_value(value: Any) -> str:
    """A value for people: JSON on one line."""
    return printable(json.dumps(value, ensure_ascii=False))


def moment(at_ms: int) -> str:
    """A moment for people: RFC 3339, UTC."""
    try:
        return rfc3339(at_ms)
    except OverflowError:  # Past the year 9999, which an alarm may be.
        return f"{at_ms} ms"


def read_moment(text: str | None) -> int | None:
    """A moment as people say it: Unix milliseconds, or RFC 3339 with its zone.

    Raises:
        InvalidInputError: neither.
    """
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        said = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInputError(f"{text!r} is not a moment: say Unix milliseconds, or as 2030-01-31T12:00:00Z") from exc
    if said.tzinfo is None:
        raise InvalidInputError(f"{text!r} does not say its time zone: end it with Z for UTC")
    return round(said.timestamp() * 1000)


def _endpoint(url: str | None, settings: NodeSettings) -> Endpoint:
    if url is None:
        return Endpoint(settings.admin_host, settings.admin_port)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not host or parts.path not in ("", "/"):
        raise ConfigurationError(f"--admin is {url!r}, but must be an address as http://127.0.0.1:7201.")
    return Endpoint(host, port or 80)


def _token(settings: NodeSettings) -> str:
    if settings.admin_token:
        return settings.admin_token
    path = token_path(Path(settings.data_dir).absolute())
    try:
        return path.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(
            f"There is no admin token: set TENURE_ADMIN_TOKEN, or TENURE_DATA_DIR to where {path.name} stands."
        ) from exc
