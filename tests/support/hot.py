"""Clients that write and read the same object at once, and the history of all that they were told."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import inf

from tests.support.ledger import Client, Load, entries_of
from tests.support.linearizable import Operation, Seen, append_list, unexplained, with_last_read

_PAUSE_S = 0.005


class Hot:
    """Threads that append to a ledger and read it, all the same one, until they are stopped; then on to the next.

    A read shows all that the ledger holds, so a ledger gets `LEDGER_CALLS` calls and no more.
    """

    CLIENTS = 4
    LEDGER_CALLS = 400

    def __init__(self, port: int) -> None:
        self.histories: dict[str, list[Operation]] = {}
        self.longest_s = 0.0
        self._port = port
        self._calls = count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.CLIENTS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let calls under way end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def faults(self, *, since_s: float = 0.0) -> list[str]:
        """Every ledger whose history is not linearizable, with what is there now as its end.

        What was sent before `since_s` may have been undone: it counts as of unknown outcome.
        """
        found = []
        for ledger, entries in entries_of(self._port, sorted(self.histories)).items():
            history = [_forgotten(each) if each.called < since_s else each for each in self.histories[ledger]]
            bad = unexplained(with_last_read(history, entries), append_list, Seen())
            if bad is not None:
                found.append(f"{ledger} has no order that explains {bad}")
        return found

    @property
    def operations(self) -> int:
        """How many calls are in the histories: those that were refused, and reads without an answer, say nothing."""
        return sum(map(len, self.histories.values()))

    @property
    def unknown(self) -> int:
        """Of how many nobody knows what became of them."""
        return sum(operation.answered == inf for history in self.histories.values() for operation in history)

    def _run(self) -> None:
        client = Client(self._port)
        while not self._stop.is_set():
            self._call(client, next(self._calls))
            time.sleep(_PAUSE_S)
        client.close()

    def _call(self, client: Client, number: int) -> None:
        ledger, entry = f"hot-{number // self.LEDGER_CALLS}", f"entry-{number}"
        called_s = time.monotonic()
        reads = random.random() < 0.4
        outcome, answer = (
            client.ask("GET", f"/entries/{ledger}") if reads else client.ask("POST", f"/append/{ledger}/{entry}")
        )
        answered_s = time.monotonic()
        self.longest_s = max(self.longest_s, answered_s - called_s)
        history = self.histories.setdefault(ledger, [])
        if outcome == "acknowledged" and reads:
            history.append(Operation("read", called_s, "", answered_s, Seen.of(answer)))
        elif outcome == "acknowledged":
            history.append(Operation("append", called_s, entry, answered_s, answer))
        elif outcome == "unknown" and not reads:
            history.append(Operation("append", called_s, entry))


def _forgotten(operation: Operation) -> Operation:
    return Operation(operation.what, operation.called, operation.argument)


@contextmanager
def loaded(load: Load, hot: Hot) -> Iterator[None]:
    """Clients at work; what they have asked is answered in the end."""
    load.start()
    hot.start()
    try:
        yield
    finally:
        load.stop()
        hot.stop()
