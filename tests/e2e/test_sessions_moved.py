"""A tenant that moves with its sessions: `tenure export`, then `tenure import` elsewhere, as the page on backups says."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.sessions.bounds import FEED_ENTRIES
from services.sessions.keys import read_keys
from services.sessions.tokens import Tokens, session_text
from shared.testing.valkey import start_valkey
from tests.support.commands import tenure
from tests.support.launching import ROOT, eventually
from tests.support.session_manager import Manager, new_key
from tests.support.shell import shell_blocks
from tests.support.signing_in import KEYS, MINUTE_MS, key_list

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
PAGE = ROOT / "docs/reference/backup.md"
SHARDS = "16"
ADMIN_TOKEN = "operator-" + "0" * 32
POLICY = {
    "limits": {"total": 3, "per_client": {}, "on_limit": "reject"},
    "rotation_grace_ms": 5 * MINUTE_MS,
    "rotation_overlap_ms": 5 * MINUTE_MS,
    "idle_ms": 60 * MINUTE_MS,
}


@contextmanager
def place(directory: Path, redis_url: str, *, key: str = "", **environ: str) -> Iterator[Manager]:
    """A running session manager of its own data directory on that store."""
    directory.mkdir(exist_ok=True)
    manager = Manager(directory, redis_url, key=key, TENURE_ADMIN_TOKEN=ADMIN_TOKEN, **environ)
    manager.start()
    try:
        yield manager
    finally:
        manager.kill()


def sign_in(manager: Manager, principal: str = "ann", *, status: int = 201, idempotency: str = "", **body: Any) -> Any:
    """The answer to a login, which has that status."""
    headers = {"Idempotency-Key": idempotency} if idempotency else {}
    answered, granted = manager.ask("POST", f"/v1/principals/{principal}/sessions", body, headers=headers)
    assert status == answered, granted
    return granted


def changed(manager: Manager, method: str, what: str, body: Any = None, **more: Any) -> Any:
    """The answer to a change that succeeds."""
    status, answer = manager.ask(method, what, body, **more)
    assert status in (200, 204), answer
    return answer


def rotated(manager: Manager, token: str) -> str:
    """The successor of a token."""
    return str(changed(manager, "POST", "/v1/session/rotate", token=token)["token"])


def reason(manager: Manager, token: str) -> str:
    """Why a token does not count; empty if it does."""
    status, answer = manager.ask("GET", "/v1/whoami", token=token)
    assert status in (200, 401), answer
    return "" if status == 200 else str(answer.get("reason", answer["code"]))


def events(manager: Manager, principal: str) -> list[tuple[int, str]]:
    """Numbers and kinds of what has happened, as far as it is kept."""
    held = manager.ask("GET", f"/v1/principals/{principal}/export")[1]
    return [(told["seq"], told["event"]["kind"]) for told in held["events"]]


def moved(old: Manager, there: str, file: Path) -> None:
    """Type the lines of the page that move a tenant, each against the store that it is for."""
    (block,) = (block for block in shell_blocks(PAGE) if "tenant disable" in block)
    for line in filter(None, block.splitlines()):
        command, _, where = line.partition("#")
        words = re.sub(r"^TENURE_\S+ ", "", command).replace("/safe/acme", str(file)).split()
        url = {"there": there, "here": old.redis_url}[re.findall(r"\w+", where)[0]]
        done = tenure(*words[1:], TENURE_REDIS_URL=url, TENURE_SHARDS=SHARDS if url == there else "256")
        assert 0 == done.returncode, done.stderr


def test_a_tenant_moves_with_its_sessions(tmp_path: Path) -> None:
    """What counts, what does not and why, windows, limits, data, versions, repeated logins and numbers of events go on."""
    file = tmp_path / "export"
    with start_valkey(tmp_path / "here", durable=True) as here, start_valkey(tmp_path / "there", durable=True) as there:
        with place(tmp_path / "old", here.url) as old:
            cut = sign_in(old, "cut")["token"]
            changed(old, "POST", "/v1/tenant/sessions/revoke")
            changed(old, "PUT", "/v1/tenant/policy", POLICY)
            plain = sign_in(old, idempotency="login-1")
            gone = sign_in(old)
            changed(old, "DELETE", f"/v1/principals/ann/sessions/{gone['session']['id']}")
            twice = sign_in(old)
            successor = rotated(old, twice["token"])
            raised = sign_in(old, acr="aal1", data={"cart": [1]})
            path = f"/v1/principals/ann/sessions/{raised['session']['id']}"
            elevated = changed(old, "POST", f"{path}/authenticate", {"acr": "aal2", "amr": ["otp"]})["token"]
            for name in ("robbed", "off", "erased", "busy"):
                sign_in(old, name)
            stolen = sign_in(old, "robbed")["token"]
            held = rotated(old, rotated(old, rotated(old, stolen)))
            off = sign_in(old, "off")["token"]
            changed(old, "POST", "/v1/principals/off/disable")
            changed(old, "DELETE", "/v1/principals/erased")
            _fill_the_feed(old)
            told = {name: events(old, name) for name in ("ann", "busy")}
            alarms = _alarms(old)
            stranger_key = _other_tenant(old)
            moved(old, there.url, file)
            eventually(lambda: reason(old, elevated) == "unauthenticated", within_s=5)

        live = [plain["token"], twice["token"], successor, elevated, held]
        dead = [cut, gone["token"], raised["token"], stolen, off]
        _has_nothing_to_present(file, [*live, *dead], keys=[old.key, stranger_key])
        with place(tmp_path / "new", there.url, key=old.key, TENURE_SHARDS=SHARDS) as new:
            assert alarms == _alarms(new)
            assert ["tenant", "revoked", "superseded", "superseded", "disabled"] == [reason(new, each) for each in dead]
            assert [""] * 5 == [reason(new, each) for each in live]
            assert told == {name: events(new, name) for name in ("ann", "busy")}
            assert successor == rotated(new, twice["token"]), "in the window, the same for all who ask"
            assert plain["token"] == sign_in(new, idempotency="login-1")["token"], "repeated, not begun anew"
            assert POLICY.items() <= new.ask("GET", "/v1/tenant/policy")[1]["policy"].items()
            assert 3 == len(sign_in(new, status=409)["sessions"]), "it is full, and stays so"
            status, data = new.ask("PATCH", f"{path}/data", {"cart": [2]}, headers={**_MERGE, "If-Match": '"v1"'})
            assert (200, {"cart": [2]}) == (status, data)
            assert 401 == new.ask("POST", "/v1/session/rotate", token=stolen)[0]
            assert "reuse_detected" == reason(new, held)
            refused = [sign_in(new, name, status=403)["code"] for name in ("off", "erased")]
            assert ["principal_disabled", "principal_erased"] == refused
            sign_in(new, "busy")
            assert told["busy"][-1][0] + 1 == events(new, "busy")[-1][0], "the next number"
            assert 401 == new.ask("GET", "/v1/principals/else/sessions", token=stranger_key)[0], "not of this tenant"


def test_with_another_routing_key_nobody_who_moved_is_let_in(tmp_path: Path) -> None:
    """Nor found: a token of before is garbage, and its user has no sessions until the next login."""
    file = tmp_path / "export"
    with start_valkey(tmp_path / "here", durable=True) as here, start_valkey(tmp_path / "there", durable=True) as there:
        with place(tmp_path / "old", here.url) as old:
            granted = sign_in(old)
            moved(old, there.url, file)
        other = key_list(9, 1).replace("9:", "0:")
        assert KEYS != other
        with place(tmp_path / "new", there.url, key=old.key, TENURE_SESSION_KEYS=other, TENURE_SHARDS=SHARDS) as new:
            assert "unauthenticated" == reason(new, granted["token"])
            assert {"sessions": []} == new.ask("GET", "/v1/principals/ann/sessions")[1]
            assert "" == reason(new, sign_in(new)["token"])


_MERGE = {"Content-Type": "application/merge-patch+json"}


def _fill_the_feed(manager: Manager) -> None:
    """More events than are kept."""
    path = "/v1/principals/busy/sessions"
    for _ in range(FEED_ENTRIES // 2 + 40):
        changed(manager, "DELETE", f"{path}/{sign_in(manager, 'busy')['session']['id']}")
    assert events(manager, "busy")[0][0] > 1, "the first are not kept any more"


def _alarms(manager: Manager) -> list[tuple[str, int]]:
    """Which object has the alarm, and when it rings."""
    here = {"TENURE_ADMIN_PORT": str(manager.admin_port), "TENURE_ADMIN_TOKEN": ADMIN_TOKEN}
    listed = json.loads(tenure("alarms", "list", "--json", **here).stdout)["alarms"]
    return sorted((alarm["name"], alarm["due_ms"]) for alarm in listed)


def _other_tenant(manager: Manager) -> str:
    """The key of somebody else on the same store, with a session that does not go along."""
    key = asyncio.run(new_key(manager.redis_url, "other"))
    eventually(lambda: manager.ask("POST", "/v1/principals/else/sessions", {}, token=key)[0] == 201, within_s=10)
    return key


def _has_nothing_to_present(file: Path, tokens: Sequence[str], *, keys: Sequence[str]) -> None:
    """No token, no secret of one and no API key is in an export, in any spelling; what is public of them is."""
    export = file.read_bytes()
    reader = Tokens(read_keys(KEYS))
    for text in tokens:
        token = reader.read(text.encode())
        assert token is not None
        assert session_text(token.session).encode() in export, "what is public of it is found"
        for spelling in (text.encode(), text[4:].encode(), token.secret, token.secret.hex().encode(), token.body()):
            assert spelling not in export
    assert not [key for key in keys if key.encode() in export]
    assert not [master for master in KEYS.split(",") if master.partition(":")[2].encode() in export]
