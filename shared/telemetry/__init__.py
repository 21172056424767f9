"""What the outside can see of a process: numbers, traces and lines of text.

`metrics` counts, `traces` follows one request, `logs` tells what happened. They cost next to
nothing where nobody looks: a record is an addition, an unsampled span is no object at all.
Nothing outside this package imports OpenTelemetry, prometheus_client or structlog.
"""
