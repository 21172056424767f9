"""What the documents say to type can be typed: every command there is, none that is not, and where `tenure` stands."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cli.__main__ import INTERRUPTED
from shared.cli.main import REFUSED, WRONG, parser
from shared.runtime.watchdog import EXIT_STUCK
from tests.architecture.tree import ROOT, relative, text_files

PAGE = ROOT / "docs/reference/commands.md"
BLOCK = re.compile(r"^ *```[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^ *(?:[A-Z_]+=\S* )*tenure (?P<rest>.+)$", re.MULTILINE)
INLINE = re.compile(r"`tenure ([a-z]+(?: [a-z]+)?)[^`]*`")
EITHER = re.compile(r"(\S+) \| (\S+)")
PAGES = [page for page in text_files(".md") if "`tenure " in page.read_text() or TYPED.search(page.read_text())]
GUIDES = [page for page in PAGES if relative(page).startswith(("docs/how-to", "docs/reference"))]


def test_the_page_has_every_command_and_no_other() -> None:
    """The table is the parser's own tree."""
    told = {command for row in PAGE.read_text().splitlines() if row.startswith("| `") for command in in_line(row)}
    assert set(leaves(parser())) == told


def test_the_page_has_every_exit_code() -> None:
    """Those of `tenure`, and that of a node which ends itself."""
    page = PAGE.read_text()
    assert ["0", str(REFUSED), str(WRONG), str(INTERRUPTED)] == re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert f"ends with {EXIT_STUCK} where" in page


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_what_a_page_says_to_type_is_understood(page: Path) -> None:
    """Every line of a block that begins with `tenure`, with all that is optional in it, and each of its alternatives."""
    wrong = [line for line in typed(page) if not understood(line)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_what_a_page_calls_a_command_is_one(page: Path) -> None:
    """Also in the middle of a sentence."""
    known = [f"{command} " for command in leaves(parser())]
    wrong = [
        said
        for said in in_line(page.read_text())
        if not any(command.startswith(f"{said} ") or f"{said} ".startswith(command) for command in known)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_a_guide_says_where_the_command_is(page: Path) -> None:
    """Whoever comes to a page first finds the way to the one that says how `tenure` is called."""
    assert page == PAGE or "commands.md)" in page.read_text()


def test_the_readme_says_where_the_command_is() -> None:
    """As `make run` leaves it."""
    assert "`.venv/bin/tenure`" in (ROOT / "README.md").read_text()


def test_a_wrong_line_is_seen() -> None:
    """An option that is not there, a name too few, an alternative that is none."""
    assert understood("objects show | evict KIND TENANT NAME")
    assert understood("objects list --kind counter --tenant acme [--prefix P]   # by name")
    for line in ("objects show | evikt KIND TENANT NAME", "objects show KIND TENANT", "tenant list [--all]"):
        assert not understood(line)


def leaves(root: argparse.ArgumentParser) -> Iterator[str]:
    """Every command, in full."""
    below = [action for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield root.prog.removeprefix("tenure ")
    for action in below:
        for child in action.choices.values():
            yield from leaves(child)


def in_line(text: str) -> list[str]:
    """The commands that stand in a text, by their first one or two words."""
    return INLINE.findall(text)


def typed(page: Path) -> list[str]:
    """What is typed behind `tenure` in the blocks of a page."""
    return [line["rest"] for block in BLOCK.findall(page.read_text()) for line in TYPED.finditer(block)]


def understood(line: str) -> bool:
    """Whether the parser takes it."""
    either = EITHER.search(line)
    if either:
        return all(understood(line[: either.start()] + word + line[either.end() :]) for word in either.groups())
    try:
        parser().parse_args(shlex.split(re.sub(r"[\[\]]", "", line), comments=True))
    except SystemExit:
        return False
    return True
