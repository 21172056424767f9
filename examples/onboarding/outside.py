"""The world around the onboarding: a land registry that answers later, and whoever is notified.

    python examples/onboarding/outside.py 7190 http://127.0.0.1:7102

A search is accepted with 202 and answered half a second later, at the address that the call brought. All else that is
sent is printed, a line each.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Timer

import httpx

ANSWER_S = 0.5


class Outside(BaseHTTPRequestHandler):
    """Takes what the workflow sends."""

    api = ""

    def do_POST(self) -> None:
        """A search, or a notification."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/searches":
            Timer(ANSWER_S, answer, [self.api + self.headers["Tenure-Callback"], {"clean": True}]).start()
        else:
            sys.stdout.write(f"{self.path} {json.dumps(body, separators=(',', ':'))}\n")
            sys.stdout.flush()
        self.send_response(202 if self.path == "/searches" else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of the requests themselves."""


def answer(address: str, result: object) -> None:
    """Say what was found, to the address that was given for it; that nobody waits for it any more is no error."""
    httpx.post(address, json={"result": result})


if __name__ == "__main__":
    Outside.api = sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Outside).serve_forever()
