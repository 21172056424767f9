"""A trace is decided once, costs nothing when it is not kept, and arrives whole when it is."""

import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from shared.errors import ConfigurationError, NotFoundError
from shared.telemetry.export import open_export
from shared.telemetry.metrics import Metrics
from shared.telemetry.sampling import RATIO_DEFAULT, Sampler, read_sampler
from shared.telemetry.spans import ATTRIBUTE_CHARS_MAX
from shared.telemetry.traces import (
    NO_SPAN,
    SpanData,
    TraceContext,
    Tracer,
    current_trace,
    format_traceparent,
    parse_traceparent,
)
from tests.support.otlp_receiver import OtlpReceiver, attributes, export_to, otlp_receiver, without_otel_variables

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
SAMPLED = TraceContext(trace_id=int(TRACE, 16), span_id=int(SPAN, 16), sampled=True)
UNSAMPLED = TraceContext(trace_id=int(TRACE, 16), span_id=int(SPAN, 16), sampled=False)
ALWAYS, NEVER = Sampler(ratio=1.0), Sampler(ratio=0.0)


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[SpanData] = []

    def emit(self, span: SpanData) -> None:
        self.spans.append(span)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No OTEL_* variable is set."""
    without_otel_variables(monkeypatch)
    return monkeypatch


@pytest.fixture
def receiver(environment: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        export_to(receiver, environment)
        environment.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        yield receiver


def from_environment() -> Tracer:
    return Tracer.from_environment(service="tenure-ratelimiter", node="node-1", metrics=Metrics())


@pytest.mark.parametrize("sampled", [True, False])
def test_a_context_survives_its_header(sampled: bool) -> None:
    """What is written as `traceparent` is read back equal, in 55 bytes."""
    context = TraceContext(trace_id=1, span_id=(1 << 64) - 1, sampled=sampled)
    assert len(format_traceparent(context)) == 55
    assert context == parse_traceparent(format_traceparent(context))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"00-" + TRACE + b"-" + SPAN + b"-01", SAMPLED),
        (b"00-" + TRACE + b"-" + SPAN + b"-00", UNSAMPLED),
        (b"00-" + TRACE + b"-" + SPAN + b"-02", UNSAMPLED),
        (b"00-" + TRACE + b"-" + SPAN + b"-03", SAMPLED),
        (b"cc-" + TRACE + b"-" + SPAN + b"-01", SAMPLED),
        (b"cc-" + TRACE + b"-" + SPAN + b"-01-what-comes-later", SAMPLED),
        (b"cc-" + TRACE + b"-" + SPAN + b"-01.what-comes-later", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-01-", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-01-more", None),
        (b"ff-" + TRACE + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE.upper() + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + SPAN.upper() + b"-01", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-0A", None),
        (b"00-" + b"0" * 32 + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", None),
        (b"00-" + TRACE[:-1] + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-1", None),
        (b"0-" + TRACE + b"-" + SPAN + b"-01", None),
        (b"00_" + TRACE + b"_" + SPAN + b"_01", None),
        (b" 00-" + TRACE + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-01\n", None),
        (b"00-" + TRACE + b"-" + SPAN + b"-01,00-" + TRACE + b"-" + SPAN + b"-01", None),
        (b"00-+" + TRACE[1:] + b"-" + SPAN + b"-01", None),
        (b"", None),
    ],
)
def test_a_header_is_read_strictly(value: bytes, expected: TraceContext | None) -> None:
    """Exactly what the standard allows is read; anything else is no context at all."""
    assert expected == parse_traceparent(value)


def test_an_unrecorded_span_is_always_the_same_object() -> None:
    """Without a sink, without a sampled parent, or with a decision against it, nothing is made."""
    tracer = Tracer(NEVER, Kept())
    unrecorded = [
        Tracer(ALWAYS).span("GET /x", kind="server"),
        tracer.span("GET /x", kind="server"),
        tracer.span("GET /x", parent=UNSAMPLED, kind="server"),
        tracer.span("turn Limiter/check", parent=None),
        tracer.span("turn Limiter/check", parent=UNSAMPLED),
    ]
    assert all(span is NO_SPAN for span in unrecorded)
    with unrecorded[0] as span:
        span.set("a", 1)
        span.rename("b")
        span.fail("c")
        assert (None, None, False) == (span.context, current_trace.get(), span.recording)


def test_what_the_caller_has_sampled_is_recorded_at_any_ratio() -> None:
    """Parent-based: the caller's decision goes before the ratio; without it the ratio of the trace id decides."""
    kept = Kept()
    Tracer(NEVER, kept).span("GET /x", parent=SAMPLED, kind="server").finish()
    Tracer(Sampler(ratio=0.0, follow_parent=False), kept).span("GET /y", parent=SAMPLED, kind="server").finish()
    Tracer(Sampler(ratio=1.0, follow_parent=False), kept).span("GET /z", parent=UNSAMPLED, kind="server").finish()
    assert [("GET /x", SAMPLED), ("GET /z", UNSAMPLED)] == [(span.name, span.parent) for span in kept.spans]
    assert {SAMPLED.trace_id} == {span.context.trace_id for span in kept.spans}


