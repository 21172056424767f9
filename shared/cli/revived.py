"""A snapshot brought to life: a server of our own, in a directory that is gone afterwards, that holds what it holds.

So a snapshot is read by commands, whatever its inner form, and can be written into a server of another release.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.storage.archive import Archive
from shared.storage.embedded import EmbeddedStore
from shared.storage.leftover import StoreStartError
from shared.storage.lockfile import make_private

_BASE = "appendonly.aof.1.base.rdb"


@contextmanager
def revived(archive: Archive) -> Iterator[str]:
    """The address of a server with the snapshot that is the body of `archive`.

    Raises:
        StoreStartError: the server that comes along does not read it; a newer one has made it.
        ConfigurationError: there is no server for this machine, or no room for its directory.
    """
    with tempfile.TemporaryDirectory(prefix="tenure-") as directory:
        store = EmbeddedStore(Path(directory))
        log = store.directory / "appendonlydir"
        make_private(store.directory)
        make_private(log)
        with archive.body() as body:
            body.copy_to(log / _BASE)
        (log / "appendonly.aof.manifest").write_text(f"file {_BASE} seq 1 type b\n")
        try:
            store.start(timeout_ms=600_000)
        except StoreStartError as exc:
            raise StoreStartError(f"The snapshot cannot be read by the store that comes along. {exc}") from exc
        try:
            yield store.url
        finally:
            store.kill()
