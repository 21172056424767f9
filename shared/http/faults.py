"""Where a fault of the service is written down: once, with its traceback and the ids the caller saw."""

from shared.http.arrival import Arrival
from shared.telemetry import logs

_log = logs.get_logger()


def report_fault(error: BaseException, arrival: Arrival, *, method: str, route: str) -> None:
    """Log what became a 500. The caller is told the request id and nothing else of it."""
    _log.error(
        logs.REQUEST_FAILED,
        exc_info=error,
        request_id=arrival.request_id,
        **({"trace_id": trace_id} if (trace_id := arrival.trace_id) else {}),
        method=method,
        route=route,
    )
