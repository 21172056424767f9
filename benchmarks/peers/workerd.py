"""Durable Objects on workerd, the runtime of Cloudflare, from npm: with its storage on the local disk, or in memory.

On disk each object is an SQLite file, and each commit is synced (seen with strace: one fsync a write) before the
output gate opens: the same promise as ours under `appendfsync always`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.packages import PINS, workerd
from benchmarks.serving import serving
from tests.support.launching import free_ports

ON_DISK = 'localDisk = "disk"'
IN_MEMORY = "inMemory = void"


@contextmanager
def durable_objects(folder: Path, script: str, class_name: str, *, storage: str) -> Iterator[tuple[int, int]]:
    """Port and process of a server of `class_name`, which `benchmarks/peers/<script>` exports; its files in `folder`.

    Raises:
        MissingError: it is not to be had on this machine.
    """
    server = workerd()
    (port,) = free_ports(1)
    stored = folder / "objects"
    stored.mkdir(parents=True)
    config = (PINS / "objects.capnp").read_text()
    for name, value in (("folder", str(stored)), ("port", str(port)), ("class", class_name), ("storage", storage)):
        config = config.replace("{{" + name + "}}", value)
    (folder / "config.capnp").write_text(config)
    (folder / "main.js").write_text((PINS / script).read_text())
    with serving([str(server), "serve", str(folder / "config.capnp")], port, environ=dict(os.environ)) as pid:
        yield port, pid
