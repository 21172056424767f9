"""A headless Chromium, driven by its own protocol (CDP) over one socket a window."""

import json
import os
import re
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.launching import eventually
from tests.support.programs import require_program


class Window:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)

    def call(self, method: str, **parameters: Any) -> Any:
        """One command, and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=20))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def move(self, x: int, y: int) -> None:
        """Have the page see the mouse move; the browser's own events wait for windows that are drawn."""
        self.run(f"dispatchEvent(new MouseEvent('mousemove', {{clientX: {x}, clientY: {y}}})) && null")


class Browser:
    """A running browser."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sockets = ExitStack()

    def open(self, url: str) -> Window:
        """A new window with a page."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(asked, timeout=20) as answer:
            target = json.load(answer)
        socket = connect(target["webSocketDebuggerUrl"], max_size=None, open_timeout=20)
        return Window(self.sockets.enter_context(socket))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own; it is gone in the end."""
    program = require_program("chromium")
    with tempfile.TemporaryDirectory(prefix="tenure-browser-", ignore_cleanup_errors=True) as profile:
        said = Path(profile) / "said"
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-timer-throttling",
            "--disable-renderer-backgrounding",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        with said.open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            found = eventually(lambda: re.search(r"ws://127\.0\.0\.1:(\d+)/", said.read_text()), within_s=30)
            browser = Browser(int(found[1])) if found else None
            assert browser is not None
            with browser.sockets:
                yield browser
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # Its children too, which are in its session.
            process.wait()
