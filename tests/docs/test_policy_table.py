"""The page on sessions has every member of a tenant's policy, in the order of the code, with its default."""

import json
import re

import msgspec

from services.sessions.policy import Policy
from tests.architecture.tree import ROOT

PAGE = ROOT / "docs/how-to/keep-users-signed-in.md"
ROW = re.compile(r"^\| (?P<names>(?:`\w+`(?:, )?)+) \| (?P<default>`[^`]*`|20) \| [^|]+ \|$", re.MULTILINE)


def test_the_table_of_the_policy_is_the_policy() -> None:
    """A new member gets a row; `limits`, which has members of its own, is told by their number."""
    default = json.loads(msgspec.json.encode(Policy()))
    default["limits"] = default["limits"]["total"]
    told = {
        name: json.loads(row["default"].strip("`"))
        for row in ROW.finditer(PAGE.read_text())
        for name in re.findall(r"\w+", row["names"])
    }
    assert list(default.items()) == list(told.items())
