"""`tenure run` with real processes: what it starts lives, dies and is restarted as promised.

A stand-in takes the place of the service here, so that these tests see the launcher alone.
"""

import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from shared.runtime.development import scopes_path
from shared.storage.embedded import EmbeddedStore
from shared.storage.records import SCOPES
from tests.support.launching import Launched, eventually, launched, processes_of, put_development_key

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; children are tethered on Linux only"),
]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory whose development key exists, which the stand-in takes for valid."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    put_development_key(directory, "tnk_test")
    return directory


def _gone(data_dir: Path) -> bool:
    return not processes_of(data_dir)


def _answers_with_another_pid(run: Launched, pid: int) -> bool:
    return run.answer() not in ("", str(pid))


def test_prints_calls_with_the_key_and_stops_on_ctrl_c(data_dir: Path) -> None:
    """The screen shows addresses and the key; Ctrl-C ends all of it with exit code 0."""
    with launched(data_dir) as run:
        run.ready()
        assert f"http://127.0.0.1:{run.port}/v1/check" in run.screen
        assert "KEY=tnk_test" in run.screen
        assert run.answer() == str(run.pid_of("standin_service"))
        assert EmbeddedStore(data_dir).answers()
        run.process.send_signal(signal.SIGINT)
        assert run.exit_code() == 0
        assert processes_of(data_dir) == {}
        assert not EmbeddedStore(data_dir).socket_path.exists()


def test_a_killed_service_is_started_again(data_dir: Path) -> None:
    """After `kill -9` another process answers in its place."""
    with launched(data_dir) as run:
        pid = run.ready().pid_of("standin_service")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: _answers_with_another_pid(run, pid), within_s=10)
        assert "standin ended (SIGKILL); starting it again." in run.errors


def test_a_killed_store_is_started_again(data_dir: Path) -> None:
    """After `kill -9` of the store another one answers on the same socket."""
    with launched(data_dir) as run:
        pid = run.ready().pid_of("valkey-server")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: "the store ended (SIGKILL)" in run.errors, within_s=10)
        eventually(EmbeddedStore(data_dir).answers, within_s=10)
        assert run.pid_of("valkey-server") != pid


def test_children_die_with_a_killed_launcher(data_dir: Path) -> None:
    """The kernel ends service and store when the launcher is killed, and the next run starts at once."""
    with launched(data_dir) as run:
        run.ready()
        run.process.kill()
        run.process.wait()
        eventually(lambda: _gone(data_dir), within_s=10)
    with launched(data_dir) as run:
        run.ready()


def test_a_directory_in_use_is_refused(data_dir: Path) -> None:
    """A second launcher names the first in one sentence, and leaves it alone."""
    with launched(data_dir) as first:
        first.ready()
        with launched(data_dir) as second:
            assert second.exit_code() == 2
            expected = f"tenure: The data directory {data_dir} is in use by process {first.process.pid}.\n"
            assert second.errors == expected
            assert first.answer()


def test_a_port_in_use_is_refused(data_dir: Path) -> None:
    """One sentence, exit code 2, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with launched(data_dir, TENURE_PORT=str(port)) as run:
            assert run.exit_code() == 2
            assert run.errors == f"tenure: Port {port} on 127.0.0.1 is in use; set TENURE_PORT to a free one.\n"
            assert processes_of(data_dir) == {}


def test_a_refusal_of_a_service_ends_everything(data_dir: Path) -> None:
    """A service that cannot run as configured is not restarted; its sentence is the launcher's."""
    with launched(data_dir, STANDIN_REFUSES="The store evicts keys.") as run:
        assert run.exit_code() == 2
        assert run.errors == "tenure: The store evicts keys.\n"
        assert processes_of(data_dir) == {}


def test_a_first_start_that_is_refused_leaves_no_directory(tmp_path: Path) -> None:
    """A port in use, or a service that cannot run as configured: the next start finds nothing fixed."""
    new = tmp_path / "new"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with launched(new, TENURE_PORT=str(taken.getsockname()[1])) as run:
            assert (2, False) == (run.exit_code(), new.exists())
        with launched(new, STANDIN_REFUSES="The store evicts keys.") as run:
            assert (2, False) == (run.exit_code(), new.exists())


def test_a_refusal_leaves_alone_what_was_there(tmp_path: Path) -> None:
    """Only what this start itself has made is taken away again."""
    (tmp_path / "mine").write_text("kept")
    with launched(tmp_path, STANDIN_REFUSES="The store evicts keys.") as run:
        assert (2, "kept") == (run.exit_code(), (tmp_path / "mine").read_text())


def test_a_second_ctrl_c_does_not_wait(data_dir: Path) -> None:
    """A service that does not end is killed at once when asked twice."""
    with launched(data_dir, STANDIN_DEAF="1") as run:
        run.ready()
        run.process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping." in run.errors, within_s=10)
        run.process.send_signal(signal.SIGINT)
        assert run.exit_code(within_s=15) == 0
        assert processes_of(data_dir) == {}


def test_an_external_store_is_used_as_it_is(data_dir: Path, tmp_path: Path) -> None:
    """With an address given, no store is started, and the given one is not stopped."""
    store = EmbeddedStore(tmp_path / "external")
    store.start()
    try:
        with launched(data_dir, TENURE_REDIS_URL=store.url) as run:
            run.ready()
            assert [] == [command for command in processes_of(data_dir).values() if "valkey-server" in command]
            run.process.terminate()
            assert run.exit_code() == 0
        assert store.answers()
    finally:
        store.stop()


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """One sentence, exit code 2."""
    (tmp_path / "file").write_text("")
    with launched(tmp_path / "file" / "data") as run:
        assert run.exit_code() == 2
        assert run.errors == f"tenure: The directory {tmp_path}/file/data cannot be made: Not a directory.\n"


def test_the_first_run_makes_a_key_and_the_next_keeps_it(data_dir: Path) -> None:
    """The key is stored for this user alone, and what was printed once stays valid."""
    path = data_dir / "dev-key"
    path.unlink()
    keys = []
    for _ in range(2):
        with launched(data_dir) as run:
            run.ready()
            keys.append(path.read_text().strip())
            assert f"KEY={keys[-1]}" in run.screen
            run.process.terminate()
            assert run.exit_code() == 0
    assert keys[0].startswith("tnk_")
    assert keys[0] == keys[1]
    assert [0o600, 0o600] == [stat.S_IMODE(file.stat().st_mode) for file in (path, scopes_path(data_dir))]


@pytest.mark.parametrize("known", ["limits:check\n", None])
def test_a_key_of_an_earlier_release_gives_way_to_one_with_every_scope(data_dir: Path, known: str | None) -> None:
    """Made when there were fewer scopes, or when nobody noted which: it is valid, and not enough."""
    scopes_path(data_dir).unlink() if known is None else scopes_path(data_dir).write_text(known)
    with launched(data_dir) as run:
        run.ready()
        assert "KEY=tnk_test" not in run.screen
    assert sorted(SCOPES) == scopes_path(data_dir).read_text().split()
