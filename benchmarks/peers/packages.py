"""The packages of the peers, pinned beside this file and installed into `.benchmarks` when a benchmark wants them.

They are no part of the project: nothing of it imports them, and its locks do not know them. Node packages are
installed without running their scripts, Python packages without their dependencies, all of which are pinned too.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import SCRATCH, serving
from tests.support.launching import free_ports

PINS = Path(__file__).parent
NODE_MAJOR_MIN = 20
_PIP_INSTALL = (
    *(sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"),
    *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
)
_NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INTEL, _ARM = ("x86_64", "amd64"), ("aarch64", "arm64")


class MissingError(Exception):
    """A program is not on this machine. The text says which, and where Debian has it."""


def node_packages() -> Path:
    """The `node_modules` of the peers, as the lock has them.

    Raises:
        MissingError: there is no `node` 20 or newer, or no `npm`.
    """
    node()
    npm = _program("npm", "npm")
    return (
        _installed(
            SCRATCH / "node",
            ("package.json", "package-lock.json"),
            [npm, *_NPM_CI],
        )
        / "node_modules"
    )


@contextmanager
def node_peer(script: str, *arguments: str, speaks_http: bool = True) -> Iterator[tuple[int, int]]:
    """Port and process of `benchmarks/peers/<script>`, which is told its port first.

    Raises:
        MissingError: see `node_packages`.
    """
    (port,) = free_ports(1)
    environ = {**os.environ, "NODE_PATH": str(node_packages()), "NODE_ENV": "production"}
    command = [node(), str(PINS / script), str(port), *arguments]
    with serving(command, port, environ=environ, speaks_http=speaks_http) as pid:
        yield port, pid


def python_packages() -> Path:
    """The directory with the Python packages of the peers, for this interpreter."""
    return _installed(
        SCRATCH / f"python-{sys.version_info.major}.{sys.version_info.minor}",
        ("requirements.lock",),
        [*_PIP_INSTALL, "--target", ".", "-r", "requirements.lock"],
    )


def environ_of_python() -> dict[str, str]:
    """The environment in which this interpreter finds the Python packages of the peers."""
    return {**os.environ, "PYTHONPATH": str(python_packages())}


def workerd() -> Path:
    """The server of Durable Objects, the binary itself: its launcher in `workerd/bin` would be a process of its own.

    Raises:
        MissingError: see `node_packages`, or none is built for this machine.
    """
    package = f"workerd-{platform.system().lower()}-{machine('64')}"
    found = node_packages() / "@cloudflare" / package / "bin" / "workerd"
    if not found.exists():
        raise MissingError(f"workerd is not built for {platform.system()} on {platform.machine()}")
    return found


def machine(intel: str) -> str:
    """What packages with programs call this machine: `intel` where it is one of those."""
    name = platform.machine().lower()
    return intel if name in _INTEL else "arm64" if name in _ARM else name


def node() -> str:
    """The path of `node`.

    Raises:
        MissingError: see `node_packages`.
    """
    path = _program("node", "nodejs")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        raise MissingError(f"node {NODE_MAJOR_MIN} or newer is needed, and this is {version}")
    return path


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"{name} is needed (Debian: {package})")
    return found


def _installed(folder: Path, pins: tuple[str, ...], command: list[str]) -> Path:
    """Run `command` in `folder` unless it ran there for these very pins."""
    wanted = "".join((PINS / name).read_text() for name in pins)
    marker = folder / ".installed"
    if marker.exists() and marker.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in pins:
        shutil.copy(PINS / name, folder)
    sys.stderr.write(f"installing the peers' packages into {os.path.relpath(folder)} ...\n")
    subprocess.run(command, cwd=folder, check=True)
    marker.write_text(wanted)
    return folder
