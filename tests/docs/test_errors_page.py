"""The page of errors has every code that a service can answer with, under its status, and no other."""

import json
import re

from services.ratelimiter.app import PROBLEMS
from services.sessions.app import PROBLEMS as SESSION_PROBLEMS
from services.workflows.app import PROBLEMS as WORKFLOW_PROBLEMS
from shared.http.problem import CORE
from tests.architecture.tree import ROOT

ROW = re.compile(r"^\| (?P<codes>`[\w.]+`(?:, `[\w.]+`)*) \| (?P<status>\d{3}) \|", re.MULTILINE)
CODE = re.compile(r"`([\w.]+)`")
DOCUMENTS = ("ratelimiter", "sessions", "workflows")
OTHERS = {("quota_exceeded", 429), ("internal", 500)}
"""A denial, which is no error, and the fault of a service, which has no row."""


def test_the_page_of_errors_is_the_table_of_problems() -> None:
    """Codes of the classes that become problems, and those of single routes as the API document names them."""
    page = (ROOT / "docs/reference/errors.md").read_text()
    documents = [json.loads((ROOT / f"docs/openapi/{service}.json").read_text()) for service in DOCUMENTS]
    told = {(code, int(row["status"])) for row in ROW.finditer(page) for code in CODE.findall(row["codes"])}
    rows = {
        (error.code, row.status) for error, row in {**CORE, **PROBLEMS, **WORKFLOW_PROBLEMS, **SESSION_PROBLEMS}.items()
    }
    by_route = {
        (code, int(status))
        for document in documents
        for operations in document["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if "$ref" in answer
        for code in CODE.findall(answer["description"])
    }
    assert rows | by_route | OTHERS == told
