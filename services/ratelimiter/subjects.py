"""The subject in the path of `/v1/subjects/{subject}`: every legal one can be named, exactly.

A subject is any text of 1 to 512 bytes, so it may have slashes, dots or nothing else in it. Routers
tidy paths, and clients and proxies do too; so the subject is read from the path as it was sent, and
the framework is shown one that it has nothing to tidy in. Whoever percent-encodes every byte that is
not a letter or a digit (a dot as `%2E`, a slash as `%2F`) names the subject that is meant, whatever
stands in between.
"""

from typing import Any
from urllib.parse import unquote_to_bytes

from shared.http.asgi import Scope
from shared.http.names import check_name, sent_path

SUBJECTS = "/v1/subjects/"


def check_subject(subject: str, where: str) -> None:
    """Refuse what cannot be a subject, and say where in the request it stands. Raises InvalidInputError."""
    check_name(subject, "subject", where)


def for_route(scope: Scope) -> Scope:
    """The request as its route knows it, with a subject that stands for any; one without a subject is left alone."""
    return {**scope, "path": SUBJECTS + "any"} if len(scope["path"]) > len(SUBJECTS) else scope


def subject_of(scope: Any) -> str:
    """The subject as it stands in the path that was sent. Raises InvalidInputError."""
    subject = unquote_to_bytes(sent_path(scope)).decode().removeprefix(SUBJECTS)
    check_subject(subject, "path.subject")
    return subject
