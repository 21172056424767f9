"""Secrets that calls are made with: named in definitions, kept by the operator as files, and read when a call leaves.

`<directory>/<tenant>/<name>` holds one, as where a Kubernetes secret is mounted, so a new value counts from the next
call on. A value is in no log, no history, no answer and no `repr`, and never in the store.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shared.bounds import OUTBOUND_FIELD_BYTES_MAX
from shared.outbound.errors import BadTargetError

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class UnknownSecretError(BadTargetError):
    """The operator has given the tenant no secret of that name, or one that cannot be a header field."""

    code = "secret.unknown"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no secret {name!r} here")


class Secrets:
    """The secrets of every tenant. Without a directory there are none."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory) if directory else None

    def value(self, tenant: str, name: str) -> str:
        """The secret, without the line break at its end.

        Raises:
            UnknownSecretError: there is none, or it is not a line of at most 8 KiB.
        """
        if self._directory is None or not NAME.fullmatch(name):
            raise UnknownSecretError(name)
        path = self._directory / _directory_name(tenant) / name
        try:
            with path.open(encoding="ascii") as file:
                text = file.read(OUTBOUND_FIELD_BYTES_MAX + 1).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownSecretError(name) from error
        if not text or len(text) > OUTBOUND_FIELD_BYTES_MAX or not text.isprintable():
            raise UnknownSecretError(name)
        return text


def _directory_name(tenant: str) -> str:
    """The tenant as one part of a path: what is not a letter, digit, `_`, `-` or `.` is percent-encoded."""
    name = quote(tenant, safe="")
    return name.replace(".", "%2E") if not name.strip(".") else name
