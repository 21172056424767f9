"""The page of settings has every variable, in the order of the code, with its default and with who reads it."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.settings import NodeSettings, variable_of
from tests.architecture.tree import ROOT, python_files

PAGE = ROOT / "docs/reference/settings.md"
ROW = re.compile(r"^\| `(TENURE_\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
ROWS = {row[0]: row[1:] for row in ROW.findall(PAGE.read_text())}
FIELDS = {field.name: field for field in msgspec.structs.fields(NodeSettings)}
READERS = {
    "shared/outbound/": "nodes",
    "shared/runtime/": "nodes",
    "services/": "nodes",
    "shared/cli/doctor.py": "doctor",
    "shared/cli/store.py": "doctor",
    "shared/cli/operator.py": "node",
    "shared/cli/client.py": "api",
    "shared/cli/": "store",
}
"""Whose words a file is read for, the first that fits; in the order of the column."""
UNITS = {"_ms": "ms", "port": "port", "host": "host"}


def test_the_page_has_every_setting_in_the_order_of_the_code() -> None:
    """A new field of `NodeSettings` gets a row of docs/reference/settings.md, where it stands in the class."""
    wanted = [variable_of(name) for name in FIELDS]
    missing = [variable for variable in wanted if variable not in ROWS]
    assert not missing, f"Add to the table of {PAGE.relative_to(ROOT)}: " + "; ".join(
        f"| `{variable}` | {default_of(variable)} | unit | {read_by(variable)} | meaning |" for variable in missing
    )
    assert wanted == list(ROWS)


@pytest.mark.parametrize("variable", ROWS)
def test_a_row_says_what_the_code_does(variable: str) -> None:
    """The default, those of services that have another, the unit of the name's end, and whose programs read it."""
    default, unit, readers, meaning = ROWS[variable]
    assert default_of(variable) == default
    assert read_by(variable) == readers
    assert unit
    assert meaning.endswith((".", "`."))
    for end, word in UNITS.items():
        if variable.lower().endswith(end):
            assert unit.startswith(word)


def default_of(variable: str) -> str:
    """As the page writes it, with those of services that have another."""
    name = variable.removeprefix("TENURE_").lower()
    others = [
        (service, default)
        for service, cls in services()
        for default in (getattr(cls(), name),)
        if default != FIELDS[name].default
    ]
    return "; ".join([shown(FIELDS[name].default), *(f"{shown(default)} (`{service}`)" for service, default in others)])


def shown(default: Any) -> str:
    """A value as it would be set."""
    return f"`{int(default) if isinstance(default, bool) else default}`" if default != "" else "none"


def services() -> Iterator[tuple[str, type[NodeSettings]]]:
    """Every service that has settings, by name."""
    for path in sorted((ROOT / "services").glob("*/settings.py")):
        module = import_module(f"services.{path.parent.name}.settings")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, NodeSettings) and cls is not NodeSettings:
                yield module.SERVICE, cls


def read_by(variable: str) -> str:
    """Who reads it, by where the code looks at it."""
    name = variable.removeprefix("TENURE_").lower()
    found = {
        next(word for room, word in READERS.items() if relative(path).startswith(room))
        for path in python_files()
        if relative(path).startswith(tuple(READERS)) and looks_at(path, name)
    }
    return ", ".join(word for word in ("nodes", "doctor", "store", "node", "api") if word in found)


def looks_at(path: Path, name: str) -> bool:
    """Whether the code in the file reads the setting."""
    holder = "self" if path.name == "settings.py" else "settings"
    return re.search(rf"\b_?{holder}\.{name}\b", path.read_text()) is not None


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
