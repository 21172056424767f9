"""Clients of the ledger service: single calls, and a load that notes all that it was told."""

import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.history import Append, Armed, Outcome
from tests.support.launching import RUN_STANDIN, Launched, launched, put_development_key
from tests.support.ledger_service import DEFINITE

RUN_LEDGER = (sys.executable, str(RUN_STANDIN), "ledger")
ANSWER_S_MAX = 10
_PAUSE_S = 0.01  # After a call that failed: the service is down, and asking faster would only slow its start.


class Client:
    """One client of the service on `port`, over one connection that it opens anew when it has broken."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, method: str, path: str) -> tuple[Outcome, Any]:
        """One call: its outcome, and what was answered."""
        try:
            self._connection.request(method, path)
            answer = self._connection.getresponse()
            body = json.loads(answer.read())
        except ConnectionRefusedError:
            return "refused", "nobody listens"
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            return "unknown", repr(exc)
        if answer.status == 200:
            return "acknowledged", body
        return ("refused" if body in DEFINITE else "unknown"), body

    def append(self, ledger: str, entry: str, *, route: str = "append") -> Append:
        """Append `entry` and note what came of it."""
        sent_s = time.monotonic()
        outcome, answer = self.ask("POST", f"/{route}/{ledger}/{entry}")
        answered_s = time.monotonic()
        if outcome == "acknowledged":
            return Append(ledger, entry, sent_s, outcome, answered_s, answer)
        return Append(ledger, entry, sent_s, outcome)

    def read(self, path: str) -> Any:
        """What is there, which must be answered."""
        outcome, answer = self.ask("GET", path)
        assert "acknowledged" == outcome, answer
        return answer


class Load:
    """Threads that append and arm until they are stopped. Reading `appends` and `armed` meanwhile is safe."""

    LEDGERS = 4  # That are appended to at the same time.
    LEDGER_APPENDS = 2_000  # Of each thread, to all of these; then it goes on to new ones, as an object has its bound.
    BELLS = tuple(f"bell-{i}" for i in range(16))
    ARM_S = 0.03

    def __init__(self, port: int, *, appenders: int = 6) -> None:
        self.appends: list[Append] = []
        self.armed: list[Armed] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._append, args=(f"{i}",)) for i in range(appenders)]
        self._threads.append(threading.Thread(target=self._arm))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let calls under way end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def ledgers(self) -> list[str]:
        """The names of all ledgers that an append was sent to."""
        return sorted({append.ledger for append in self.appends})

    def answered_after(self, moment_s: float) -> float | None:
        """When the first append that was sent after `moment_s` was acknowledged, if one was yet."""
        recent = self.appends[-2_000:]
        answered = [a.answered_s for a in recent if a.outcome == "acknowledged" and a.sent_s > moment_s]
        return min(answered, default=None)

    def _append(self, who: str) -> None:
        client = Client(self._port)
        for number in count():
            if self._stop.is_set():
                break
            ledger = f"ledger-{number // self.LEDGER_APPENDS}-{number % self.LEDGERS}"
            append = client.append(ledger, f"{who}-{number}")
            self.appends.append(append)
            if append.outcome != "acknowledged":
                time.sleep(_PAUSE_S)
        client.close()

    def _arm(self) -> None:
        client = Client(self._port)
        for number in count():
            if self._stop.is_set():
                break
            bell, name = self.BELLS[number % len(self.BELLS)], f"alarm-{number}"
            outcome, due_ms = client.ask("POST", f"/arm/{bell}/{name}/{random.randint(200, 1_500)}")
            if outcome == "acknowledged":
                self.armed.append(Armed(bell, name, due_ms))
            time.sleep(self.ARM_S)
        client.close()


def entries_of(port: int, ledgers: Sequence[str]) -> Mapping[str, list[str]]:
    """What the ledgers hold."""
    client = Client(port)
    try:
        return {ledger: client.read(f"/entries/{ledger}") for ledger in ledgers}
    finally:
        client.close()


def rings_of(port: int, bells: Sequence[str]) -> Mapping[str, Mapping[str, list[tuple[int, int]]]]:
    """What has rung."""
    client = Client(port)
    try:
        return {bell: client.read(f"/rings/{bell}") for bell in bells}
    finally:
        client.close()


@contextmanager
def ledger_run(data_dir: Path, **environ: str) -> Iterator[Launched]:
    """A `tenure run` of the ledger service; everything of it is gone in the end."""
    data_dir.mkdir(mode=0o700)
    put_development_key(data_dir, "tnk_test")
    with launched(data_dir, command=RUN_LEDGER, **environ) as run:
        yield run
