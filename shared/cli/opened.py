"""A store to work on as a whole: the one that is set, or that of the data directory, started if it does not run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.cli.doctor import SERVICES
from shared.errors import ConfigurationError
from shared.settings import NodeSettings
from shared.storage.embedded import EmbeddedStore
from shared.storage.lockfile import lock_directory

PREFIXES: Sequence[str] = tuple(prefix for _, prefix in SERVICES)
"""Of the keys of every service."""


@contextmanager
def opened_store(settings: NodeSettings, *, create: bool = False) -> Iterator[str]:
    """The address of the store. One that does not run in the data directory does so until the block ends.

    `create`: an empty one will do.

    Raises:
        ConfigurationError: there is none, or its directory is in use by a launcher whose store does not answer.
    """
    data_dir = Path(settings.data_dir).absolute()
    store = EmbeddedStore(data_dir)
    if settings.redis_url:
        yield settings.redis_url
    elif store.directory.is_dir() and store.answers():
        yield store.url
    elif create or store.directory.is_dir():
        with lock_directory(data_dir):
            store.start()
            try:
                yield store.url
            finally:
                store.stop()
    else:
        raise ConfigurationError(
            f"No store is in {data_dir}: `tenure run` makes one; or set TENURE_DATA_DIR or TENURE_REDIS_URL."
        )
