"""The application of the example: it serves the page, and asks for tickets with the key that the page never sees.

python -m examples.room.serve --key tnk_... --api http://127.0.0.1:7101 --port 8080

A real application would know who asks; this one believes the name in the query.
"""

import argparse
import json
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE = Path(__file__).with_name("page.html")


def handler(api: str, key: str, room: str) -> type[BaseHTTPRequestHandler]:
    """Who answers: `room` is the object that all pages share."""
    objects = f"{api}/v1/objects/room/{room}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("text/html; charset=utf-8", PAGE.read_bytes())

        def do_POST(self) -> None:
            name = parse_qs(urlsplit(self.path).query).get("name", ["somebody"])[0]
            asked = urllib.request.Request(  # noqa: S310 - the address is the one that this was started with.
                f"{objects}/tickets",
                data=json.dumps({"attachment": {"name": name}}).encode(),
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                method="POST",
            )
            with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - as above.
                ticket = json.load(answer)["ticket"]
            told = {"url": f"{objects.replace('http', 'ws', 1)}/socket", "ticket": ticket}
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
    parser.add_argument("--api", default="http://127.0.0.1:7101")
    parser.add_argument("--key", required=True)
    parser.add_argument("--room", default="example")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    ThreadingHTTPServer(("127.0.0.1", given.port), handler(given.api, given.key, given.room)).serve_forever()


if __name__ == "__main__":
    main()
