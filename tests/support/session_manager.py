"""A session manager as a real process on a store of the test's own, started, paused and killed as the test says."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared.clock import SystemClock
from shared.runtime.documents import open_documents
from shared.runtime.provision import create_key, create_tenant
from shared.storage.records import SCOPES
from shared.testing.valkey import start_valkey
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.signing_in import KEYS

COMMAND = (sys.executable, "-m", "services.sessions")


class Manager:
    """A session manager that a test starts and kills."""

    def __init__(self, directory: Path, redis_url: str, *, key: str = "", **environ: str) -> None:
        self.redis_url = redis_url
        self.port, self.admin_port = free_ports(2)
        self._log = directory / "sessions.log"
        self._environ = {
            **os.environ,
            "TENURE_REDIS_URL": redis_url,
            "TENURE_DATA_DIR": str(directory),
            "TENURE_PORT": str(self.port),
            "TENURE_ADMIN_PORT": str(self.admin_port),
            "TENURE_LEASE_TTL_MS": "1000",
            "TENURE_SESSION_KEYS": KEYS,
            **environ,
        }
        self.key = key or asyncio.run(new_key(redis_url))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(COMMAND, cwd=ROOT, env=self._environ, stdout=log, stderr=log)
        eventually(lambda: self._answer("GET", "/health/ready", port=self.admin_port)[0] == 200, within_s=20)

    def kill(self) -> None:
        """As `kill -9`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and body of an answer, which is waited for while the service starts."""
        known: list[tuple[int, Any]] = []

        def answered() -> bool:
            answer = self._answer(method, path, body, secret=token or self.key, port=self.port, headers=headers or {})
            known.append(answer)
            return answer[0] not in (0, 503)

        eventually(answered, within_s=20)
        return known[-1]

    def status(self, token: str) -> int:
        """What whoami answers."""
        return self.ask("GET", "/v1/whoami", token=token)[0]

    def asked_once(self, token: str) -> int:
        """What whoami answers to one request, whatever that is; 0: nothing."""
        return self._answer("GET", "/v1/whoami", secret=token, port=self.port)[0]

    def pause(self) -> None:
        """As a host that stands still: connections are still taken, by the kernel."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        secret: str = "",
        port: int,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, Any]:
        fields = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, fields, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text[:1] == b"{" else text
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, None


async def new_key(redis_url: str, tenant: str = "acme") -> str:
    """A key for everything, of a tenant that is made with it."""
    clock = SystemClock()
    async with open_documents(redis_url) as documents:
        await create_tenant(documents, tenant, clock=clock)
        return await create_key(documents, tenant, scopes=SCOPES, label="", expires_days=None, clock=clock)


@contextmanager
def running_manager(directory: Path) -> Iterator[Manager]:
    """A running one, on a store of its own that has what it has answered on its disk."""
    with start_valkey(directory, durable=True) as store:
        running = Manager(directory, store.url)
        running.start()
        try:
            yield running
        finally:
            running.kill()
