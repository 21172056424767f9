"""The metrics as Prometheus reads them: text format 0.0.4, or OpenMetrics with exemplars.

Names are OpenTelemetry's, translated as its specification says: `_` for `.`, the unit as a suffix,
`_total` on counters.

Sources: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ and
https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from shared.telemetry.series import Exemplar, Family, HistogramPoint, Snapshot

_UNITS = {"s": "seconds", "By": "bytes"}


def render(families: Callable[[], Iterable[Snapshot]], accept: str) -> tuple[bytes, str]:
    """The text, and the content type, that suit the `Accept` header of a scrape."""
    encode, content_type = choose_encoder(accept)
    return encode(_Families(families)), content_type


def metric_name(family: Family) -> str:
    """The family's name in Prometheus, without the `_total` that samples of a counter have."""
    name, unit = _plain(family.name), _UNITS.get(family.unit, "")
    return f"{name}_{unit}" if unit else name


class _Families(Collector):
    def __init__(self, families: Callable[[], Iterable[Snapshot]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for snapshot in self._families():
            yield _metric(snapshot)


def _metric(snapshot: Snapshot) -> Metric:
    family = snapshot.family
    name = metric_name(family)
    metric = Metric(name, family.help, family.type, _UNITS.get(family.unit, ""))
    sample_name = f"{name}_total" if family.type == "counter" else name
    for point in snapshot.points:
        labels = {_plain(label): value for label, value in point.labels}
        if isinstance(point, HistogramPoint):
            _add_buckets(metric, family, labels, point)
        else:
            metric.add_sample(sample_name, labels, point.value)
    return metric


def _add_buckets(metric: Metric, family: Family, labels: dict[str, str], point: HistogramPoint) -> None:
    exemplars = point.exemplars or (None,) * len(point.counts)
    uppers = (*map(floatToGoString, family.bounds), "+Inf")
    cumulated = list(accumulate(point.counts))
    for upper, count, exemplar in zip(uppers, cumulated, exemplars, strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": upper}, count, exemplar=_exemplar(exemplar))
    metric.add_sample(f"{metric.name}_count", labels, cumulated[-1])
    metric.add_sample(f"{metric.name}_sum", labels, point.total)


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    if exemplar is None:
        return None
    ids = {"trace_id": f"{exemplar.trace.trace_id:032x}", "span_id": f"{exemplar.trace.span_id:016x}"}
    return PrometheusExemplar(ids, exemplar.value, exemplar.unix_ms / 1000)


def _plain(name: str) -> str:
    return name.replace(".", "_")
