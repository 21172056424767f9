"""The examples in the documents run as they stand.

A block that opens with "```python run" is run; those of one page share their names and run in
order, as a reader would type them, on virtual time. `await` may stand outside a function. A block
without one runs outside the event loop, so that it may start its own, as a plain test does.
"""

import ast
import asyncio
import re
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import pytest

from shared.testing.clock import LIMIT_MS, VirtualTimeLoop
from tests.architecture.tree import ROOT, relative, text_files

FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in text_files(".md") if "```python run\n" in page.read_text()]
TUTORIALS = [page for page in text_files(".md") if relative(page).startswith("docs/tutorials/")]
MUST_RUN = ("docs/how-to", "docs/explanation")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_examples_run(page: Path) -> None:
    """Every marked block of the page does what it asserts."""
    run_page(page)


def test_a_page_that_teaches_has_no_example_that_does_not_run() -> None:
    """In these folders a block of Python is marked, so that it cannot become untrue."""
    unmarked = [
        f"{relative(page)}:{line}: {info}"
        for page in text_files(".md")
        if relative(page).startswith(MUST_RUN)
        for info, line, _ in blocks(page)
        if info.startswith("py") and info != "python run"
    ]

    assert not unmarked, "\n".join(unmarked)


def test_every_example_shows_what_comes_of_it() -> None:
    """A marked block asserts something: one that only runs would prove nothing."""
    silent = [
        f"{relative(page)}:{line}"
        for page in PAGES
        for info, line, code in blocks(page)
        if info == "python run" and not any(isinstance(node, ast.Assert) for node in ast.walk(parse(code, page)))
    ]

    assert not silent, "\n".join(silent)


def test_a_false_example_fails(tmp_path: Path) -> None:
    """The runner sees what is wrong, after an `await` and in a later block, and names the line of the page."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python run\nimport asyncio\nawait asyncio.sleep(3600)\ntwo = 2\n```\n\n"
        "```python run\nassert two == 3\n```\n"
    )

    with pytest.raises(AssertionError) as caught:
        run_page(page, limit_ms=4_000_000)
    assert ("page.md", 10) == (Path(caught.traceback[-1].path).name, caught.traceback[-1].lineno + 1)


@pytest.mark.parametrize("page", TUTORIALS, ids=relative)
def test_a_tutorial_shows_its_files_whole(page: Path) -> None:
    """Blocks that name a file are that file, piece by piece; the files themselves are run by tests."""
    shown: dict[str, list[str]] = {}
    for info, _, code in blocks(page):
        _, _, name = info.partition(" ")
        if name and name != "run":
            shown.setdefault(name, []).append(code)

    assert shown
    for name, pieces in shown.items():
        assert without_gaps((ROOT / name).read_text()) == without_gaps("\n".join(pieces)), name


def run_page(page: Path, *, limit_ms: int = LIMIT_MS) -> None:
    """Run the marked blocks of a page, one after another, with the same names."""
    names: dict[str, Any] = {"__name__": page.stem}
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_ms=limit_ms)) as runner:
        for info, line, code in blocks(page):
            if info == "python run":
                compiled = compile("\n" * line + code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                outcome = eval(compiled, names)
                if iscoroutine(outcome):
                    runner.run(outcome)


def blocks(page: Path) -> list[tuple[str, int, str]]:
    """Info string, line of the opening fence, and text of each fenced block."""
    text = page.read_text()
    return [(found["info"], text.count("\n", 0, found.start()) + 1, found["code"]) for found in FENCE.finditer(text)]


def without_gaps(text: str) -> list[str]:
    """The lines that say something: how far pieces stand apart is the page's own."""
    return [line for line in text.splitlines() if line.strip()]


def parse(code: str, page: Path) -> ast.Module:
    """The block as a tree; `await` may stand anywhere."""
    tree = compile(code, page, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree
