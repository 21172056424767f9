"""The application of the example: it serves the page, and asks for tickets with the key that the page never sees.

python -m examples.room.serve --key tnk_... --api http://127.0.0.1:7103 --port 8080

A real application would know who asks; this one believes the name in the query.
"""

import argparse
import json
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

PAGE = Path(__file__).with_name("page.html")


def handler(api: str, key: str, room: str) -> type[BaseHTTPRequestHandler]:
    """Who answers: `room` is the one that all pages share."""
    path = f"{api}/v1/rooms/{quote(room, safe='')}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("text/html; charset=utf-8", PAGE.read_bytes())

        def do_POST(self) -> None:
            name = parse_qs(urlsplit(self.path).query).get("name", ["somebody"])[0]
            asked = urllib.request.Request(  # noqa: S310 - the address is the one that this was started with.
                f"{path}/tickets",
                data=json.dumps({"name": name[:64]}).encode(),
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                method="POST",
            )
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - as above.
                    ticket = json.load(answer)["ticket"]
            except OSError:  # It refuses, or is not there: the page asks again.
                self.send_error(502)
                return
            told = {"url": f"{path.replace('http', 'ws', 1)}/socket", "ticket": ticket}
            self._answer("application/json", json.dumps(told).encode())

        def _answer(self, media_type: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", default="http://127.0.0.1:7103")
    parser.add_argument("--key", required=True)
    parser.add_argument("--room", default="example")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    ThreadingHTTPServer(("127.0.0.1", given.port), handler(given.api, given.key, given.room)).serve_forever()


if __name__ == "__main__":
    main()
