"""What `tenure run` prints once everything is ready: where it listens, and calls to try."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shared.runtime.development import DEFINITION, POLICY, PROFILE, SESSIONS, TENANT, WORKFLOWS
from shared.runtime.local_call import Endpoint

_JSON = "-H 'Content-Type: application/json'"


class RunningService(msgspec.Struct, frozen=True, kw_only=True):
    """A service as the launcher runs it."""

    name: str
    api: Endpoint
    admin: Endpoint
    log_path: Path


def screen(
    services: Sequence[RunningService], *, key: str, data_dir: Path, store: str, kinds: Mapping[str, Sequence[str]]
) -> str:
    """A short text: addresses, then calls that work when pasted as they are. `kinds` have their public methods."""
    where = "\n".join(f"  {s.name:<12} {s.api.url}   health, metrics: {s.admin.url}" for s in services)
    api = services[0].api.url
    return f"""
Tenure is running.

{where}
  {"store":<12} {store}
  {"data":<12} {data_dir}   (logs in logs/)
{_hosted(kinds, api)}
Try, as tenant "{TENANT}":

  KEY={key}

  curl -i {api}/v1/check -H "Authorization: Bearer $KEY" {_JSON} \\
    -d '{{"policy":"{POLICY}","subject":"user-1"}}'

  curl -i {api}/check/p/{PROFILE} -H "X-Tenure-Key: $KEY" -H 'X-Tenure-Subject: user-1'

  curl -s {api}/v1/policies/{POLICY} -H "Authorization: Bearer $KEY"
{_workflow_calls(services)}{_session_calls(services)}
Ctrl-C stops everything.
"""


def _workflow_calls(services: Sequence[RunningService]) -> str:
    """Start a run, and answer what it waits for; nothing where no service runs workflows."""
    api = _api_of(WORKFLOWS, services)
    if not api:
        return ""
    return f"""
  curl -s {api}/v1/runs -H "Authorization: Bearer $KEY" {_JSON} \\
    -d '{{"definition":"{DEFINITION}","id":"approval-1","input":{{"what":"the trip"}}}}'

  curl -s {api}/v1/runs/approval-1/steps/decide/complete -H "Authorization: Bearer $KEY" {_JSON} \\
    -d '{{"outcome":"yes","by":"you"}}'
"""


def _session_calls(services: Sequence[RunningService]) -> str:
    """Sign somebody in, and ask who that is; nothing where no service keeps sessions."""
    api = _api_of(SESSIONS, services)
    if not api:
        return ""
    return f"""
  TOKEN=$(curl -s {api}/v1/principals/user-1/sessions -H "Authorization: Bearer $KEY" {_JSON} \\
    -d '{{"amr":["pwd"],"roles":["editor"]}}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')

  curl -s {api}/v1/whoami -H "Authorization: Bearer $TOKEN"
"""


def _api_of(name: str, services: Sequence[RunningService]) -> str:
    return next((service.api.url for service in services if service.name == name), "")


def _hosted(kinds: Mapping[str, Sequence[str]], api: str) -> str:
    """A line for each kind that callers can reach, and how."""
    objects = f"POST {api}/v1/objects"
    return "".join(
        f"  {'' if index else 'objects':<12} {objects}/{kind}/{{name}}/{{method}}   ({', '.join(methods)})\n"
        for index, (kind, methods) in enumerate(kinds.items())
    )
