"""A real node shows every number of the catalogue, and one request as one chain of spans."""

import re
import urllib.request
from pathlib import Path

import pytest

from shared.telemetry import catalogue
from shared.telemetry.metrics import Metrics
from shared.telemetry.prometheus import metric_name
from tests.support.launching import eventually
from tests.support.otlp_receiver import export_to, otlp_receiver
from tests.support.service import Limiter, limiter

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
FED_BY_TROUBLE = {
    catalogue.QUEUE_REJECTED.name,
    catalogue.EVICTIONS.name,
    catalogue.MIGRATIONS.name,
    catalogue.ALARM_FIRED.name,
    catalogue.ALARM_LAG.name,
    catalogue.MESSAGES.name,
    catalogue.QUARANTINE_REFUSED.name,
    catalogue.EVENTLOOP_BLOCKED.name,
}
"""What a limiter in good health has no series of: `tests/simulation/test_core_telemetry.py` feeds each of them."""
FED_BY_OTHERS = {
    catalogue.OUTBOUND_DURATION.name,
    catalogue.WORKFLOW_RUNS.name,
    catalogue.WORKFLOW_STEPS.name,
    catalogue.WORKFLOW_ERRANDS.name,
    catalogue.WORKFLOW_REPAIRED.name,
    catalogue.WORKFLOW_FIRINGS.name,
    catalogue.WEBHOOKS.name,
    catalogue.SESSION_EVENTS.name,
    catalogue.SESSION_DENIALS.name,
    catalogue.WORKFLOW_TASKS.name,
    catalogue.WORKFLOW_TASK_WAIT.name,
    catalogue.SOCKET_MESSAGES.name,
    catalogue.SOCKET_DROPPED.name,
    catalogue.SOCKET_RESYNCS.name,
    catalogue.SOCKET_CLOSED.name,
}
"""What a limiter never has any series of."""


def scrape(service: Limiter, accept: str = "") -> tuple[str, str]:
    """The text of `/metrics` and its content type."""
    request = urllib.request.Request(f"http://127.0.0.1:{service.run.admin_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as reply:
        return reply.read().decode(), reply.headers["content-type"]


def fed(service: Limiter) -> set[str]:
    """The families that have a sample; a histogram has one once something was recorded in it."""
    text, _ = scrape(service)
    found = set()
    for snapshot in Metrics().iter_families():
        family, name = snapshot.family, metric_name(snapshot.family)
        sample = {"histogram": f"{name}_count", "counter": f"{name}_total", "gauge": name}[family.type]
        value = r"0*[1-9].*" if family.type == "histogram" else r".+"
        if re.search(rf"^{sample}(?:{{.*}})? {value}$", text, re.MULTILINE):
            found.add(family.name)
    return found


def test_a_node_feeds_every_family_and_one_trace_joins_request_turn_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check and a reset do: each span hangs on the one before, and a scrape links to the trace."""
    sampled = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    with otlp_receiver() as receiver:
        export_to(receiver, monkeypatch)
        with limiter(tmp_path / "data") as service:
            service.policy("api", ("minute", 5, 60_000))
            body = {"policy": "api", "subject": "user-1"}
            for headers in ({}, sampled):
                assert 200 == service.call("POST", "/v1/check", body, headers)[0]
            service.call("DELETE", "/v1/subjects/user-1", None, sampled)

            families = {snapshot.family.name for snapshot in Metrics().iter_families()}
            eventually(lambda: families - FED_BY_TROUBLE - FED_BY_OTHERS <= fed(service), within_s=10)
            text, content_type = scrape(service, OPENMETRICS)
            assert content_type.startswith("application/openmetrics-text")
            linked = {line.split("{")[0] for line in text.splitlines() if f'trace_id="{TRACE}"' in line}
            assert {
                "http_server_request_duration_seconds_bucket",
                "tenure_object_turn_duration_seconds_bucket",
                "tenure_commit_duration_seconds_bucket",
                "tenure_ratelimit_check_duration_seconds_bucket",
            } == linked
            request, turn, commit = (
                receiver.span(name)
                for name in ("DELETE /v1/subjects/{subject}", "turn limiter/reset", "commit limiter")
            )
        assert {TRACE} == {span.trace_id.hex() for span in (request, turn, commit)}
        assert [SPAN, request.span_id.hex(), turn.span_id.hex()] == [
            span.parent_span_id.hex() for span in (request, turn, commit)
        ]
