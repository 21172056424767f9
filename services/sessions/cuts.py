"""When principals tell of sessions that their tenant has ended with all others.

Ending everything of a tenant is one document (`services.sessions.directory`): no token of before counts any more, and
no principal is asked, of which there may be a million. A principal tells of it, in its feed and to its subscribers,
when it has a reason to look. This is where it gets one: at once where somebody listens to it on this node, and when
one of those tokens comes. Else it looks when a session of it begins or is ended, or at its next alarm.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from services.sessions.bounds import CUT_LOOKS_AT_ONCE, CUT_LOOKS_WAITING_MAX
from services.sessions.desk import Call
from services.sessions.directory import CUT, Directory
from services.sessions.principal import Principal
from shared.bounds import RETRY_AFTER_MS
from shared.errors import TenureError
from shared.objects.address import Address
from shared.objects.config import Document, Documents


class Cuts:
    """Has principals of one node look what their tenants have ended; a few at a time, and each once for all who ask."""

    def __init__(self, directory: Directory, documents: Documents, call: Call) -> None:
        self._directory = directory
        self._call = call
        self._listened: Counter[Address] = Counter()
        self._waiting: dict[Address, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        documents.subscribe(CUT, self._cut)

    @contextmanager
    def listening(self, address: Address) -> Iterator[None]:
        """Somebody listens to a principal: it tells of what was ended before, and of what is within a second."""
        self._listened[address] += 1
        self._look(address)
        try:
            yield
        finally:
            self._listened[address] -= 1
            if not self._listened[address]:
                del self._listened[address]

    def came(self, address: Address) -> None:
        """A token came that its tenant has ended. Where very many do, some principals wait for the next that comes."""
        if len(self._waiting) < CUT_LOOKS_WAITING_MAX:
            self._look(address)

    def _cut(self, tenant: str, _: str, __: Document | None) -> None:
        for address in [address for address in self._listened if address.tenant == tenant]:
            self._look(address)

    def _look(self, address: Address) -> None:
        self._waiting[address] = None
        if len(self._tasks) < CUT_LOOKS_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._waiting:
            address = next(iter(self._waiting))
            del self._waiting[address]
            try:
                rules = self._directory.rules(address.tenant)
                if rules.not_before_ms:
                    await self._call(address, Principal.catch_up, rules)
            except TenureError:
                asyncio.get_running_loop().call_later(RETRY_AFTER_MS / 1_000, self._again, address)

    def _again(self, address: Address) -> None:
        """It could not be asked: who listens waits for it, and nobody else."""
        if address in self._listened:
            self._look(address)
