"""What a newcomer needs to make the first call: a tenant, a key, a policy, a gateway profile and a workflow.

Made once and then left alone: what the user changed or deleted afterwards stays as it is, as long
as the key in `<data>/dev-key` is still valid and has every scope. If not, there is a new one, and the tenant is
enabled. Which scopes it has stands beside it, in `<data>/dev-key-scopes`: one of an earlier release lacks some.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from shared.clock import Clock
from shared.errors import ConflictError, TenureError
from shared.runtime.kept_secrets import write_private
from shared.runtime.local_call import Answer, Endpoint, NoAnswerError
from shared.storage.records import SCOPES

TENANT = "dev"
POLICY = "api"
PROFILE = "nginx"
POLICY_BODY: Mapping[str, Any] = {
    "limits": [
        {"name": "burst", "limit": 10, "window_ms": 1_000, "algorithm": "sliding_window"},
        {"name": "minute", "limit": 100, "window_ms": 60_000, "algorithm": "sliding_window"},
    ],
    "on_error": "open",
}
DEFINITION = "approval"
DEFINITION_BODY: Mapping[str, Any] = {
    "workflow": DEFINITION,
    "start": "decide",
    "steps": {
        "decide": {
            "wait": {"title": "{% 'Approve ' & $input.what & '?' %}", "outcomes": ["yes", "no"]},
            "timeout": "P3D",
            "choice": [{"when": "{% $outcome = 'yes' %}", "next": "done"}],
            "default": "refuse",
        },
        "done": {"pass": {"approved": "{% $input.what %}"}, "end": True},
        "refuse": {"fail": {"error": "approval.refused"}},
    },
}
PROFILE_BODY: Mapping[str, Any] = {"policy": POLICY, "subject_header": "x-tenure-subject", "deny_status": 403}
LIMITER, WORKFLOWS, SESSIONS = "ratelimiter", "workflows", "sessions"
"""Names of services."""


class _Trial(msgspec.Struct, frozen=True):
    """How a service is tried: what any key for it may read, and what is put there for the newcomer."""

    asked: str
    documents: Mapping[str, Mapping[str, Any]]


_TRIALS: Mapping[str, _Trial] = {
    LIMITER: _Trial("/v1/policies", {f"/v1/policies/{POLICY}": POLICY_BODY, f"/v1/profiles/{PROFILE}": PROFILE_BODY}),
    WORKFLOWS: _Trial("/v1/definitions", {f"/v1/definitions/{DEFINITION}/versions/1": DEFINITION_BODY}),
    SESSIONS: _Trial("/v1/tenant/policy", {}),
}
_CALL_TIMEOUT_MS = 2_000
_RETRY_MS = 100
_RETRIES = 150  # 15 s: a new key is known to every node within 5 s.
_NOT_YET = (401, 429, 503)


class DevelopmentError(TenureError):
    """The development tenant could not be set up."""

    code = "development"


def key_path(data_dir: Path) -> Path:
    """Where the key stands."""
    return data_dir / "dev-key"


def scopes_path(data_dir: Path) -> Path:
    """Where it stands which scopes the key has: one a line."""
    return data_dir / "dev-key-scopes"


async def development_key(data_dir: Path, apis: Mapping[str, Endpoint], *, redis_url: str, clock: Clock) -> str:
    """The key in `<data>/dev-key` if it may do everything at every service of `apis`, else a new one and its trials.

    Every service knows it by then.

    Raises:
        DevelopmentError: a service refuses what it is given, or never answers, or never knows the key.
    """
    path = key_path(data_dir)
    trials = [(api, _TRIALS.get(name, _TRIALS[LIMITER])) for name, api in apis.items()]
    scopes = "".join(f"{scope}\n" for scope in sorted(SCOPES))
    if path.exists() and _text_of(scopes_path(data_dir)) == scopes:
        key = path.read_text().strip()
        if all([await _is_valid(api, trial.asked, key) for api, trial in trials]):
            return key
    key = await _new_key(redis_url, clock)
    for api, trial in trials:
        await _ask(api, "GET", trial.asked, key, still_waiting=_NOT_YET)  # Each hears of a new key in its own time.
        for document, body in trial.documents.items():
            await _put(api, key, document, body)
    path.unlink(missing_ok=True)  # What is said of scopes is never said of another key.
    write_private(scopes_path(data_dir), scopes)
    write_private(path, key + "\n")  # Last: its presence says that the rest is done.
    return key


async def _is_valid(api: Endpoint, asked: str, key: str) -> bool:
    """Whether the service lets the key in: nobody has revoked it, and the store knows it."""
    answer = await _ask(api, "GET", asked, key, still_waiting=(429, 503))
    return answer.status not in (401, 403)


async def _new_key(redis_url: str, clock: Clock) -> str:
    # Imported here: the client of the store is needed on the first start only, and it is not small.
    from shared.runtime.documents import open_documents
    from shared.runtime.provision import create_key, create_tenant, set_tenant_disabled

    async with open_documents(redis_url) as documents:
        with suppress(ConflictError):  # Another data directory on the same store made it.
            await create_tenant(documents, TENANT, clock=clock)
        await set_tenant_disabled(documents, TENANT, disabled=False)  # A key of a disabled one would never be valid.
        return await create_key(documents, TENANT, scopes=SCOPES, label="tenure run", expires_days=None, clock=clock)


async def _put(api: Endpoint, key: str, path: str, body: Mapping[str, Any]) -> None:
    """Create a document unless there is one of its name."""
    answer = await _ask(
        api,
        "PUT",
        path,
        key,
        headers={"If-None-Match": "*", "Content-Type": "application/json"},
        body=msgspec.json.encode(body),
        still_waiting=_NOT_YET,
    )
    if answer.status not in (200, 201, 202, 204, 409, 412):  # 409 and 412: there is one of its name.
        detail = answer.body.decode(errors="replace")
        raise DevelopmentError(f"PUT {path} was answered with {answer.status}: {detail}")


async def _ask(
    api: Endpoint,
    method: str,
    path: str,
    key: str,
    *,
    still_waiting: tuple[int, ...],
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Call until the answer is none of `still_waiting`: a new key takes a moment to be known."""
    sent = {"Authorization": f"Bearer {key}", **(headers or {})}
    last = "it does not answer"
    for _ in range(_RETRIES):
        try:
            answer = await api.call(method, path, headers=sent, body=body, timeout_ms=_CALL_TIMEOUT_MS)
        except NoAnswerError as exc:
            last = str(exc)
        else:
            if answer.status not in still_waiting:
                return answer
            last = f"it answers {answer.status}"
        await asyncio.sleep(_RETRY_MS / 1000)
    raise DevelopmentError(f"{method} {path} on {api.url} got nowhere: {last}")


def _text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
