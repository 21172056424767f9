"""`tenure objects`, `alarms` and `messages` against a real node: what operators type, and what becomes of it."""

import json
import stat
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.commands import tenure
from tests.support.launching import eventually
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(60)
ONE = ("troubled", "dev", "one/1")
PATH = "/v1/objects/troubled/one%2F1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data"), TENURE_OBJECTS="tests.support.troubled") as running:
        yield running


@pytest.fixture(autouse=True)
def objects(service: Limiter) -> None:
    """One object with a text."""
    call(service, "keep", text="hello")


def call(service: Limiter, method: str, **arguments: Any) -> Any:
    status, _, answer = service.call("POST", f"{PATH}/{method}", arguments)
    assert 200 == status, answer
    return answer


def told(service: Limiter, *arguments: str) -> Any:
    """What a command answers with `--json`."""
    done = operate(service, *arguments, "--json")
    assert (0, "") == (done.returncode, done.stderr)
    return json.loads(done.stdout)


def operate(service: Limiter, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """A command of somebody who has the data directory."""
    here = {"TENURE_DATA_DIR": str(service.run.data_dir), "TENURE_ADMIN_PORT": str(service.run.admin_port)}
    return tenure(*arguments, **{**here, **environ})


def test_objects_are_listed(service: Limiter) -> None:
    """As a table, and as JSON; the place to go on stands apart from the rows."""
    for name in ("one%2F2", "two"):
        assert 200 == service.call("POST", f"/v1/objects/troubled/{name}/keep", {"text": "x"})[0]
    asked = ("objects", "list", "--kind", "troubled", "--tenant", "dev", "--prefix", "one")
    page = operate(service, *asked, "--limit", "1")
    assert ["NAME", "one/1"] == page.stdout.splitlines()
    after = page.stderr.split("--after ")[1].strip()

    assert ["NAME", "one/2"] == operate(service, *asked, "--after", after).stdout.splitlines()
    assert ["one/1", "one/2"] == [row["name"] for row in told(service, *asked)["objects"]]
    assert "There is none.\n" == operate(service, *asked[:-1], "no").stdout


def test_an_object_is_shown_and_evicted(service: Limiter) -> None:
    """What it holds, that it is in memory, and then that it is not."""
    shown = operate(service, "objects", "show", *ONE).stdout
    assert "troubled/dev/one/1" in shown
    assert '"hello"' in shown
    assert "everything is stored" in shown
    assert "It has left memory.\n" == operate(service, "objects", "evict", *ONE).stdout
    assert told(service, "objects", "show", *ONE)["resident"] is None
    assert {"evicted": False} == told(service, "objects", "evict", *ONE)
    assert "There is none.\n" == operate(service, "objects", "journal", *ONE, "--reverse").stdout


def test_a_journal_is_shown(service: Limiter) -> None:
    """Entry by entry, from either end, on from a number."""
    for text in ("first", "second", "third"):
        assert 200 == service.call("POST", "/v1/objects/troubled/diary/note", {"text": text})[0]
    asked = ("objects", "journal", "troubled", "dev", "diary")
    rows = operate(service, *asked, "--reverse", "--limit", "2").stdout.splitlines()
    assert ["NUMBER  BYTES  VALUE", '3       7      "third"', '2       8      "second"'] == rows
    assert ["third"] == [entry["value"] for entry in told(service, *asked, "--after", "2")["entries"]]
    assert 3 == told(service, "objects", "show", "troubled", "dev", "diary")["stored"]["journal"]["entries"]


def test_a_long_turn_is_seen(service: Limiter) -> None:
    """Which method runs, and since when: what an operator asks of an object that does not answer."""
    caller = threading.Thread(target=lambda: service.call("POST", "/v1/objects/troubled/slow/rest"))
    caller.start()

    def running() -> Any:
        done = operate(service, "objects", "show", "troubled", "dev", "slow", "--json")
        return done.returncode == 0 and json.loads(done.stdout)["resident"]["running"]

    assert "rest" == eventually(running, within_s=5)["method"]
    caller.join()


def test_alarms_are_listed_and_cancelled(service: Limiter) -> None:
    """Up to a moment; one that is cancelled is armed no more."""
    at_ms = call(service, "arm", name="soon", in_ms=3_600_000)
    rows = operate(service, "alarms", "list").stdout.splitlines()
    assert rows[0].startswith("DUE")
    assert any("soon" in row and "one/1" in row for row in rows)
    assert [] == told(service, "alarms", "list", "--due-before", str(at_ms))["alarms"]
    assert "It is not armed any more.\n" == operate(service, "alarms", "cancel", *ONE, "soon").stdout
    again = operate(service, "alarms", "cancel", *ONE, "soon")
    assert (1, "") == (again.returncode, again.stdout)
    assert again.stderr == "tenure: There is no armed alarm 'soon' of troubled/dev/one/1. (404 not_found)\n"


def test_dead_alarms_are_listed_rearmed_and_dropped(service: Limiter) -> None:
    """With their last error; one that is armed anew rings, one that is dropped is gone."""
    for name in ("first", "second"):
        call(service, "give_up", name=name)
    shown = operate(service, "alarms", "dead").stdout
    assert shown.count("ValueError: no") == 2
    armed = operate(service, "alarms", "rearm", *ONE, "second", "--at", "2999-01-01T00:00:00Z")
    assert "It is armed, and due at 2999-01-01T00:00:00.000Z.\n" == armed.stdout
    assert operate(service, "alarms", "rearm", *ONE, "first").stdout.startswith("It is armed, and due at ")
    eventually(lambda: "rung" in told(service, "objects", "show", *ONE)["stored"]["values"], within_s=15)
    call(service, "give_up", name="third")
    assert "It is dropped.\n" == operate(service, "alarms", "drop", *ONE, "third").stdout
    assert {"alarms": [], "next": None} == told(service, "alarms", "dead")


def test_dead_messages_are_listed_sent_again_and_dropped(service: Limiter) -> None:
    """What a receiver refused arrives once it is sent again; what is dropped does not."""

    def taken() -> Any:
        return told(service, "objects", "show", "troubled", "dev", "clerk")["stored"]["values"].get("taken")

    assert "There is none.\n" == operate(service, "messages", "dead").stdout
    clerk = "/v1/objects/troubled/clerk"
    assert 200 == service.call("POST", f"{clerk}/close", {"closed": True})[0]
    for _ in range(2):
        call(service, "order", name="clerk")
    eventually(lambda: len(told(service, "messages", "dead")["messages"]) == 2, within_s=10)
    shown = operate(service, "messages", "dead", "--limit", "1")
    assert "troubled/dev/clerk" in shown.stdout
    assert "ClosedError" in shown.stdout
    after = shown.stderr.split("--after ")[1].strip()
    (second,) = told(service, "messages", "dead", "--after", after)["messages"]
    (first,) = [row for row in told(service, "messages", "list", *ONE)["messages"] if row["id"] != second["id"]]

    letter = operate(service, "messages", "show", *ONE, first["id"]).stdout.splitlines()
    assert letter[0].startswith(f"message    {first['id']}, {first['size_bytes']} bytes, ")
    assert letter[1:2] == [f"  {first['error']}"]
    assert "calls      take of troubled/dev/clerk" in letter

    assert 200 == service.call("POST", f"{clerk}/close", {"closed": False})[0]
    assert operate(service, "messages", "resend", *ONE, first["id"]).stdout.startswith("It is sent again, as ")
    eventually(lambda: taken() is not None, within_s=10)
    assert "It is dropped.\n" == operate(service, "messages", "drop", *ONE, second["id"]).stdout
    again = operate(service, "messages", "drop", *ONE, second["id"])
    assert (1, "") == (again.returncode, again.stdout)
    assert "(404 not_found)" in again.stderr
    assert "There is none.\n" == operate(service, "messages", "list", *ONE).stdout
    assert 1 == taken()["value"]


def test_quarantine_is_listed_and_lifted(service: Limiter) -> None:
    """Nothing is in it here; lifting what is not is said so."""
    assert "There is none.\n" == operate(service, "objects", "quarantined").stdout
    assert "It was not in quarantine.\n" == operate(service, "objects", "lift", *ONE).stdout
    assert {"lifted": False} == told(service, "objects", "lift", *ONE)


def test_the_token_is_private_and_needed(service: Limiter) -> None:
    """Only this user can read it, and with another one, or none, nothing is told."""
    token = service.run.data_dir / "admin-token"
    assert 0o600 == stat.S_IMODE(token.stat().st_mode)
    wrong = operate(service, "alarms", "dead", TENURE_ADMIN_TOKEN="x" * 43)
    sentence = "A valid credential is required: the node's admin token, in Authorization: Bearer."
    assert (1, f"tenure: {sentence} (401 unauthenticated)\n") == (wrong.returncode, wrong.stderr)
    none = operate(service, "alarms", "dead", TENURE_DATA_DIR=str(token.parent / "none"))
    assert (2, "") == (none.returncode, none.stdout)
    assert "TENURE_ADMIN_TOKEN" in none.stderr
    named = {"TENURE_ADMIN_TOKEN": token.read_text().strip(), "TENURE_DATA_DIR": "", "TENURE_ADMIN_PORT": "1"}
    url = f"http://127.0.0.1:{service.run.admin_port}"
    assert 0 == operate(service, "alarms", "dead", "--admin", url, **named).returncode


def test_a_node_that_is_not_there_is_one_sentence(service: Limiter) -> None:
    """No traceback, exit code 1."""
    done = operate(service, "alarms", "dead", TENURE_ADMIN_PORT="1")
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == "tenure: The node did not answer: nobody listens at http://127.0.0.1:1\n"
