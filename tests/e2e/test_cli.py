"""The `tenure` command as a process: its answers, its exit codes, and what it does not import."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cli.main import parser
from shared.testing.valkey import Valkey, start_valkey
from tests.support.commands import tenure
from tests.support.launching import ROOT, free_ports, processes_of
from tests.support.machine import load_s, slowness
from tests.support.service import limiter

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory of the store."""
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> Iterator[Valkey]:
    """A running store, as `tenure run` would have it."""
    with start_valkey(data_dir, durable=True) as running:
        yield running


def _levels(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in json.loads(done.stdout)}


def test_doctor_finds_the_embedded_store_sound(store: Valkey, data_dir: Path) -> None:
    """All checks of the store are fine; a service that does not run is a warning; exit code 0."""
    done = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(data_dir), TENURE_ADMIN_PORT="1")
    assert done.returncode == 0
    levels = _levels(done)
    assert ["warn"] * 3 == [levels.pop(name) for name in ("ratelimiter", "workflows", "sessions")]
    assert set(levels.values()) == {"ok"}
    assert {"version", "eviction", "durability", "clock"} <= set(levels)


def test_doctor_does_not_take_another_stores_node_for_this_ones(store: Valkey, tmp_path: Path) -> None:
    """A ready node is fine for its own store only; where none can be asked, nobody can tell."""
    with limiter(tmp_path / "other") as other:
        port = {"TENURE_ADMIN_PORT": str(other.run.admin_port)}
        own = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(other.run.data_dir), **port)
        foreign = tenure("doctor", "-o", "json", TENURE_REDIS_URL=store.url, **port)
        unknown = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(tmp_path / "none"), **port)

    for name in ("ratelimiter", "workflows", "sessions"):
        levels = [(done.returncode, _levels(done)[name]) for done in (own, foreign, unknown)]
        assert [(0, "ok"), (1, "fail"), (1, "warn")] == levels, name
    assert "is ready, but for another store than this one" in foreign.stdout


def test_doctor_fails_on_a_store_that_evicts(store: Valkey) -> None:
    """What a node would refuse is a failure in the table and in the exit code."""
    store.configure("maxmemory-policy", "allkeys-lru")
    done = tenure("doctor", TENURE_REDIS_URL=store.url, TENURE_ADMIN_PORT="1")
    assert done.returncode == 1
    assert "fail  eviction" in done.stdout


def test_doctor_fails_without_a_store(tmp_path: Path) -> None:
    """An absent store is one failed check, not a traceback."""
    done = tenure("doctor", "-o", "json", TENURE_DATA_DIR=str(tmp_path), TENURE_ADMIN_PORT="1")
    assert (done.returncode, done.stderr) == (1, "")
    assert _levels(done)["store"] == "fail"


def test_doctor_tells_a_store_that_stands_still_from_one_that_is_not_there(store: Valkey, data_dir: Path) -> None:
    """Nobody is told to start a second one."""
    pid = int((data_dir / "store" / "valkey.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        done = tenure("doctor", TENURE_DATA_DIR=str(data_dir), TENURE_ADMIN_PORT="1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert f"The store in {data_dir} does not answer, though its process is there." in done.stdout


def test_a_misspelt_value_is_one_sentence() -> None:
    """Exit code 2, no traceback."""
    done = tenure("doctor", TENURE_PORT="no")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tenure: TENURE_PORT is 'no', but must be a whole number from 1 to 65535.\n"


@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("run",),
        ("serve", "ratelimiter"),
        ("tenant", "create", "acme"),
        ("tenant", "list"),
        ("key", "list"),
        ("key", "revoke", "--tenant", "acme", "00"),
    ],
    ids=" ".join,
)
def test_no_command_passes_over_a_misspelt_name(command: tuple[str, ...], tmp_path: Path) -> None:
    """Whichever command reads the settings, a name that nobody reads ends it with the same sentence."""
    done = tenure(*command, TENURE_DATA_DIR=str(tmp_path), TENURE_REDIS_URI="redis://127.0.0.1:1")
    sentence = "tenure: There is no setting TENURE_REDIS_URI; did you mean TENURE_REDIS_URL?\n"
    assert (2, "", sentence) == (done.returncode, done.stdout, done.stderr)


