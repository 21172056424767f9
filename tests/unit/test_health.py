"""The admin listener says how the process is, and shows the API, from this machine alone."""

import asyncio
import json
import re
import threading

import httpx
import pytest

from shared.http.asgi import ASGIApp
from shared.http.docs import render_docs
from shared.http.health import create_admin_app

OPENAPI = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "A & B <script>", "version": "1", "description": "Says <b>things</b>."},
        "paths": {
            "/v1/things/{name}": {
                "get": {
                    "summary": "Get",
                    "security": [{"bearer": ["limits:read"]}],
                    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {
                            "description": "Here.",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                        }
                    },
                },
                "put": {
                    "security": [],
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {"oneOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]}
                            }
                        }
                    },
                    "responses": {},
                },
            }
        },
        "components": {
            "schemas": {
                "Thing": {
                    "required": ["size"],
                    "properties": {
                        "size": {"type": "integer", "minimum": 1, "description": "How <big>."},
                        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                    },
                }
            }
        },
    }
).encode()


class Process:
    """What the admin application asks."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.asked = 0
        self.broken = False
        self.accepted: list[str] = []
        self.scraping: list[int] = []

    def ready(self) -> list[str]:
        self.asked += 1
        if self.broken:
            raise ValueError("secret=1")
        return self.reasons

    def scrape(self, accept: str) -> tuple[bytes, str]:
        if self.broken:
            raise ValueError("secret=1")
        self.accepted.append(accept)
        self.scraping.append(threading.get_ident())
        return b"tenure_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    @property
    def admin(self) -> ASGIApp:
        return create_admin_app(ready=self.ready, scrape=self.scrape, openapi=lambda: OPENAPI, owner="abc")


def ask(process: Process, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """One request."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(process.admin)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(run())


def test_a_process_that_is_not_ready_is_alive() -> None:
    """Liveness asks nobody, so a store that is away kills no process."""
    process = Process()
    process.reasons = ["the store is away"]
    process.broken = True
    assert (200, {"live": True}) == ((answer := ask(process, "/health/live")).status_code, answer.json())
    assert process.asked == 0


def test_readiness_says_why_not() -> None:
    """200 when there is no reason against it, 503 with the reasons otherwise; and by what it is known in a store."""
    process = Process()
    assert (200, {"ready": True, "reasons": [], "owner": "abc"}) == (
        (answer := ask(process, "/health/ready")).status_code,
        answer.json(),
    )
    process.reasons = ["12 of 256 shards are open", "draining"]
    answer = ask(process, "/health/ready")
    assert (503, {"ready": False, "reasons": process.reasons, "owner": "abc"}) == (answer.status_code, answer.json())


def test_metrics_and_document_are_given_as_they_are() -> None:
    """With their media types."""
    metrics, document = ask(Process(), "/metrics"), ask(Process(), "/openapi.json")
    assert (b"tenure_up 1\n", OPENAPI) == (metrics.content, document.content)
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert document.headers["content-type"] == "application/json"


def test_a_scrape_gets_the_format_it_asks_for_and_leaves_the_event_loop_free() -> None:
    """The `Accept` field reaches the renderer, which works in a thread of its own."""
    process = Process()
    ask(process, "/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert ["application/openmetrics-text;version=1.0.0"] == process.accepted
    assert threading.get_ident() not in process.scraping


def test_scrapes_are_rendered_one_at_a_time() -> None:
    """Ten that come together never hold more than one thread."""
    inside, most = [0], [0]

    def scrape(_: str) -> tuple[bytes, str]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.001)
        inside[0] -= 1
        return b"", "text/plain"

    async def run() -> list[int]:
        app = create_admin_app(ready=list, scrape=scrape, openapi=lambda: OPENAPI)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answers = await asyncio.gather(*(client.get("/metrics") for _ in range(10)))
            return [answer.status_code for answer in answers]

    assert [200] * 10 == asyncio.run(run())
    assert [1] == most


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/docs/x", 404), ("POST", "/docs", 405)]
)
def test_anything_else_is_a_problem(method: str, path: str, status: int) -> None:
    """As on the public listener."""
    answer = ask(Process(), path, method)
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize("path", ["/health/ready", "/metrics"])
def test_a_fault_is_a_problem_without_its_text(path: str) -> None:
    """And readiness that cannot be told is not readiness."""
    process = Process()
    process.broken = True
    answer = ask(process, path)
    assert answer.status_code == 500
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/none"])
def test_every_answer_carries_the_security_fields(path: str) -> None:
    """H-16: also the page, whose policy allows its own style sheet and nothing else."""
    headers = ask(Process(), path).headers
    assert ("nosniff", "no-store") == (headers["x-content-type-options"], headers["cache-control"])
    assert headers["content-security-policy"].startswith("default-src 'none'; ")


def test_head_has_no_body() -> None:
    """And the same header."""
    answer = ask(Process(), "/docs", "HEAD")
    assert (b"", "text/html; charset=utf-8") == (answer.content, answer.headers["content-type"])


def test_the_page_shows_routes_and_schemas() -> None:
    """Every path, parameter, body, answer and field of the document, with links between them."""
    page = render_docs(OPENAPI).decode()
    for shown in (
        "GET</span>/v1/things/{name}",
        "PUT</span>",
        "limits:read",
        "No credential.",
        "minimum 1",
        "array of",
    ):
        assert shown in page
    assert page.count('href="#Thing"') == 3
    assert page.count('id="Thing"') == 1


def test_the_page_escapes_and_fetches_nothing() -> None:
    """No text of the document becomes markup, and no address but our own appears."""
    page = render_docs(OPENAPI).decode()
    assert "<script" not in page
    assert "<b>things" not in page
    assert "How &lt;big&gt;." in page
    assert re.findall(r"(?:href|src)=\"(?!#|/openapi\.json)", page) == []
    assert "http://" not in page
    assert "https://" not in page
