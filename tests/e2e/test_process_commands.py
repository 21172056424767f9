"""`tenure schedules`, `operations` and `webhooks` against a real service: what is typed, what is shown, how it fails."""

import json
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.commands import tenure
from tests.support.http_server import http_server, receiver
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(60)
NAP = {"workflow": "nap", "start": "a", "steps": {"a": {"sleep": "1h", "end": True}}}
PLAN = {"definition": "nap", "timetable": {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}}
NEXT = r"\d{4}-\d\d-\d\dT02:30:00\+0[12]:00"
MESSAGE = r"msg_[0-9a-f]{32}"
ID = r"[0-9a-f]{32}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        workflows = running.beside("workflows")
        for version in (1, 2):
            assert 201 == workflows.call("PUT", f"/v1/definitions/nap/versions/{version}", NAP)[0]
        yield workflows


def typed(service: Limiter, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of somebody who has the data directory."""
    here = {"TENURE_DATA_DIR": str(service.run.data_dir), "TENURE_PORT": str(service.run.port)}
    return tenure(*arguments, **here)


def said(service: Limiter, *arguments: str) -> str:
    """What a command prints, which must succeed."""
    done = typed(service, *arguments)
    assert (0, "") == (done.returncode, done.stderr), done
    return done.stdout


def matches(pattern: str, text: str) -> None:
    """Say where the text is not as the pattern."""
    assert re.fullmatch(pattern, text), text


def test_a_schedule_is_put_paused_fired_and_forgotten(service: Limiter, tmp_path: Path) -> None:
    """And shown in between: its timetable, what comes next, and what has become of it."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    matches(
        rf"daily: active, starts nap\ntimetable: cron 30 2 \* \* \* Europe/Berlin; overlap: skip\n"
        rf"next: ({NEXT}, ){{4}}{NEXT}\n",
        said(service, "schedules", "put", "daily", f"@{plan}"),
    )
    head, row = said(service, "schedules", "list").splitlines()
    assert ["SCHEDULE", "DEFINITION", "TIMETABLE", "NEXT", "OPEN", "RUNS"] == head.split()
    matches(rf"daily +nap +cron 30 2 \* \* \* Europe/Berlin +{NEXT} +0", row)
    assert "The schedule is paused.\n" == said(service, "schedules", "pause", "daily", "--note", "a look")
    head, _, note, *_ = said(service, "schedules", "show", "daily").splitlines()
    assert ("daily: paused, starts nap", "note: a look") == (head, note)
    run = said(service, "schedules", "trigger", "daily", "--overlap", "allow_all").strip()
    matches(r"daily@.*Z", run)
    eventually(lambda: f"open runs: {run}" in said(service, "schedules", "show", "daily"), within_s=10)
    shown = said(service, "schedules", "show", "daily")
    assert "so far: 1 started\n" in shown
    assert ["started", "1", run] == shown.splitlines()[-1].split()[1:]
    matches(rf"The schedule goes on, next at {NEXT}\.\n", said(service, "schedules", "resume", "daily", "--catch-up"))
    times = said(service, "schedules", "next", "daily", "-n", "2", "--after", "2027-10-30T12:00:00Z").splitlines()
    assert ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"] == [row.split()[1] for row in times[1:]]
    backfilled = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02T00:00:00Z", "--overlap", "skip")
    assert "One time is fired.\n" == said(service, "schedules", "backfill", "daily", *backfilled)
    assert "daily" == json.loads(said(service, "schedules", "show", "daily", "--json"))["id"]
    assert said(service, "schedules", "delete", "daily").startswith("The schedule is forgotten")
    assert "There is none.\n" == said(service, "schedules", "list")


def test_times_are_seen_before_there_is_a_schedule(service: Limiter) -> None:
    """Of cron in a zone, of an interval, and of a moment."""
    cron = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--after", "1824897600000")
    assert "2027-10-31T02:30:00+02:00" == said(service, "schedules", "preview", *cron).splitlines()[1].split()[1]
    every = said(service, "schedules", "preview", "--every", "3600", "-n", "3", "--after", "0").splitlines()
    assert ["1970-01-01T01:00:00.000Z", "1970-01-01T01:00:00+00:00"] == every[1].split()
    once = said(service, "schedules", "preview", "--at", "2030-01-31T12:00:00Z").splitlines()
    assert ["2030-01-31T12:00:00.000Z", "2030-01-31T12:00:00+00:00"] == once[1].split()