def test_the_launcher_does_not_wait_for_what_it_does_not_use() -> None:
    """`tenure run` imports neither the store's client nor the web framework before it needs them."""
    program = "import shared.cli.run, sys; print([m for m in ('redis', 'litestar', 'uvicorn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_tenant_and_a_key_are_made_in_the_store(store: Valkey, data_dir: Path) -> None:
    """The key is alone on stdout; a second tenant of the name is refused, and so is an unknown scope."""
    here = {"TENURE_DATA_DIR": str(data_dir)}
    assert tenure("tenant", "create", "acme", **here).returncode == 0
    again = tenure("tenant", "create", "acme", **here)
    assert (again.returncode, again.stderr) == (1, "tenure: There is a tenant 'acme' already.\n")

    made = tenure("key", "create", "--tenant", "acme", "--scope", "limits:check", "--expires-days", "7", **here)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("tnk_")
    assert len(made.stdout.splitlines()) == 1
    assert made.stdout.strip().encode() not in store.command("HVALS", "{tenure:m}:docs")

    typo = tenure("key", "create", "--tenant", "acme", "--scope", "limit:check", **here)
    assert (typo.returncode, typo.stdout) == (2, "")
    assert "limits:check" in typo.stderr


def test_a_key_needs_a_tenant(store: Valkey) -> None:
    """A misspelt tenant must not become one by the way."""
    done = tenure("key", "create", "--tenant", "nobody", "--scope", "limits:check", TENURE_REDIS_URL=store.url)
    assert (done.returncode, done.stderr) == (1, "tenure: There is no tenant 'nobody'.\n")


def test_keys_are_listed_and_revoked(store: Valkey) -> None:
    """A list shows whose key it is, what it may do and how to find it, in both forms; revoked, it is gone."""
    here = {"TENURE_REDIS_URL": store.url}
    assert 0 == tenure("tenant", "create", "acme", **here).returncode
    made = tenure("key", "create", "--tenant", "acme", "--scope", "limits:check", "--label", "ci", **here)
    text = made.stdout.strip()
    digest = hashlib.sha256(text.encode()).hexdigest()

    shown = tenure("key", "list", **here)
    as_json = tenure("key", "list", "--tenant", "acme", "-o", "json", **here)
    (key,) = json.loads(as_json.stdout)
    head, row = shown.stdout.splitlines()
    assert ["TENANT", "ID", "DIGEST", "STATE", "SCOPES", "CREATED", "CHANGED", "EXPIRES", "LABEL"] == head.split()
    assert ["acme", key["id"], digest[:12], "valid", "limits:check"] == row.split()[:5]
    assert (digest[:12], ["limits:check"], "ci", None) == (
        key["digest"],
        key["scopes"],
        key["label"],
        key["expires_ms"],
    )
    for said in (shown.stdout, as_json.stdout):
        assert text not in said
        assert digest not in said

    revoke = ("key", "revoke", "--tenant", "acme", key["id"])
    gone = tenure(*revoke, **here)
    assert (0, f"Key {key['id']} of tenant acme is revoked: every node refuses it within 2 s.\n") == (
        gone.returncode,
        gone.stdout,
    )
    again = tenure(*revoke, **here)
    sentence = f"tenure: There is no key '{key['id']}' of tenant 'acme': it is revoked already, or never was.\n"
    assert (1, sentence) == (again.returncode, again.stderr)
    assert [] == json.loads(tenure("key", "list", "-o", "json", **here).stdout)


def test_a_key_is_revoked_by_the_digest_that_its_holder_can_make(store: Valkey) -> None:
    """The column of the list, or more of the digest; less of it is no name of a key."""
    here = {"TENURE_REDIS_URL": store.url}
    assert 0 == tenure("tenant", "create", "acme", **here).returncode
    made = tenure("key", "create", "--tenant", "acme", "--scope", "limits:read,limits:check", **here)
    digest = hashlib.sha256(made.stdout.strip().encode()).hexdigest()
    (key,) = json.loads(tenure("key", "list", "-o", "json", **here).stdout)

    assert ["limits:check", "limits:read"] == key["scopes"]
    assert 1 == tenure("key", "revoke", "--tenant", "acme", digest[:11], **here).returncode
    gone = tenure("key", "revoke", "--tenant", "acme", key["digest"].upper(), **here)
    assert (0, f"Key {key['id']} of tenant acme is revoked: every node refuses it within 2 s.\n") == (
        gone.returncode,
        gone.stdout,
    )


def test_keys_and_tenants_need_no_running_store(data_dir: Path) -> None:
    """The store of a data directory is started for the command, as for a backup; where none is, none is made."""
    here = {"TENURE_DATA_DIR": str(data_dir)}
    absent = tenure("tenant", "create", "acme", **here)
    assert (2, False) == (absent.returncode, data_dir.exists())
    assert f"No store is in {data_dir}: `tenure run` makes one;" in absent.stderr

    with start_valkey(data_dir, durable=True):
        pass
    for command in (
        ("tenant", "create", "acme"),
        ("tenant", "disable", "acme"),
        ("tenant", "enable", "acme"),
        ("key", "create", "--tenant", "acme", "--scope", "limits:check"),
    ):
        done = tenure(*command, **here)
        assert 0 == done.returncode, done.stderr
    (key,) = json.loads(tenure("key", "list", "-o", "json", **here).stdout)
    assert 0 == tenure("key", "revoke", "--tenant", "acme", key["id"], **here).returncode
    assert ["acme"] == [one["name"] for one in json.loads(tenure("tenant", "list", "-o", "json", **here).stdout)]
    assert {} == processes_of(data_dir)


