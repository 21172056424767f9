"""The limiter as a real process on a store of the test's own, through `tenure run`."""

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.runtime.launcher import SERVICES
from tests.support.launching import Launched, launched

RUN = (sys.executable, "-m", "shared.cli", "run")


class Limiter:
    """Calls to a running limiter, or to the service at another port, over one connection a call."""

    def __init__(self, run: Launched, *, port: int = 0) -> None:
        self.run = run
        self.port = port or run.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = (run.data_dir / "dev-key").read_text().strip()

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """One request with the development key; the body is decoded where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
            payload = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            if payload is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, payload, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            content = answer.read()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in fields.get("content-type", "")
            return answer.status, fields, json.loads(content) if is_json else content
        finally:
            connection.close()

    def beside(self, name: str) -> "Limiter":
        """Another service of the same run, by its name."""
        index = [command.name for command in SERVICES].index(name)
        return Limiter(self.run, port=self.run.port + index)

    def policy(self, name: str, *limits: tuple[str, int, int]) -> None:
        """Make a policy of (name, limit, window in ms)."""
        body = {"limits": [{"name": n, "limit": limit, "window_ms": window} for n, limit, window in limits]}
        status, _, answer = self.call("PUT", f"/v1/policies/{name}", body)
        assert status in (200, 201), answer

    def check(self, policy: str, subject: str, **more: Any) -> Any:
        """One check."""
        status, _, answer = self.call("POST", "/v1/check", {"policy": policy, "subject": subject, **more})
        assert 200 == status, answer
        return answer


@contextmanager
def limiter(data_dir: Path, **environ: str) -> Iterator[Limiter]:
    """A running limiter; everything of it is gone in the end."""
    with launched(data_dir, command=RUN, **environ) as run:
        run.ready()
        yield Limiter(run)
