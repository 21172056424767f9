"""The store goes back in time under a node that works: it notices, answers from what is stored, and goes on from there.

Real processes under load. Back it goes by `tenure restore --live`, which gives every lease a new token; and by an older copy of
its directory, with which the tokens come back too, so that only the numbers of commits tell.
"""

import shutil
import sys
import time
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import NamedTuple

import pytest

from shared.testing.valkey import Valkey, start_valkey
from tests.support.commands import tenure
from tests.support.environment import PROVE
from tests.support.history import Append, faults_of_appends
from tests.support.hot import Hot, loaded
from tests.support.launching import Launched, eventually
from tests.support.ledger import ANSWER_S_MAX, Load, entries_of, ledger_run

ROUNDS = 10 if PROVE else 1
LIFE_S = 1.5
"""Between a backup and the restore, and on both sides of them."""
NOTICED_S_MAX = 2.5
"""A renewal, and its answer: how long memory may be newer than a store that says nothing of having gone back."""
BACK_S_MAX = 10
ROLLBACKS = "tenure_store_rollbacks_total"

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(3_600 if PROVE else 120),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


class Commands:
    """`tenure backup` and `tenure restore`."""

    noticed_s = 0.0  # No former owner can do anything from the first step of the restore on.

    def __init__(self, store: Valkey, directory: Path) -> None:
        self._url = store.url
        self._file = directory / "backup"

    def keep(self) -> None:
        self._run("backup")

    def bring_back(self) -> None:
        self._run("restore", "--replace", "--live")
        self._file.unlink()

    def _run(self, command: str, *flags: str) -> None:
        done = tenure(command, str(self._file), *flags, TENURE_REDIS_URL=self._url)
        assert 0 == done.returncode, done.stderr


class Copy:
    """The server's own files, copied while it is stopped."""

    noticed_s = NOTICED_S_MAX

    def __init__(self, store: Valkey, directory: Path) -> None:
        self._store = store
        self._log, self._copy = directory / "store" / "store" / "appendonlydir", directory / "copy"

    def keep(self) -> None:
        self._store.kill()
        shutil.copytree(self._log, self._copy)
        self._store.start()

    def bring_back(self) -> None:
        self._store.kill()
        shutil.rmtree(self._log)
        self._copy.rename(self._log)
        self._store.start()


Way = Commands | Copy


class Past(NamedTuple):
    """When the store was kept, and when it went back to that: from and until, in s of the test's clock."""

    kept_from_s: float
    kept_by_s: float
    back_from_s: float
    back_by_s: float

    def is_undone(self, append: Append) -> bool:
        """Whether it was acknowledged, and all of that happened between."""
        acknowledged = append.outcome == "acknowledged"
        return acknowledged and self.kept_by_s < append.sent_s and append.answered_s < self.back_from_s

    def judged(self, append: Append) -> Append:
        """What must be true of it in the end: undone is as good as refused, and what met a seam is unknown."""
        if self.is_undone(append):
            return append._replace(outcome="refused")
        is_kept = append.answered_s < self.kept_from_s or append.sent_s > self.back_by_s
        return append if is_kept or append.outcome == "refused" else append._replace(outcome="unknown", answered_s=inf)


@pytest.mark.parametrize("way", [Commands, Copy])
def test_a_store_that_went_back_is_noticed_and_worked_on(way: type[Way], tmp_path: Path) -> None:
    """What was acknowledged before the backup and after the restore is there, what came between is gone, nothing hangs."""
    for number in range(ROUNDS):
        directory = tmp_path / f"{number}"
        directory.mkdir()
        with ExitStack() as stack:
            store = stack.enter_context(start_valkey(directory / "store", durable=True))
            run = stack.enter_context(ledger_run(directory / "data", TENURE_REDIS_URL=store.url)).ready()
            _go_back_and_judge(way(store, directory), run)


def _go_back_and_judge(way: Way, run: Launched) -> None:
    load, hot = Load(run.port, appenders=3), Hot(run.port)
    with loaded(load, hot):
        past = _go_back(way)
        answered_s = eventually(lambda: load.answered_after(past.back_by_s), within_s=BACK_S_MAX) or past.back_by_s
        rollbacks = eventually(lambda: run.metric(ROLLBACKS), within_s=BACK_S_MAX)
        time.sleep(way.noticed_s + LIFE_S)
    entries = entries_of(run.port, load.ledgers)
    assert [] == faults_of_appends([past.judged(append) for append in load.appends], entries)
    assert [] == hot.faults(since_s=past.back_by_s + way.noticed_s)

    undone = sum(past.is_undone(append) for append in load.appends)
    after = sum(append.outcome == "acknowledged" and append.sent_s > past.back_by_s for append in load.appends)
    sys.stdout.write(
        f"{type(way).__name__}: {undone} acknowledged appends of {past.back_from_s - past.kept_by_s:.1f} s undone,"
        f" {rollbacks:.0f} shards counted; served again {answered_s - past.back_by_s:.2f} s after the restore, which"
        f" took {past.back_by_s - past.back_from_s:.2f} s, and {after} appends acknowledged after it;"
        f" longest answer {hot.longest_s:.1f} s\n"
    )
    assert undone > 20, "there was nothing to undo"
    assert after > 20, "there was no load after it"
    assert hot.longest_s < ANSWER_S_MAX, "a call was not answered"


def _go_back(way: Way) -> Past:
    """Under the load: keep the store, go on, bring it back."""
    time.sleep(LIFE_S)
    kept_from_s = time.monotonic()
    way.keep()
    kept_by_s = time.monotonic()
    time.sleep(LIFE_S)
    back_from_s = time.monotonic()
    way.bring_back()
    return Past(kept_from_s, kept_by_s, back_from_s, time.monotonic())
