"""How commands ask the public API of a service with an API key, and follow a stream of events.

The service is that of `--api`, or the one of the settings here; the key stands in the file of `--key-file`, or is the
one that `tenure run` keeps in the data directory. A key is never an argument: arguments are seen by everybody.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from shared.cli.operator import table
from shared.cli.store import node_settings
from shared.errors import ConfigurationError, InvalidInputError, TenureError
from shared.runtime.development import key_path
from shared.runtime.local_call import Endpoint, NoAnswerError
from shared.storage.records import KEY_PREFIX, KEY_TEXT_LENGTH

_TIMEOUT_MS = 70_000  # A caller may wait for a minute.
_SILENCE_S = 45  # A stream says at least every 15 s that it lives.


class ApiError(TenureError):
    """The service did not do it; the message is its own sentence, or that it does not answer."""

    code = "api"


class Client:
    """Asks one service. `index` is its place among the ports of the services."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str], *, index: int) -> None:
        settings = node_settings(environ)
        self._endpoint = _endpoint(arguments.api, Endpoint(settings.host, settings.port + index))
        self._key = _key(arguments.key_file, Path(settings.data_dir).absolute())
        self.json: bool = arguments.json

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        key: str | None = None,
    ) -> Any:
        """One request; parameters that are empty or None are left out. `key` is an idempotency key.

        Raises:
            InvalidInputError: the service says that it cannot be asked for this.
            ApiError: it refuses, or does not answer.
        """
        asked = {name: value for name, value in (query or {}).items() if value not in ("", None)}
        target = path + (f"?{urlencode(asked)}" if asked else "")
        payload = b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._key}"}
        if payload:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            answer = asyncio.run(
                self._endpoint.call(method, target, headers=headers, body=payload, timeout_ms=_TIMEOUT_MS)
            )
            told = json.loads(answer.body) if answer.body else None
        except (NoAnswerError, ValueError) as exc:
            raise ApiError(f"The service did not answer: {exc}") from exc
        if answer.status >= 300:
            raise _refusal(answer.status, told)
        return told

    def follow(self, path: str) -> Iterator[tuple[str, Any]]:
        """The events of a stream, as name and data, until it ends; a broken connection goes on where it ended.

        Raises:
            ApiError: the service refuses, or does not answer.
        """
        last = ""
        while True:
            for name, data, mark in self._connection(path, last):
                last = mark or last
                yield name, data
                if name == "end":
                    return

    def _connection(self, path: str, last: str) -> Iterator[tuple[str, Any, str]]:
        connection = HTTPConnection(self._endpoint.reachable_host, self._endpoint.port, timeout=_SILENCE_S)
        headers = {"Authorization": f"Bearer {self._key}", **({"Last-Event-ID": last} if last else {})}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise _refusal(answer.status, json.loads(answer.read()))
            fields: dict[str, str] = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], json.loads(fields.get("data", "null")), fields.get("id", "")
                    fields = {}
        except (OSError, HTTPException, ValueError) as exc:
            raise ApiError(f"The service did not answer: {exc}") from exc
        finally:
            connection.close()

    def print(self, told: Any, text: str) -> None:
        """The answer as it is, or as text."""
        sys.stdout.write((json.dumps(told, indent=2) if self.json else text) + "\n")

    def print_rows(self, told: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A listing of one page."""
        self.print(told, table(head, rows) if rows else "There is none.")

    def print_page(self, told: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A page of a listing, and on stderr how to go on."""
        self.print_rows(told, head, rows)
        if told["next_cursor"] is not None and not self.json:
            sys.stderr.write(f"There may be more: --after {told['next_cursor']}\n")


def segment(name: str) -> str:
    """A name as a segment of a path, percent-encoded whole."""
    return quote(name, safe="").replace(".", "%2E")


def value_of(text: str | None, what: str) -> Any:
    """A value as it is typed: JSON, or `@` and the file that it stands in; nothing is null.

    Raises:
        InvalidInputError: it is no JSON, or the file cannot be read.
    """
    if text is None:
        return None
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"{what} is JSON, or @ and a file of it: {exc}") from exc


def name_and_value(text: str, what: str) -> tuple[str, str]:
    """A name and a value as they are typed, `region=eu`.

    Raises:
        InvalidInputError: there is no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError(f"{what} is a name and a value, as region=eu")
    return name, value


def _refusal(status: int, told: Any) -> TenureError:
    sentence = f"{told.get('detail', 'The service refuses.')} ({status} {told.get('code', '')})"
    return InvalidInputError(sentence) if status in (400, 422) else ApiError(sentence)


def _endpoint(url: str | None, own: Endpoint) -> Endpoint:
    if url is None:
        return own
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not host or parts.path not in ("", "/"):
        raise ConfigurationError(f"--api is {url!r}, but must be an address as {own.url}.")
    return Endpoint(host, port or 80)


def _key(file: str | None, data_dir: Path) -> str:
    path = key_path(data_dir) if file is None else Path(file)
    try:
        key = path.read_text(errors="replace").strip()
    except OSError as exc:
        raise ConfigurationError(
            f"There is no API key in {path}: say --key-file, or set TENURE_DATA_DIR to where `tenure run` keeps one."
        ) from exc
    if len(key) != KEY_TEXT_LENGTH or not key.startswith(KEY_PREFIX) or not key.isascii():
        raise ConfigurationError(f"What stands in {path} is no API key: one begins with {KEY_PREFIX}.")
    return key