def test_the_ratio_is_the_share_of_new_traces() -> None:
    """Of 4,000 new traces at a tenth, about 400 are kept, each with an id of its own."""
    contexts = [Sampler(ratio=0.1).begin(None) for _ in range(4_000)]
    ids = {context.trace_id for context in contexts if context is not None}
    assert len(ids) == sum(context is not None for context in contexts)
    assert 280 < len(ids) < 520


def test_a_span_is_the_current_trace_inside_its_block() -> None:
    """Log lines and children inside the block see the span; afterwards it is as before."""
    kept = Kept()
    tracer = Tracer(ALWAYS, kept)
    with tracer.span("GET /x", kind="server") as outer:
        assert current_trace.get() is outer.context
        with tracer.span("activate Limiter", parent=current_trace.get()) as inner:
            assert current_trace.get() is inner.context
        assert current_trace.get() is outer.context
    assert current_trace.get() is None
    assert [("activate Limiter", outer.context), ("GET /x", None)] == [(span.name, span.parent) for span in kept.spans]


def test_a_failed_block_names_the_error_and_hides_its_message() -> None:
    """`error.type` is the stable code of our errors, or the class; the message may quote the client."""
    kept = Kept()
    tracer = Tracer(ALWAYS, kept)
    for error in (NotFoundError("secret thing"), ValueError("secret thing")):
        with pytest.raises(type(error)), tracer.span("GET /x", kind="server"):
            raise error
    assert ["not_found", "ValueError"] == [span.error for span in kept.spans]
    assert "secret thing" not in repr(kept.spans)


def test_a_span_is_handed_on_once() -> None:
    """Ending it a second time does nothing."""
    kept = Kept()
    span = Tracer(ALWAYS, kept).start("GET /x", kind="server")
    span.rename("GET /v1/policies/{name}")
    span.finish()
    span.finish()
    assert ["GET /v1/policies/{name}"] == [span.name for span in kept.spans]
    assert kept.spans[0].end_ns > kept.spans[0].start_ns


def test_a_recorded_span_can_have_children() -> None:
    """The core records after the fact: a turn first, then the commit under it."""
    kept = Kept()
    tracer = Tracer(NEVER, kept)
    turn = tracer.record("turn Limiter/check", SAMPLED, 10, 20, {"tenure.object.kind": "limiter"})
    tracer.record("commit Limiter", turn, 30, 25, error=NotFoundError("x"))
    assert tracer.record("turn Limiter/check", UNSAMPLED, 1, 2) is None
    assert tracer.record("turn Limiter/check", None, 1, 2) is None
    first, second = kept.spans
    assert (10, 20, SAMPLED, "") == (first.start_ns, first.end_ns, first.parent, first.error)
    assert (30, 30, first.context, "not_found") == (second.start_ns, second.end_ns, second.parent, second.error)


