"""`tenure sessions` against a real service: what is shown, what is ended, and how it fails."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.commands import tenure
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(60)
PRINCIPAL = "ann/1 ü"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        yield running.beside("sessions")


def signed_in(service: Limiter, **members: Any) -> Any:
    """Somebody who has signed in."""
    body = {"amr": ["pwd"], "client": "web", "roles": ["editor"], "label": "a\u202eb", **members}
    status, _, granted = service.call("POST", "/v1/principals/ann%2F1%20%C3%BC/sessions", body)
    assert 201 == status, granted
    return granted


def sessions(service: Limiter, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command of somebody who has the data directory."""
    here = {"TENURE_DATA_DIR": str(service.run.data_dir), "TENURE_PORT": str(service.run.port)}
    done = tenure("sessions", *arguments, **here)
    return done.returncode, done.stdout, done.stderr


def status(service: Limiter, granted: Any) -> int:
    """What whoami says of a token."""
    return service.call("GET", "/v1/whoami", headers={"Authorization": f"Bearer {granted['token']}"})[0]


def test_sessions_are_listed_shown_and_ended(service: Limiter) -> None:
    """One by one, all but one, and all; a name is a name, and what a client said cannot steer a terminal."""
    granted = [signed_in(service) for _ in range(4)]
    ids = [session["session"]["id"] for session in granted]

    code, listed, _ = sessions(service, "list", PRINCIPAL)
    head, *rows = listed.splitlines()
    assert (0, ["SESSION", "CLIENT", "ACR", "BEGAN"]) == (code, head.split()[:4])
    assert sorted(ids) == sorted(row.split()[0] for row in rows)
    code, shown, _ = sessions(service, "show", PRINCIPAL, ids[0])
    assert (0, f"{ids[0]}: since ") == (code, shown[: len(ids[0]) + 8])
    assert {"roles: editor", "amr: pwd", "client: web"} <= set(shown.splitlines())
    assert "\u202e" not in shown
    assert (0, "The session has ended.\n", "") == sessions(service, "revoke", PRINCIPAL, ids[0])
    assert (0, "2 sessions were ended.\n", "") == sessions(service, "revoke", PRINCIPAL, "--all-but", ids[1])
    assert [401, 200, 401, 401] == [status(service, session) for session in granted]
    assert (0, "One session was ended.\n", "") == sessions(service, "revoke", PRINCIPAL, "--all")
    assert 401 == status(service, granted[1])
    assert (0, "There is none.\n", "") == sessions(service, "list", PRINCIPAL)


def test_answers_are_there_as_the_service_gives_them(service: Limiter) -> None:
    """With --json, of each command."""
    id_ = signed_in(service)["session"]["id"]
    assert [id_] == [one["id"] for one in json.loads(sessions(service, "list", PRINCIPAL, "--json")[1])["sessions"]]
    assert id_ == json.loads(sessions(service, "show", PRINCIPAL, id_, "--json")[1])["id"]
    assert {"ended": id_} == json.loads(sessions(service, "revoke", PRINCIPAL, id_, "--json")[1])
    signed_in(service)
    assert {"revoked": 1} == json.loads(sessions(service, "revoke", PRINCIPAL, "--all", "--json")[1])


def test_a_session_that_has_ended_is_refused_with_its_reason(service: Limiter) -> None:
    """One sentence and 1; so is a session that there never was."""
    id_ = signed_in(service)["session"]["id"]
    sessions(service, "revoke", PRINCIPAL, id_)
    ended, never = sessions(service, "show", PRINCIPAL, id_), sessions(service, "show", PRINCIPAL, "A" * 16)
    assert [(1, ""), (1, "")] == [(ended[0], ended[1]), (never[0], never[1])], (ended, never)
    assert ended[2].startswith("tenure: ")
    assert ("(410 " in ended[2], "(404 " in never[2]) == (True, True)
