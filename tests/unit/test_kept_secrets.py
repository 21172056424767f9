"""Secrets that are made once: who can read them, and what becomes of them over a crash."""

import stat
from pathlib import Path

import pytest

from services.sessions.keys import read_keys
from shared.errors import ConfigurationError
from shared.runtime.kept_secrets import (
    admin_token,
    session_keys,
    session_keys_path,
    token_path,
    workflow_keys,
    workflow_keys_path,
)


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """Asked again it is the same; another directory has another one."""
    other = tmp_path / "other"
    other.mkdir()
    for make, path in (
        (admin_token, token_path),
        (session_keys, session_keys_path),
        (workflow_keys, workflow_keys_path),
    ):
        made = make(tmp_path)
        assert [made, True] == [make(tmp_path), made != make(other)]
        assert 0o600 == stat.S_IMODE(path(tmp_path).stat().st_mode)


def test_keys_of_tokens_can_be_read_by_the_session_manager(tmp_path: Path) -> None:
    """One routes, and one signs."""
    keys = read_keys(session_keys(tmp_path))
    assert (1, [1]) == (keys.signing_id, [*keys.signing])


def test_a_start_that_died_while_it_wrote_leaves_no_half_secret(tmp_path: Path) -> None:
    """What it had begun is not what is read, and is in nobody's way."""
    draft = session_keys_path(tmp_path).with_name("session-keys.new")
    draft.write_text("0:AAAA")
    assert 1 == read_keys(session_keys(tmp_path)).signing_id
    assert not draft.exists()


def test_what_is_there_is_never_made_anew(tmp_path: Path) -> None:
    """Not even where it can be no secret: other keys would sign everybody out."""
    session_keys_path(tmp_path).write_text("")
    assert "" == session_keys(tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """With one sentence that names the file."""
    with pytest.raises(ConfigurationError, match="session-keys cannot be used: No such file or directory"):
        session_keys(tmp_path / "none")
