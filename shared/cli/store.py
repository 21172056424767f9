"""Where the store is, for commands that talk to it directly."""

from collections.abc import Mapping
from pathlib import Path

from shared.errors import ConfigurationError
from shared.settings import NodeSettings, read_settings
from shared.storage.embedded import EmbeddedStore


def node_settings(environ: Mapping[str, str]) -> NodeSettings:
    """The settings of a node here. No service has others, so a name that is none of these is a mistake."""
    return read_settings(NodeSettings, environ)


def store_url(settings: NodeSettings) -> str:
    """The address of the store: the one that is set, or the running one in the data directory.

    Raises:
        ConfigurationError: neither is there, or that one does not answer.
    """
    if settings.redis_url:
        return settings.redis_url
    data_dir = Path(settings.data_dir)
    if data_dir.is_dir():
        store = EmbeddedStore(data_dir)
        if store.answers():
            return store.url
        if store.listens():
            raise ConfigurationError(
                f"The store in {data_dir.absolute()} does not answer, though its process is there."
            )
    raise ConfigurationError(
        f"No store runs in {data_dir.absolute()}: start `tenure run`, or set TENURE_DATA_DIR or TENURE_REDIS_URL."
    )
