"""A receiver of webhooks that a library of Standard Webhooks judges, for tests with real processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from standardwebhooks import Webhook

from tests.support.http_server import http_server


class Mail:
    """What was received and verified. `secret` is what it is verified with."""

    def __init__(self) -> None:
        self.port = 0
        self.secret = ""
        self.told: list[Any] = []


@contextmanager
def webhook_receiver() -> Iterator[Mail]:
    """Takes what is signed with the secret, as soon as it is told that; anything else is refused."""
    mail = Mail()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                mail.told.append(Webhook(mail.secret).verify(body, dict(self.headers)))
                self.send_response(204)
            except Exception:  # noqa: BLE001  # Whatever it was, it is not taken.
                self.send_response(400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Receiver) as mail.port:
        yield mail
