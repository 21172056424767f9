"""Takes webhooks on loopback, verifies each and prints what it says. `pip install standardwebhooks` is all it needs.

    python examples/webhooks/receiver.py 7191 whsec_...

It answers 204 to what is signed with the secret, and 400 to all else.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    """One webhook. Whoever acts on it remembers its `webhook-id`: the same message may come twice."""

    webhook: Webhook

    def do_POST(self) -> None:
        """Verify it, and say what it is about."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        try:
            told = self.webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_response(400)
        else:
            about = told["data"]
            sys.stdout.write(f"{told['type']} {about.get('run') or about.get('principal') or '-'}\n")
            sys.stdout.flush()
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


def main(port: str, secret: str) -> None:
    """Take webhooks until it is ended."""
    Receiver.webhook = Webhook(secret)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
