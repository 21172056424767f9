"""What is recorded is what a scrape and an export say, under the same names, within bounds."""

import asyncio
import gc
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from shared.clock import SystemClock
from shared.telemetry import catalogue
from shared.telemetry.context import TraceContext
from shared.telemetry.metrics import POLICIES_MAX, Metrics
from shared.telemetry.process import observe_process, watch_loop
from shared.telemetry.prometheus import metric_name
from shared.telemetry.series import OTHER, SERIES_MAX, Counters, Family, Histogram, Histograms
from shared.telemetry.traces import Tracer
from shared.testing.clock import run_virtual
from tests.support.otlp_receiver import OtlpReceiver, attributes, export_to, otlp_receiver

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
TRACE = TraceContext(trace_id=0xAF7651916CD43DD8448EB211C80319C, span_id=0xB7AD6B7169203331, sampled=True)
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Sample = tuple[str, frozenset[tuple[str, str]]]


class FixedClock:
    """A clock that stands still."""

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic_ms(self) -> int:
        return 5_000


def recorded() -> Metrics:
    """A registry in which every record function was used."""
    metrics = Metrics(FixedClock())
    metrics.http_request("POST", "/v1/check", 200, 0.0004, TRACE)
    metrics.http_request("BREW", "/v1/check", 500, 0.2)
    check = metrics.bind_check("api")
    check.allowed += 3
    check.denied += 2
    check.peeked += 1
    check.fail_open += 4
    check.fail_closed += 5
    check.observe(0.00002, TRACE)
    metrics.turn("limiter", "check", "ok", 0.00003, TRACE)
    metrics.bind_turn("limiter", "check", "error").observe(11.0)
    metrics.queue_wait("limiter", 0.001)
    metrics.queue_rejected("limiter", "mailbox")
    metrics.activations("limiter", 2)
    metrics.evictions("limiter", "idle")
    metrics.quarantine_refused("limiter")
    metrics.activation_duration("limiter", 0.002)
    metrics.migration("limiter", "ok")
    metrics.commit("ok", 0.003, 4, 2, size_bytes=700, trace=TRACE)
    metrics.ownership_changes("acquired", 256)
    metrics.fenced()
    metrics.rollback_detected()
    metrics.alarm_fired("limiter", "ok")
    metrics.alarm_lag("limiter", 0.02)
    metrics.message("limiter", "delivered")
    metrics.socket_message("board", "in")
    metrics.socket_dropped("board", 3)
    metrics.socket_resync("board")
    metrics.socket_closed("board", "slow")
    metrics.outbound_request("POST", 200, "", 0.25)
    metrics.outbound_request("POST", 0, "Unreachable", 3.0)
    metrics.session_event("session.created", "")
    metrics.session_denied("unknown")
    metrics.workflow_run("started")
    metrics.workflow_step("completed")
    metrics.workflow_errand("CallObject", "ok", 0.004)
    metrics.workflow_repaired()
    metrics.workflow_task("leased", 2)
    metrics.workflow_task_wait(0.2)
    metrics.eventloop_lag(0.0001)
    metrics.eventloop_blocked("limiter")
    for family in catalogue.READ_AT_COLLECTION:
        for value, labels in enumerate(combinations(family), start=1):
            metrics.gauge(family.name, lambda value=value: value + 0.5, **labels)  # type: ignore[misc]  # Bound early.
    return metrics


def combinations(family: Family) -> list[dict[str, str]]:
    found: list[dict[str, str]] = [{}]
    for label, values in family.labels.items():
        found = [{**labels, label: value} for labels in found for value in values or ()]
    return found