@pytest.mark.parametrize(
    ("module", "exit_code"), [("shared.cli.main", -signal.SIGINT), ("shared.cli.doctor", 130)], ids=["early", "later"]
)
def test_ctrl_c_is_no_traceback_while_a_command_is_loaded(module: str, exit_code: int) -> None:
    """It comes in the middle of an import, and nothing is said: as the signal ends a program, or as shells tell it."""
    program = f"""
import os, signal, sys

class Interrupting:
    @staticmethod
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
sys.argv = ["tenure", "doctor"]
from shared.cli.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (exit_code, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "usage", "said"),
    [
        (("objects", "list", "--kind", "k", "--tenant", "t", "--bogus"), "tenure objects list ", "--bogus"),
        (("key", "create", "--tenant", "t"), "tenure key create ", "--scope"),
        (("backup",), "tenure backup ", "file"),
        (("tenant",), "tenure tenant ", "disable"),
        (("tennant",), "tenure ", "'tennant'"),
        ((), "tenure ", "doctor"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_by_the_command_that_it_was_made_in(
    arguments: tuple[str, ...], usage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own usage, not that of all commands; exit code 2."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    told = capsys.readouterr().err
    assert (2, True, True) == (ended.value.code, told.startswith(f"usage: {usage}"), said in told)


def test_tenants_are_listed_disabled_and_enabled(store: Valkey) -> None:
    """The list says in which state each is; a tenant that is not there is one sentence."""
    here = {"TENURE_REDIS_URL": store.url}
    for name in ("beta", "acme"):
        assert 0 == tenure("tenant", "create", name, **here).returncode
    off = tenure("tenant", "disable", "beta", **here)
    assert (0, "Tenant beta is disabled: every node refuses its keys within 2 s.\n") == (off.returncode, off.stdout)

    rows = [line.split()[:2] for line in tenure("tenant", "list", **here).stdout.splitlines()]
    assert [["NAME", "STATE"], ["acme", "enabled"], ["beta", "disabled"]] == rows

    on = tenure("tenant", "enable", "beta", **here)
    assert (0, "Tenant beta is enabled: every node takes its keys within 2 s.\n") == (on.returncode, on.stdout)
    states = {one["name"]: one["state"] for one in json.loads(tenure("tenant", "list", "-o", "json", **here).stdout)}
    assert {"acme": "enabled", "beta": "enabled"} == states

    absent = tenure("tenant", "disable", "nobody", **here)
    assert (1, "tenure: There is no tenant 'nobody'.\n") == (absent.returncode, absent.stderr)


def test_a_wrong_password_ends_the_start_at_once(store: Valkey) -> None:
    """`serve` does not wait for what waiting cannot mend: one sentence, exit code 2. Other commands say it too."""
    url = store.url.replace("unix://", "unix://default:wrong@")
    assert b"+OK\r\n" == store.command("ACL", "SETUSER", "default", "resetpass", ">right")
    port, admin_port = free_ports(2)
    here = {"TENURE_REDIS_URL": url, "TENURE_PORT": str(port), "TENURE_ADMIN_PORT": str(admin_port)}
    within_s = 9 * slowness([load_s()])  # Two starts of Python; the wait for an absent store is 10 s.
    begun_s = time.monotonic()
    served, listed = tenure("serve", "ratelimiter", **here), tenure("tenant", "list", **here)

    assert time.monotonic() - begun_s < within_s
    assert (2, 1) == (served.returncode, listed.returncode)
    for done in (served, listed):
        assert done.stderr.startswith("tenure: The store does not let us in: ")
        assert 1 == len(done.stderr.splitlines())
    assert "TENURE_REDIS_URL" in served.stderr


def test_serve_says_at_once_that_its_store_is_away() -> None:
    """The first line of the log comes while it still waits, and names the reason."""
    port, admin_port, nobody = free_ports(3)
    environ = {"TENURE_REDIS_URL": f"redis://127.0.0.1:{nobody}", "TENURE_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "shared.cli", "serve", "ratelimiter"],
        cwd=ROOT,
        env={**os.environ, **environ, "TENURE_ADMIN_PORT": str(admin_port)},
        stdout=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        line = json.loads(waiting.stdout.readline())
        still_waiting = waiting.poll() is None
        waiting.kill()

    assert ("store.unreached", True) == (line["event"], still_waiting)
    assert "cannot be reached" in line["error"]
