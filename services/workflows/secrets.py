"""Secrets stand in no definition: what authenticates is named, and filled in by whoever sends the call."""

import re
from typing import Any

from services.workflows.clauses import METHODS
from services.workflows.problems import Place, Problems
from services.workflows.shapes import is_expression
from services.workflows.trees import mapping, text

_AUTHENTICATES = re.compile(r"authorization|proxy-authorization|cookie|.*(?:token|secret|password|api-?key).*")


def check_calls(step: dict[str, Any], at: Place, problems: Problems) -> None:
    """Note credentials and addresses that cannot be right in the http calls of the step."""
    compensate, action = mapping(step.get("compensate")), mapping(mapping(step.get("remind")).get("do"))
    _check_call(mapping(step.get("http")), at / "http", problems)
    _check_call(mapping(compensate.get("http")), at / "compensate" / "http", problems)
    _check_call(mapping(action.get("http")), at / "remind" / "do" / "http", problems)


def _check_call(http: dict[str, Any], at: Place, problems: Problems) -> None:
    for name, value in mapping(http.get("headers")).items():
        if _AUTHENTICATES.fullmatch(name.lower()) and not isinstance(value, dict):
            problems.add(at / "headers" / name, "A credential is a reference: {secret: name}")
    for method in METHODS:
        url = text(http.get(method))
        if url and not is_expression(url):
            _check_url(url, at / method, problems)


def _check_url(url: str, at: Place, problems: Problems) -> None:
    if not re.match(r"https?://[^/?#]", url):
        problems.add(at, "An address begins with http:// or https:// and a host")
    elif "@" in re.split(r"[/?#]", url, maxsplit=3)[2]:
        problems.add(at, "A credential is a reference in a header, and no part of the address")
