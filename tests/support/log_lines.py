"""What is logged while a test runs, and logging as it was afterwards."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.clock import Clock
from shared.telemetry import logs


@contextmanager
def logged(*, service: str = "orders", clock: Clock | None = None) -> Iterator[io.StringIO]:
    """Logging goes to this text until the block ends."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure_logging(service=service, node="n1", stream=stream, clock=clock)
    try:
        yield stream
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