def test_runs_are_started_found_and_moved_with_all_that_can_be_said(service: Limiter) -> None:
    """When they begin and have to be over, by what they are found, whose id they take, and to which version they go."""
    many = ("--attr", "region=eu", "--attr", "team=a", "--delay", "0.5", "--deadline-after", "7200", "--version", "1")
    assert "n-1\n" == said(service, "workflows", "start", "nap", "--id", "n-1", *many)
    run = json.loads(said(service, "workflows", "show", "n-1", "--json"))
    assert {"region": "eu", "team": "a"} == run["attributes"]
    assert 7_200_000 < run["deadline_ms"] - run["started_ms"] <= 7_200_500
    eventually(lambda: "a is sleeping" in said(service, "workflows", "show", "n-1"), within_s=10)
    due = (
        "--definition",
        "nap",
        "--version",
        "1",
        "--step",
        "a",
        "--sort",
        "due",
        "--due-before",
        "2099-01-01T00:00:00Z",
    )
    assert "n-1" in said(service, "workflows", "list", *due)
    assert "The run is running.\n" == said(service, "workflows", "migrate", "n-1", "2", "--dry-run")
    assert "The run is running.\n" == said(service, "workflows", "migrate", "n-1", "2", "--map", "a=a")
    assert said(service, "workflows", "show", "n-1").startswith("n-1: running, nap/2, ")
    again = ("--id", "n-1", "--input", "7", "--on-conflict", "terminate_existing", "--reuse", "any", "--key", "k")
    for _ in range(2):
        assert "n-1\n" == said(service, "workflows", "start", "nap", *again)
    assert 7 == json.loads(said(service, "workflows", "show", "n-1", "--json"))["input"]
    assert "The run is running.\n" == said(service, "workflows", "signal", "n-1", "go", "--ttl", "60")


def test_many_runs_are_changed_by_an_operation(service: Limiter) -> None:
    """By a filter, after a dry run; by name, with what is refused; and operations are listed."""
    for number in range(3):
        said(service, "workflows", "start", "nap", "--id", f"o-{number}", "--version", "1", "--attr", "kind=many")
    found = ("--definition", "nap", "--version", "1", "--attr", "kind=many", "--wait")
    dry = said(service, "operations", "begin", "pause", *found, "--dry-run")
    matches(rf"{ID}: pause, dry, done, since \S+\n3 would be changed, 0 refused\n", dry)
    first = said(service, "operations", "begin", "pause", *found, "--limit", "2").splitlines()
    assert "2 changed, 0 refused" == first[1]
    rest = said(service, "operations", "begin", "pause", *found, "--after", first[2].rpartition(" ")[2])
    assert "\n1 changed, 0 refused\n" in rest
    named = ("--run", "o-0", "--run", "ghost", "--to", '{"definition":"nap","version":2}', "--wait")
    moved = said(service, "operations", "begin", "migrate", *named).splitlines()
    assert ["1 changed, 1 refused", "RUN", "ghost"] == [moved[1], moved[2].split()[0], moved[3].split()[0]]
    operation = said(
        service, "operations", "begin", "cancel", "--run", "o-1", "--reason", "enough", "--key", "k"
    ).strip()
    assert (
        operation
        == said(service, "operations", "begin", "cancel", "--run", "o-1", "--reason", "enough", "--key", "k").strip()
    )
    eventually(lambda: "cancel, done" in said(service, "operations", "show", operation), within_s=10)
    assert said(service, "operations", "stop", operation).startswith(f"{operation}: cancel, done")
    rows = said(service, "operations", "list").splitlines()
    assert [operation, "cancel", "done", "1", "0"] == rows[1].split()[:5]
    assert "There may be more: --after " in typed(service, "operations", "list", "--limit", "1").stderr
    every = said(service, "operations", "begin", "retry", "--all", "--dry-run", "--wait").splitlines()[1]
    assert every.startswith("0 would be changed, ")


