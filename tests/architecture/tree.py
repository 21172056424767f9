"""The files of the project: what git tracks or would track, and not what lies about ignored."""

import re
import subprocess
from functools import cache
from pathlib import Path

from tests.support.launching import ROOT

__all__ = ["ROOT", "heading_anchors", "python_files", "relative", "text_files"]


@cache
def _files() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        found = (ROOT / name for name in listed.stdout.split("\0") if name)
    else:  # Not a clone: everything but hidden directories.
        found = (
            path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in relative(path).split("/"))
        )
    return tuple(sorted(path for path in found if path.is_file()))


def relative(path: Path) -> str:
    """The path as the project names it."""
    return path.relative_to(ROOT).as_posix()


def python_files() -> tuple[Path, ...]:
    """Every Python file that has something in it."""
    return tuple(path for path in _files() if path.suffix == ".py" and path.stat().st_size)


@cache
def text_files(suffix: str = "") -> tuple[Path, ...]:
    """Every file that is text, or those whose name ends in `suffix`."""
    return tuple(path for path in _files() if path.name.endswith(suffix) and b"\0" not in path.read_bytes())


@cache
def heading_anchors(document: Path) -> frozenset[str]:
    """What a link may point at inside a Markdown file, formed as the usual renderers do."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings)
