"""Stands in for a service under the launcher: two listeners, ready at once, any key is valid.

`STANDIN_REFUSES` makes it end with that sentence and exit code 2; `STANDIN_DEAF` makes it ignore SIGTERM.
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Handler(BaseHTTPRequestHandler):
    """Answers everything with its process id."""

    def do_GET(self) -> None:
        """Answer 200."""
        body = b"%d" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """Take anything."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_ignored: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    if sentence := os.environ.get("STANDIN_REFUSES"):
        sys.stderr.write(f"tenure: {sentence}\n")
        sys.exit(2)
    if os.environ.get("STANDIN_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    admin = ThreadingHTTPServer(("127.0.0.1", int(os.environ["TENURE_ADMIN_PORT"])), Handler)
    api = ThreadingHTTPServer(("127.0.0.1", int(os.environ["TENURE_PORT"])), Handler)
    Thread(target=admin.serve_forever, daemon=True).start()
    api.serve_forever()


if __name__ == "__main__":
    main()
