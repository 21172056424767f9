"""Secrets that `tenure run` makes once and keeps in the data directory: its admin token, the keys of its services.

Their files can be read by their owner alone, as the directory can: whoever can read them could read the store as well.
A file is there whole or not at all, and on the disk before anybody uses what it holds.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from shared.errors import ConfigurationError


def token_path(data_dir: Path) -> Path:
    """Where the token of the operator's API stands; the `tenure` commands read it there."""
    return data_dir / "admin-token"


def session_keys_path(data_dir: Path) -> Path:
    """Where the keys of session tokens stand. Without them nobody's token counts any more."""
    return data_dir / "session-keys"


def workflow_keys_path(data_dir: Path) -> Path:
    """Where the key of callbacks and webhooks stands. Without it no callback is known, and webhooks are signed anew."""
    return data_dir / "workflow-keys"


def admin_token(data_dir: Path) -> str:
    """The token of the operator's API, made on first use.

    Raises:
        ConfigurationError: it can be neither read nor written.
    """
    return _kept(token_path(data_dir), lambda: secrets.token_urlsafe(32))


def session_keys(data_dir: Path) -> str:
    """The keys of session tokens, one that routes and one that signs, made on first use.

    Raises:
        ConfigurationError: they can be neither read nor written.
    """
    return _kept(
        session_keys_path(data_dir), lambda: ",".join(f"{key_id}:{secrets.token_urlsafe(32)}" for key_id in (0, 1))
    )


def workflow_keys(data_dir: Path) -> str:
    """The key of callbacks and webhooks, made on first use.

    Raises:
        ConfigurationError: it can be neither read nor written.
    """
    return _kept(workflow_keys_path(data_dir), lambda: f"1:{secrets.token_urlsafe(32)}")


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read: whole, and on the disk when this returns.

    Raises:
        OSError: it cannot be written; what was there is there.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # Of a start that was killed.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; made first where there is none. Whoever makes it holds the directory's lock."""
    try:
        if not path.exists():
            write_private(path, make() + "\n")
        return path.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(f"The secret in {path} cannot be used: {exc.strerror}.") from exc