def test_a_webhook_is_shown_with_what_it_was_told(service: Limiter) -> None:
    """A test of it that was refused, among the dead ones; and it is sent again."""
    with receiver(410, 204) as url:
        put = ("webhooks", "put", "office", url, "--event", "run.failed", "--description", "to the office")
        first = said(service, *put)
        assert f"secret: {service.call('GET', '/v1/webhooks/office/secret')[2]['secret']}" == first.splitlines()[-1]
        assert ["office", "enabled", "run.failed", url] == said(service, "webhooks", "list").splitlines()[1].split()
        message = said(service, "webhooks", "test", "office").strip()
        matches(MESSAGE, message)
        eventually(lambda: message in said(service, "webhooks", "dead", "office"), within_s=10)
        assert "There is none.\n" == said(service, "webhooks", "deliveries", "office", "--status", "delivered")
        told = said(service, "webhooks", "message", "office", message)
        assert f"{message}: given_up, webhook.test, since " in told
        assert "given up because: " in told
        assert "webhook.test" in json.loads(told.partition("body: ")[2].partition("\n")[0])["type"]
        assert "410" == told.splitlines()[-1].split()[1]
        shown = said(service, "webhooks", "show", "office")
        assert shown.startswith(f"office: disabled, {url}\nto the office\nevents: run.failed\ndisabled because: ")
        assert "secret" not in said(service, *put)
        assert "The message is sent again.\n" == said(service, "webhooks", "retry", "office", message)
        eventually(
            lambda: message in said(service, "webhooks", "deliveries", "office", "--status", "delivered"), within_s=10
        )
    assert said(service, *put, "--disabled").startswith("office: disabled, ")
    assert "The webhook is deleted.\n" == said(service, "webhooks", "delete", "office")
    assert "There is none.\n" == said(service, "webhooks", "list")
    new = json.loads(said(service, "webhooks", "put", "audit", url, "--service", "sessions", "--json"))
    assert ("audit", True, "whsec_") == (new["name"], new["enabled"], new["secret"][:6])


def test_an_operation_is_named_where_its_end_cannot_be_waited_for(service: Limiter) -> None:
    """The same command again would begin another."""

    class Away(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(202, {"id": 32 * "a", "status": "running"})

        def do_GET(self) -> None:
            self.answer(503, {"detail": "The store cannot be reached.", "code": "unavailable"})

        def answer(self, status: int, told: dict[str, str]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Away) as port:
        done = typed(service, "operations", "begin", "purge", "--all", "--wait", "--api", f"http://127.0.0.1:{port}")
    why = f"The store cannot be reached. (503 unavailable) The operation goes on: {32 * 'a'}."
    assert (1, f"tenure: {why}\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("schedules", "show", "ghost"), 1, "There is no such schedule. (404 not_found)"),
        (("schedules", "put", "x", "{}"), 2, "(400 invalid_input)"),
        (("schedules", "put", "x", '{"definition":"ghost","timetable":{"every_s":60}}'), 1, "(404 definition.unknown)"),
        (("schedules", "preview", "--cron", "never"), 2, "(400 invalid_input)"),
        (("schedules", "next", "x", "--after", "soon"), 2, "'soon' is not a moment"),
        (("workflows", "start", "nap", "--attr", "region"), 2, "--attr is a name and a value, as region=eu"),
        (("workflows", "migrate", "ghost", "2", "--map", "a"), 2, "--map is a name and a value"),
        (("workflows", "migrate", "ghost", "2"), 1, "There is no such run. (404 not_found)"),
        (("operations", "begin", "pause", "--all", "--to", "{"), 2, "--to is JSON, or @ and a file of it"),
        (("operations", "begin", "migrate", "--all"), 2, "(400 invalid_input)"),
        (("operations", "begin", "purge"), 2, "Say which runs are meant: some of --run, or"),
        (("operations", "begin", "purge", "--run", "r", "--status", "failed"), 2, "Say which runs are meant: some of"),
        (("operations", "begin", "purge", "--definition", "refund", "--all"), 2, "Say which runs are meant: some of"),
        (("operations", "show", "ghost"), 1, "There is no such operation. (404 not_found)"),
        (("webhooks", "show", "ghost"), 1, "(404 not_found)"),
        (("webhooks", "delete", "ghost"), 1, "(404 not_found)"),
        (("webhooks", "put", "x", "ftp://shop.example"), 2, "(400 http.bad_request)"),
        (("webhooks", "message", "ghost", "x"), 2, "(400 invalid_input)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    service: Limiter, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """On stderr, with the exit code that says whose fault it is."""
    done = typed(service, *arguments)
    assert (code, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert words in done.stderr
