"""A collector for tests: takes OTLP over HTTP for real and keeps what it decoded."""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Condition, Event
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.http_server import http_server

DEADLINE_S = 10.0


class ReceivedSpan(NamedTuple):
    resource: dict[str, Any]
    span: Span


class ReceivedMetric(NamedTuple):
    resource: dict[str, Any]
    metric: Metric


class OtlpReceiver:
    """What has arrived so far. `answers` can be cleared to let senders wait."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[ReceivedSpan] = []
        self.metrics: list[ReceivedMetric] = []
        self.headers: list[dict[str, str]] = []
        self.answers = Event()
        self.answers.set()
        self._arrived = Condition()

    def span(self, name: str) -> Span:
        """The span with this name, which must arrive in time."""
        self.wait(lambda: any(received.span.name == name for received in self.spans))
        return next(received.span for received in self.spans if received.span.name == name)

    def wait(self, predicate: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
        """Wait until what has arrived makes `predicate` true."""
        with self._arrived:
            assert self._arrived.wait_for(predicate, within_s), f"not within {within_s} s"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Decode one export and wake up who waits."""
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self._arrived:
            self.headers.append(headers)
            if path == "/v1/traces":
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    resource = attributes(group.resource.attributes)
                    self.spans += [ReceivedSpan(resource, span) for scope in group.scope_spans for span in scope.spans]
            elif path == "/v1/metrics":
                for batch in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    resource = attributes(batch.resource.attributes)
                    self.metrics += [
                        ReceivedMetric(resource, m) for scope in batch.scope_metrics for m in scope.metrics
                    ]
            self._arrived.notify_all()


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver on a free port of this machine, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.answers.wait(DEADLINE_S)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Handler) as port:
        receiver = OtlpReceiver(f"http://127.0.0.1:{port}")
        try:
            yield receiver
        finally:
            receiver.answers.set()


def without_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the OTEL_* variables of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def export_to(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that send everything to `receiver`, compressed."""
    without_otel_variables(monkeypatch)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes as a dictionary of plain values."""
    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        field = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, field) if field else None
    return found
