"""Our spans and metrics in the shapes that the OpenTelemetry SDK's exporters encode.

The SDK has no way in for numbers that were counted elsewhere, so a metric exporter stands before
the real one and puts the registry's families in the place of what the SDK collected. Sums and
buckets are cumulative, whatever temporality is preferred.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import Exemplar as ExemplarData
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from shared.telemetry.context import TraceContext
from shared.telemetry.metrics import Metrics
from shared.telemetry.series import Exemplar, HistogramPoint, NumberPoint, Snapshot
from shared.telemetry.spans import SpanData

NAMESPACE = "tenure"
_NS_PER_MS = 1_000_000
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_ERROR = Status(StatusCode.ERROR)
_UNSET = Status(StatusCode.UNSET)


class Origin:
    """Who exports. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before our own words."""

    __slots__ = ("resource", "scope")

    def __init__(self, *, service: str, node: str, version: str) -> None:
        ours = {
            "service.name": service,
            "service.namespace": NAMESPACE,
            "service.version": version,
            "service.instance.id": node,
        }
        self.resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
        self.scope = InstrumentationScope(NAMESPACE, version)


def span_batches(origin: Origin) -> "SpanBatches":
    """Where spans go: the collector that the SDK's variables name."""
    return SpanBatches(OTLPSpanExporter(), origin.resource, origin.scope)


def push_metrics(metrics: Metrics, origin: Origin) -> Callable[[], object]:
    """Start to send `metrics` there, at the SDK's interval. Call what is returned to send the last and end."""
    exporter = RegistryExporter(metrics, OTLPMetricExporter(), origin.resource, origin.scope)
    provider = MeterProvider(
        metric_readers=[PeriodicExportingMetricReader(exporter)], resource=origin.resource, shutdown_on_exit=False
    )
    # A reader calls its exporter only if the SDK has collected something. This is that something.
    provider.get_meter(NAMESPACE).create_observable_gauge("tenure.export", [_one])
    return provider.shutdown


class SpanBatches:
    """Takes spans and sends them in batches from a thread; a full queue drops, and says so in the log."""

    def __init__(self, exporter: SpanExporter, resource: Resource, scope: InstrumentationScope) -> None:
        self._processor = BatchSpanProcessor(exporter, meter_provider=NoOpMeterProvider())
        self._resource = resource
        self._scope = scope

    def emit(self, span: SpanData) -> None:
        """Queue one span."""
        attributes = {**span.attributes, "error.type": span.error} if span.error else span.attributes
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_span_context(span.context),
                parent=_span_context(span.parent, remote=span.kind == "server") if span.parent else None,
                resource=self._resource,
                attributes=attributes,
                links=[Link(_span_context(link, remote=True)) for link in span.links],
                kind=_KINDS[span.kind],
                status=_ERROR if span.error else _UNSET,
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=self._scope,
            )
        )

    def shutdown(self) -> None:
        """Send what is queued. May take as long as the exporter's time-out for each batch."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # The SDK leaves it without types.


class RegistryExporter(MetricExporter):
    """Sends the families of `metrics` through `exporter`, each time the SDK's reader has its turn."""

    def __init__(
        self, metrics: Metrics, exporter: MetricExporter, resource: Resource, scope: InstrumentationScope
    ) -> None:
        super().__init__()
        self._metrics = metrics
        self._exporter = exporter
        self._resource = resource
        self._scope = scope

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002  # The SDK calls by name.
        """Send the registry; what the SDK has collected itself is only the occasion."""
        return self._exporter.export(self.current(), timeout_millis=timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held back here."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Close the exporter behind."""
        self._exporter.shutdown(timeout_millis=timeout_millis)

    def current(self) -> MetricsData:
        """Everything as of now."""
        now_ns = self._metrics.now_ms() * _NS_PER_MS
        start_ns = self._metrics.started_ms * _NS_PER_MS
        families = [
            _metric(snapshot, start_ns, now_ns) for snapshot in self._metrics.iter_families() if snapshot.points
        ]
        scope_metrics = ScopeMetrics(scope=self._scope, metrics=families, schema_url="")
        return MetricsData([ResourceMetrics(resource=self._resource, scope_metrics=[scope_metrics], schema_url="")])


def _one(_: CallbackOptions) -> list[Observation]:
    return [Observation(1)]


def _metric(snapshot: Snapshot, start_ns: int, now_ns: int) -> Metric:
    family = snapshot.family
    data: Sum | Gauge | HistogramData
    if family.type == "histogram":
        buckets = [
            _buckets(point, family.bounds, start_ns, now_ns)
            for point in snapshot.points
            if isinstance(point, HistogramPoint)
        ]
        data = HistogramData(data_points=buckets, aggregation_temporality=AggregationTemporality.CUMULATIVE)
    else:
        numbers = [_number(point, start_ns, now_ns) for point in snapshot.points if isinstance(point, NumberPoint)]
        data = (
            Gauge(data_points=numbers)
            if family.type == "gauge"
            else Sum(numbers, aggregation_temporality=AggregationTemporality.CUMULATIVE, is_monotonic=True)
        )
    return Metric(name=family.name, description=family.help, unit=family.unit, data=data)


def _number(point: NumberPoint, start_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(
        attributes=dict(point.labels), start_time_unix_nano=start_ns, time_unix_nano=now_ns, value=point.value
    )


def _buckets(point: HistogramPoint, bounds: tuple[float, ...], start_ns: int, now_ns: int) -> HistogramDataPoint:
    unknown = cast("float", None)  # Smallest and largest are not kept; both are optional on the wire.
    return HistogramDataPoint(
        attributes=dict(point.labels),
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=sum(point.counts),
        sum=point.total,
        bucket_counts=point.counts,
        explicit_bounds=bounds,
        min=unknown,
        max=unknown,
        exemplars=list(_exemplars(point.exemplars)),
    )


def _exemplars(exemplars: Iterable[Exemplar | None]) -> Iterable[ExemplarData]:
    for exemplar in exemplars:
        if exemplar is not None:
            yield ExemplarData(
                filtered_attributes={},
                value=exemplar.value,
                time_unix_nano=exemplar.unix_ms * _NS_PER_MS,
                span_id=exemplar.trace.span_id,
                trace_id=exemplar.trace.trace_id,
            )


def _span_context(context: TraceContext, *, remote: bool = False) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote=remote, trace_flags=_SAMPLED)