def scraped(metrics: Metrics) -> dict[Sample, float]:
    """Every sample of the text format."""
    text = metrics.render_prometheus().decode()
    return {
        (sample.name, frozenset(with_float(sample.labels).items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def with_float(labels: dict[str, str]) -> dict[str, str]:
    """The same, with a bucket's bound in one form: 1e+06 is 1000000."""
    return {**labels, "le": str(float(labels["le"]))} if "le" in labels else labels


def value_of(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scraped(metrics).get((name, frozenset(labels.items())))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        export_to(receiver, monkeypatch)
        yield receiver


def test_the_page_lists_every_metric() -> None:
    """docs/reference/metrics.md has one row a family, with its unit, labels and sentence as they are in the code."""
    families = [snapshot.family for snapshot in Metrics().iter_families()]
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `[a-z]+\.", line)]
    assert [row_of(family) for family in families] == rows


def row_of(family: Family) -> str:
    labels = "<br>".join(
        f"`{label}`" + (f": {', '.join(values)}" if values else "") for label, values in family.labels.items()
    )
    suffix = "_total" if family.type == "counter" else ""
    names = f"`{family.name}` | `{metric_name(family)}{suffix}`"
    return f"| {names} | {family.type} | {family.unit} | {labels} | {family.help} |".replace("|  |", "| |")


def test_every_family_of_the_catalogue_is_collected_once() -> None:
    """No family is declared and then forgotten, and none is given twice."""
    declared = {item.name for item in vars(catalogue).values() if isinstance(item, Family)}
    declared |= {family.name for family in catalogue.READ_AT_COLLECTION}
    collected = [snapshot.family.name for snapshot in Metrics().iter_families()]
    assert sorted(declared) == sorted(collected)


def test_a_scrape_and_an_export_say_the_same(receiver: OtlpReceiver) -> None:
    """The same names with the same values leave by Prometheus text and by OTLP."""
    metrics = recorded()
    Tracer.from_environment(service="tenure-test", node="n1", metrics=metrics).shutdown()
    assert {"gzip"} == {headers["content-encoding"] for headers in receiver.headers}
    assert scraped(metrics) == exported(receiver)
    assert {snapshot.family.name for snapshot in metrics.iter_families()} == {m.metric.name for m in receiver.metrics}


def exported(receiver: OtlpReceiver) -> dict[Sample, float]:
    """Every exported point, named as Prometheus would."""
    by_name = {snapshot.family.name: snapshot.family for snapshot in Metrics().iter_families()}
    found: dict[Sample, float] = {}
    for _, metric in receiver.metrics:
        family = by_name[metric.name]
        assert (family.unit, family.help) == (metric.unit, metric.description)
        name = metric_name(family)
        if metric.HasField("histogram"):
            for buckets in metric.histogram.data_points:
                found |= cumulated(name, plain(buckets), buckets)
            continue
        data: Any = metric.gauge if metric.HasField("gauge") else metric.sum
        for point in data.data_points:
            suffix = "_total" if family.type == "counter" else ""
            value = point.as_double if point.HasField("as_double") else point.as_int
            found[name + suffix, frozenset(plain(point).items())] = value
    return found


def plain(point: Any) -> dict[str, str]:
    return {name.replace(".", "_"): value for name, value in attributes(point.attributes).items()}


def cumulated(name: str, labels: dict[str, str], point: Any) -> dict[Sample, float]:
    uppers = [*point.explicit_bounds, float("inf")]
    found: dict[Sample, float] = {
        (f"{name}_bucket", frozenset({**labels, "le": str(upper)}.items())): count
        for upper, count in zip(uppers, accumulate(point.bucket_counts), strict=True)
    }
    found[f"{name}_count", frozenset(labels.items())] = point.count
    found[f"{name}_sum", frozenset(labels.items())] = point.sum
    return found


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=50))
def test_a_bucket_counts_what_is_at_most_its_bound(values: list[float]) -> None:
    """Every value is in exactly one bucket, and a bound belongs to the bucket below it."""
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(bounds, FixedClock())
    for value in values:
        histogram.observe(value)
    counts = histogram.point(()).counts
    expected = [sum(value <= bound for value in values) for bound in bounds]
    assert [*expected, len(values)] == list(accumulate(counts))


def test_a_label_outside_its_closed_set_is_other() -> None:
    """What a client sends as method cannot make a series."""
    metrics = Metrics()
    for number in range(50):
        metrics.http_request(f"M{number}", "/v1/check", 404, 0.001)
    labels = {"http_request_method": OTHER, "http_route": "/v1/check", "http_response_status_code": "404"}
    assert value_of(metrics, "http_server_request_duration_seconds_count", **labels) == 50


def test_a_family_has_a_bounded_number_of_series() -> None:
    """Whatever is recorded under new names after that is one series, and nothing is lost."""
    metrics = Metrics()
    for number in range(SERIES_MAX + 40):
        metrics.activations(f"kind{number}")
    assert value_of(metrics, "tenure_object_activations_total", kind=OTHER) == 40
    assert value_of(metrics, "tenure_object_activations_total", kind="kind0") == 1


def test_policies_beyond_the_cap_share_one_handle() -> None:
    """The first 200 have series of their own; each name gets the same handle every time."""
    metrics = Metrics()
    handles = [metrics.bind_check(f"p{number}") for number in range(POLICIES_MAX + 10)]
    assert len(set(map(id, handles))) == POLICIES_MAX + 1
    assert metrics.bind_check("p3") is handles[3]
    assert metrics.bind_check("brand-new") is handles[-1]


def test_an_error_answer_has_an_error_type_and_a_good_one_has_no_such_label() -> None:
    """A label without a value is no label."""
    metrics = Metrics()
    metrics.http_request("GET", "/v1/policies", 503, 0.1)
    metrics.http_request("GET", "/v1/policies", 404, 0.1)
    found = [dict(labels) for name, labels in scraped(metrics) if name == "http_server_request_duration_seconds_count"]
    by_status = {labels["http_response_status_code"]: labels.get("error_type") for labels in found}
    assert {"503": "503", "404": None} == by_status


def test_series_of_closed_labels_exist_before_anything_happens() -> None:
    """An alert on an increase sees the first step, because the series stood at 0 before it."""
    metrics = Metrics()
    assert value_of(metrics, "tenure_ownership_fenced_total") == 0
    assert value_of(metrics, "tenure_ownership_changes_total", reason="lost") == 0
    assert value_of(metrics, "tenure_commit_duration_seconds_count", outcome="in_doubt") == 0


def test_a_gauge_is_read_when_it_is_asked_for() -> None:
    """A gauge has no stored value; the latest function bound to it counts."""
    metrics = Metrics()
    level = [1]
    metrics.gauge("tenure.alarm.pending", lambda: 99)
    metrics.gauge("tenure.alarm.pending", lambda: level[0])
    level[0] = 7
    assert value_of(metrics, "tenure_alarm_pending") == 7


def test_a_broken_gauge_costs_only_itself() -> None:
    """A function that raises is left out, and the scrape goes on."""
    metrics = Metrics()
    metrics.gauge("tenure.alarm.pending", lambda: 1 // 0)
    metrics.gauge("tenure.object.resident", lambda: 3)
    assert value_of(metrics, "tenure_alarm_pending") is None
    assert value_of(metrics, "tenure_object_resident") == 3


def test_a_gauge_with_wrong_labels_is_refused() -> None:
    """A mistake in the wiring shows at start, not as a missing series."""
    with pytest.raises(AssertionError, match=r"process\.cpu\.time has the labels \['cpu\.mode'\]"):
        Metrics().gauge("process.cpu.time", lambda: 0)
    with pytest.raises(KeyError):
        Metrics().gauge("tenure.unheard.of", lambda: 0)


def test_openmetrics_carries_the_trace_of_a_sampled_request() -> None:
    """The histograms of request, check, turn and commit link a bucket to a trace."""
    body, content_type = recorded().scrape(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    linked = {
        family.name: sample.exemplar.labels
        for family in parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # It has no types.
        for sample in family.samples
        if sample.exemplar
    }
    ids = {"trace_id": f"{TRACE.trace_id:032x}", "span_id": f"{TRACE.span_id:016x}"}
    expected = dict.fromkeys(
        (
            "http_server_request_duration_seconds",
            "tenure_ratelimit_check_duration_seconds",
            "tenure_object_turn_duration_seconds",
            "tenure_commit_duration_seconds",
        ),
        ids,
    )
    assert expected == linked


def test_an_export_carries_the_trace_of_a_sampled_request(receiver: OtlpReceiver) -> None:
    """OTLP exemplars have the ids, the value and the time."""
    Tracer.from_environment(service="tenure-test", node="n1", metrics=recorded()).shutdown()
    metric = next(m.metric for m in receiver.metrics if m.metric.name == "tenure.ratelimit.check.duration")
    (exemplar,) = metric.histogram.data_points[0].exemplars
    assert exemplar.trace_id.hex() == f"{TRACE.trace_id:032x}"
    assert (exemplar.as_double, exemplar.time_unix_nano) == (0.00002, 1_700_000_000_000_000_000)


def test_series_may_be_added_wherever_a_scrape_is_interrupted() -> None:
    """The garbage collector can let other code run in the middle of a copy; new series then break nothing."""
    counters = Counters(catalogue.ACTIVATIONS)
    histograms = Histograms(catalogue.QUEUE_DURATION, FixedClock())
    added = [("kind0",)]
    counters.add(added[0])
    histograms.of(added[0])

    def add(_phase: str, _info: dict[str, int]) -> None:
        added.append((f"kind{len(added)}",))
        counters.add(added[-1])
        histograms.of(added[-1])

    thresholds = gc.get_threshold()
    gc.callbacks.append(add)
    gc.set_threshold(1)
    try:
        reads = [len(points()) for _ in range(5) for points in (counters.points, histograms.points)]
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(add)
    assert reads == sorted(reads)
    assert len(added) > 10


def test_scrapes_in_threads_and_records_of_the_loop_do_not_disturb_each_other() -> None:
    """Hammered: 4 threads scrape while every map grows to its bound; all scrapes are whole, and nothing is lost."""
    metrics = Metrics()
    recording = Event()
    recording.set()

    def scrape_on() -> int:
        scrapes = 0
        while recording.is_set() or not scrapes:
            body, _ = metrics.scrape(OPENMETRICS)
            assert body.endswith(b"# EOF\n")
            scrapes += 1
        return scrapes

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            scraping = [pool.submit(scrape_on) for _ in range(4)]
            for number in range(SERIES_MAX * 2):
                metrics.activations(f"kind{number}")
                metrics.turn("limiter", f"method{number}", "ok", 0.001, TRACE)
                metrics.bind_check(f"p{number}").observe(0.001, TRACE)
            recording.clear()
            assert all(done.result() for done in scraping)
    finally:
        sys.setswitchinterval(interval_s)
    assert value_of(metrics, "tenure_object_activations_total", kind=OTHER) == SERIES_MAX
    assert (
        value_of(metrics, "tenure_ratelimit_check_duration_seconds_count", policy=OTHER)
        == SERIES_MAX * 2 - POLICIES_MAX
    )


def test_without_a_wish_a_scrape_is_plain_text() -> None:
    """A scraper that does not know OpenMetrics gets the format that all know."""
    body, content_type = Metrics().scrape("")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE tenure_ratelimit_decisions_total counter\n" in body


def test_the_process_shows_what_it_uses() -> None:
    """Processor, memory, files and collections of this very process are read."""
    metrics = Metrics()
    observe_process(metrics, SystemClock())
    found = scraped(metrics)
    assert found["process_memory_usage_bytes", frozenset()] > 1_000_000
    assert found["process_unix_file_descriptor_count", frozenset()] > 2
    assert ("process_cpu_time_seconds_total", frozenset({("cpu_mode", "user")})) in found
    assert ("cpython_gc_collections_total", frozenset({("cpython_gc_generation", "2")})) in found


def test_a_late_event_loop_is_measured() -> None:
    """Twice a second: by how much a timer of 0.5 s took longer, on a stopwatch that runs as if the loop were late."""
    metrics = Metrics()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watching = loop.create_task(watch_loop(metrics, lambda: loop.time() * 1.5))
        await asyncio.sleep(2.1)
        watching.cancel()

    run_virtual(main)
    assert value_of(metrics, "tenure_eventloop_lag_seconds_count") == 4
    assert value_of(metrics, "tenure_eventloop_lag_seconds_sum") == pytest.approx(1.0)
