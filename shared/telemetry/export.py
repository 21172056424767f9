"""The way out: spans and metrics by OTLP over HTTP, as the standard OTEL_* variables say.

Without an endpoint nothing is exported and nothing is sampled: unlike the SDKs, Tenure does not
guess that a collector listens on this machine. Batches leave from threads of the SDK; a collector
that is away costs queued spans and log lines, never an answer.

Read here: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER (`otlp` or `none`),
OTEL_TRACES_SAMPLER and _ARG, OTEL_EXPORTER_OTLP_ENDPOINT and _PROTOCOL, also with TRACES_ or
METRICS_ before the last word. Read by the SDK: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, the
other OTEL_EXPORTER_OTLP_* variables (headers, compression, certificates, time-out), OTEL_BSP_* and
OTEL_METRIC_EXPORT_*.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from threading import Thread

import msgspec

from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.telemetry import logs
from shared.telemetry.metrics import Metrics
from shared.telemetry.sampling import Sampler, read_sampler
from shared.telemetry.spans import SpanSink

SHUTDOWN_MS = 5_000
"""How long a stopping process waits for the collector, at most."""

_PROTOCOL = "http/protobuf"
_log = logs.get_logger()


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What leaves this process. `spans` is None if traces do not."""

    sampler: Sampler
    spans: SpanSink | None = None
    closers: Sequence[Callable[[], object]] = ()

    def shutdown(self, within_ms: int = SHUTDOWN_MS) -> None:
        """Send what is left, spans and metrics at once, for `within_ms` at most."""
        clock = SystemClock()
        until_ms = clock.monotonic_ms() + within_ms
        threads = [Thread(target=close, daemon=True) for close in self.closers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0, until_ms - clock.monotonic_ms()) / 1000)
        if any(thread.is_alive() for thread in threads):
            _log.warning(logs.TELEMETRY_ABANDONED, waited_ms=within_ms)


def open_export(*, service: str, node: str, metrics: Metrics) -> Export:
    """Start what the environment asks for.

    Raises:
        ConfigurationError: a variable cannot be right.
    """
    environ = os.environ  # noqa: TID251  # The SDK's exporters read it themselves: there cannot be another.
    sampler = read_sampler(environ)
    traces = _exports(environ, "TRACES")
    pushes = _exports(environ, "METRICS")
    if not (traces or pushes):
        return Export(sampler=sampler)
    # Imported here: it is a seventh of what a service imports at start, and without a collector nobody needs it.
    from shared.telemetry.otlp import Origin, push_metrics, span_batches

    origin = Origin(service=service, node=node, version=_version())
    closers: list[Callable[[], object]] = []
    spans = span_batches(origin) if traces else None
    if spans is not None:
        closers.append(spans.shutdown)
    if pushes:
        closers.append(push_metrics(metrics, origin))
    return Export(sampler=sampler, spans=spans, closers=closers)


def _exports(environ: Mapping[str, str], signal: str) -> bool:
    """Whether the signal is to be exported."""
    endpoint = _value(environ, signal, "ENDPOINT")
    exporter = environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() or "otlp"
    if exporter not in ("otlp", "none"):
        raise ConfigurationError(f"OTEL_{signal}_EXPORTER is {exporter!r}, but must be otlp or none.")
    if not endpoint or exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError("OTEL_EXPORTER_OTLP_ENDPOINT must start with http:// or https://.")
    protocol = _value(environ, signal, "PROTOCOL")
    if protocol not in ("", _PROTOCOL):
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, but must be {_PROTOCOL}.")
    pairs = _value(environ, signal, "HEADERS").split(",")
    if any(pair.strip() and "=" not in pair for pair in pairs):
        # Told without the value: it is a credential, and the SDK would log it.
        raise ConfigurationError("OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs with commas between them.")
    return True


def _value(environ: Mapping[str, str], signal: str, word: str) -> str:
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{word}", "").strip()
    return own or environ.get(f"OTEL_EXPORTER_OTLP_{word}", "").strip()


def _version() -> str:
    try:
        return metadata.version("tenure")
    except metadata.PackageNotFoundError:
        return "unknown"  # Run from a source tree that is not installed.