def test_attributes_are_cut_and_made_encodable() -> None:
    """A path of several KiB, or one that is not Unicode, does not cost the batch it travels in."""
    kept = Kept()
    Tracer(NEVER, kept).record("x", SAMPLED, 1, 2, {"url.path": "/" + "a" * 9_000, "odd": "\ud800", "count": 3})
    found = kept.spans[0].attributes
    assert ATTRIBUTE_CHARS_MAX == len(str(found["url.path"]))
    assert ("?", 3) == (found["odd"], found["count"])


def test_spans_arrive_whole_at_a_collector(receiver: OtlpReceiver) -> None:
    """Ids, parent, kind, times, attributes, links, status and resource come out at the other end."""
    tracer = from_environment()
    with tracer.span("POST /v1/check", parent=SAMPLED, kind="server", attributes={"http.route": "/v1/check"}) as span:
        tracer.record("turn Limiter/check", span.context, 1_000, 3_000, {"tenure.cold": True})
    with tracer.span("alarm Limiter", kind="consumer", links=[SAMPLED]) as alarm:
        alarm.fail("outcome_unknown")
    tracer.shutdown()
    assert span.context is not None
    request, turn = receiver.span("POST /v1/check"), receiver.span("turn Limiter/check")
    assert (TRACE.decode(), SPAN.decode()) == (request.trace_id.hex(), request.parent_span_id.hex())
    assert SpanMessage.SPAN_KIND_SERVER == request.kind
    assert {"http.route": "/v1/check"} == attributes(request.attributes)
    assert Status.STATUS_CODE_UNSET == request.status.code
    assert abs(time.time_ns() - request.start_time_unix_nano) < 60e9
    assert (request.span_id, request.trace_id) == (turn.parent_span_id, turn.trace_id)
    assert (1_000, 3_000) == (turn.start_time_unix_nano, turn.end_time_unix_nano)
    rung = receiver.span("alarm Limiter")
    assert (b"", SpanMessage.SPAN_KIND_CONSUMER) == (rung.parent_span_id, rung.kind)
    assert [TRACE.decode()] == [link.trace_id.hex() for link in rung.links]
    assert rung.trace_id.hex() != TRACE.decode()
    assert (Status.STATUS_CODE_ERROR, {"error.type": "outcome_unknown"}) == (
        rung.status.code,
        attributes(rung.attributes),
    )
    assert {"gzip"} == {headers["content-encoding"] for headers in receiver.headers}


def test_the_resource_says_who_exports(receiver: OtlpReceiver, environment: pytest.MonkeyPatch) -> None:
    """Our own names stand unless the standard variables name others."""
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab,service.instance.id=pod-7")
    tracer = from_environment()
    tracer.span("GET /x", kind="server").finish()
    tracer.shutdown()
    resources = [span.resource for span in receiver.spans] + [metric.resource for metric in receiver.metrics]
    for resource in resources:
        assert ("tenure-ratelimiter", "tenure") == (resource["service.name"], resource["service.namespace"])
        assert ("pod-7", "lab") == (resource["service.instance.id"], resource["deployment.environment.name"])
        assert resource["service.version"]
    assert receiver.spans
    assert receiver.metrics


