"""House rules as programs: what a reviewer would otherwise have to say again and again."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, heading_anchors, python_files, relative, text_files

FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600  # A table of cases may be longer than code.
FUNCTION_LINES_MAX = 70
COMMANDS = ("help", "run", "test", "check", "prove", "bench", "lint", "lock")
CHANGELOG_SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
# The brackets keep these patterns from matching themselves.
UNFINISHED = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X]|NotImplementedErro[r])\b")
MACHINE = re.compile(
    r"(?<![\w.])/(?:root|work|home/\w+|Users/\w+)/"  # Somebody's directory.
    r"|-index-ur[l]\b|\bpypi\.org\b|\bpythonhosted\.org\b|\bregistry\.npmjs\b"  # A package index.
    r'|"resolved": *"http'
)
EXCUSE = re.compile(r"#\s*(?:type: ignore|noqa)\b(?P<rest>.*)")
EXCUSED = re.compile(r"(?:\[[\w, -]+\]|:\s*[A-Z]+\d+(?:, ?[A-Z]+\d+)*)\s+(?:#|-)\s*\S.*")


def test_every_module_says_what_it_guarantees() -> None:
    """A docstring comes first in every Python file."""
    silent = [relative(path) for path, tree in _trees() if not ast.get_docstring(tree)]

    assert not silent, "\n".join(silent)


def test_every_test_is_a_sentence() -> None:
    """A test's docstring states the behaviour."""
    silent = [
        f"{relative(path)}: {function.name}"
        for path, tree in _trees("tests")
        for function in _functions(tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert not silent, "\n".join(silent)


def test_files_and_functions_stay_small() -> None:
    """A file is one idea, a function one screen."""
    large = []
    for path, tree in _trees():
        lines_max = TEST_FILE_LINES_MAX if path.is_relative_to(ROOT / "tests") else FILE_LINES_MAX
        lines = path.read_text().count("\n")
        if lines > lines_max:
            large.append(f"{relative(path)} has {lines} lines")
        for function in _functions(tree):
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > FUNCTION_LINES_MAX:
                large.append(f"{relative(path)}: {function.name} has {length} lines")

    assert not large, "\n".join(large)


def test_no_file_is_a_drawer() -> None:
    """Code has a room with a name; `utils` is none."""
    drawers = {"utils", "util", "helpers", "misc", "common"}
    found = [relative(path) for path in python_files() if path.stem in drawers]

    assert not found, "\n".join(found)


def test_nothing_is_left_unfinished() -> None:
    """What is not there is left out, not promised in a comment."""
    found = list(_matches(UNFINISHED))

    assert not found, "\n".join(found)


def test_nothing_knows_where_it_was_made() -> None:
    """No file names a directory of a machine or the host of a package index."""
    found = list(_matches(MACHINE))

    assert not found, "\n".join(found)


def test_every_exception_to_a_rule_has_its_reason() -> None:
    """`type: ignore` and `noqa` name the rule, and say why on their line."""
    bare = []
    for path in python_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            found = EXCUSE.search(line)
            if found and not EXCUSED.fullmatch(found["rest"].strip()):
                bare.append(f"{relative(path)}:{number}: {line.strip()}")

    assert not bare, "\n".join(bare)


def test_tests_inside_one_process_never_sleep() -> None:
    """Time is moved, or a predicate is waited for; only tests of real processes keep real time."""
    sleeping = [
        f"{relative(path)}:{node.lineno}"
        for room in ("architecture", "docs", "helm", "services", "simulation", "storage", "unit")
        for path, tree in _trees(f"tests/{room}")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]

    assert not sleeping, "\n".join(sleeping)


@pytest.mark.parametrize("script", sorted(ROOT.glob("shared/**/*.lua")), ids=lambda script: script.name)
def test_every_script_has_its_header(script: Path) -> None:
    """What goes in, with units, what comes out, what it costs, and why it is a script."""
    header = re.match(r"#!lua(?: flags=allow-oom)?\n((?:--.*\n)+)", script.read_text())

    assert header, "`#!lua` comes first: without it a server that is out of memory stops in the middle"
    for part in ("KEYS", "ARGV", "reply", "cost", "why (atomic|a script)"):
        assert re.search(rf"^-- {part}\b", header[1], re.MULTILINE), part


def test_the_changelog_keeps_its_form() -> None:
    """Unreleased first, then releases from new to old, each with its date; known sections only."""
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    forms = [re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d{2}-\d{2})", release) for release in releases[1:]]
    dates = [form[1] for form in forms if form]

    assert text.startswith("# Changelog\n")
    assert "[Unreleased]" == releases[0]
    assert len(forms) == len(dates), releases
    assert sorted(dates, reverse=True) == dates
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= CHANGELOG_SECTIONS


def test_local_links_in_documents_resolve() -> None:
    """A reader is never sent to a file or a heading that is not there."""
    broken = []
    for document in text_files(".md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(document.read_text())):
            name, _, anchor = target.partition("#")
            there = (document.parent / name).resolve() if name else document
            external = re.match(r"[a-z]+:", target)
            if not external and not (there.exists() and (not anchor or anchor in heading_anchors(there))):
                broken.append(f"{relative(document)} -> {target}")

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/adr/[0-9]*.md")), ids=lambda page: page.stem)
def test_every_decision_has_the_parts_of_one(page: Path) -> None:
    """A page in docs/adr says status, context, decision and consequences, and stands in the index."""
    text = page.read_text()

    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert ["Status", "Context", "Decision", "Consequences"] == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert f"]({page.name})" in (page.parent / "README.md").read_text()


def test_the_make_file_has_its_commands() -> None:
    """Every command that the documents name is there, and `make help` explains it."""
    explained = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(COMMANDS) <= set(explained)


def test_the_locks_pin_what_is_asked_for() -> None:
    """Every dependency is pinned with hashes; what runs is pinned alike for development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    running, building, developing = (_pins(f"requirements{suffix}.lock") for suffix in ("", "-build", "-dev"))

    assert _names(project["project"]["dependencies"]) <= running.keys()
    assert _names(project["build-system"]["requires"]) == building.keys()
    assert _names(project["dependency-groups"]["dev"]) <= developing.keys()
    assert running.items() <= developing.items()


def _trees(room: str = "") -> Iterator[tuple[Path, ast.Module]]:
    for path in python_files():
        if path.is_relative_to(ROOT / room):
            yield path, ast.parse(path.read_text())


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _matches(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in text_files():
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if found := pattern.search(line):
                yield f"{relative(path)}:{number}: {found[0]}"


def _without_code(markdown: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", markdown, flags=re.MULTILINE | re.DOTALL)


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", text, maxsplit=1)[0].lower().replace("_", "-") for text in requirements}


def _pins(lock: str) -> dict[str, str]:
    """Name to version of a lock file, where every requirement must have a version and a hash."""
    text = (ROOT / lock).read_text()
    pins = re.findall(r"^(\S+)==(\S+).*\\\n(?:    --hash=.*\n)+", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^\S", text, re.MULTILINE)), lock
    return dict(pins)
