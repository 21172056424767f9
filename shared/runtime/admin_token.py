"""The token of the operator's API in a data directory: made once by `tenure run`, read by the `tenure` commands.

The file can be read by its owner alone, as the directory can: whoever can read it could read the store as well.
"""

import os
import secrets
from pathlib import Path

from shared.errors import ConfigurationError


def token_path(data_dir: Path) -> Path:
    """Where the token stands."""
    return data_dir / "admin-token"


def admin_token(data_dir: Path) -> str:
    """The token of the directory, made on first use.

    Raises:
        ConfigurationError: it can be neither read nor written.
    """
    path = token_path(data_dir)
    try:
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        except FileExistsError:
            pass  # A launcher holds the directory's lock while it makes one, so what is there is whole.
        return path.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(f"The admin token in {path} cannot be used: {exc.strerror}.") from exc