def test_without_an_endpoint_nothing_is_recorded(environment: pytest.MonkeyPatch) -> None:
    """No collector is guessed; not even what a caller has sampled makes a span."""
    tracer = from_environment()
    assert not tracer.enabled
    assert tracer.span("GET /x", parent=SAMPLED, kind="server") is NO_SPAN
    tracer.shutdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "NONE")],
)
def test_traces_can_be_turned_off(
    receiver: OtlpReceiver, environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The standard switches are obeyed although there is an endpoint."""
    environment.setenv(name, value)
    tracer = from_environment()
    assert not tracer.enabled
    tracer.shutdown()


def test_the_sampler_is_a_twentieth_unless_told_otherwise() -> None:
    """Names and arguments have their standard meaning."""
    cases = {
        (): Sampler(ratio=RATIO_DEFAULT),
        ("", "0.5"): Sampler(ratio=0.5),
        ("parentbased_traceidratio", "0.25"): Sampler(ratio=0.25),
        ("parentbased_traceidratio", ""): Sampler(ratio=1.0),
        ("traceidratio", "0.25"): Sampler(ratio=0.25, follow_parent=False),
        ("parentbased_always_off", "0.25"): Sampler(ratio=0.0),
        ("always_on", ""): Sampler(ratio=1.0, follow_parent=False),
    }
    names = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")
    assert cases == {case: read_sampler(dict(zip(names, case, strict=False))) for case in cases}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OTEL_TRACES_SAMPLER", "often", "OTEL_TRACES_SAMPLER is 'often', but must be one of always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG is '2', but must be a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "OTEL_TRACES_SAMPLER_ARG is 'nan', but must be a number from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', but must be http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT must start with http"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "OTEL_METRICS_EXPORTER is 'prometheus', but must be otlp or none"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs"),
    ],
)
def test_a_wrong_variable_stops_the_start(
    environment: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """One sentence with the variable's name; a header's value, which may be a credential, is not in it."""
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    environment.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        from_environment()
    assert str(raised.value).startswith(sentence)
    assert "hunter2" not in str(raised.value)


def test_a_collector_that_hangs_does_not_hold_up_the_end(receiver: OtlpReceiver) -> None:
    """Shutdown gives up after its bound, whatever is still to be sent."""
    receiver.answers.clear()
    export = open_export(service="tenure-ratelimiter", node="node-1", metrics=Metrics())
    Tracer(export.sampler, export.spans).span("GET /x", kind="server").finish()
    started = time.monotonic()
    export.shutdown(within_ms=200)
    assert 0.1 < time.monotonic() - started < 2.0


def test_after_shutdown_nothing_is_recorded(receiver: OtlpReceiver) -> None:
    """A span that starts later is no span; a second shutdown is harmless."""
    tracer = from_environment()
    tracer.shutdown()
    assert tracer.span("GET /x", kind="server") is NO_SPAN
    tracer.shutdown()


def test_a_linked_span_is_recorded_as_what_it_is_linked_to() -> None:
    """In a trace of its own, whatever the sampler says of new ones; not for a start that was not sampled, or is none."""
    kept = Kept()
    tracer = Tracer(NEVER, kept)
    origin = format_traceparent(SAMPLED).decode()
    with tracer.linked("run Completed", origin, {"a": 1}) as span:
        assert span.context == current_trace.get()
    tracer.record_linked("step w/a", origin, 5, 9, {"b": 2}, error="boom", within=span.context)
    tracer.record_linked("step w/b", origin, 9, 5, {}, within=SAMPLED)
    for none in ("", "00-none", format_traceparent(UNSAMPLED).decode()):
        assert NO_SPAN is tracer.linked("run Completed", none)
        tracer.record_linked("step w/a", none, 5, 9, {})
    assert NO_SPAN is Tracer().linked("run Completed", origin)
    Tracer().record_linked("step w/a", origin, 5, 9, {})

    event, step, inside = kept.spans
    assert ([SAMPLED], None, {"a": 1}) == (list(event.links), event.parent, event.attributes)
    assert ([SAMPLED, event.context], (5, 9), "boom") == (list(step.links), (step.start_ns, step.end_ns), step.error)
    assert ([], SAMPLED, (9, 9)) == (list(inside.links), inside.parent, (inside.start_ns, inside.end_ns))
    assert SAMPLED.trace_id == inside.context.trace_id
    assert 3 == len({one.context.trace_id for one in (event, step)} | {SAMPLED.trace_id})
