"""What a scrape reads off a running node: each value when it is asked for."""

from shared.objects.host import Host
from shared.objects.ingress import Ingress
from shared.objects.ownership import Ownership
from shared.objects.store_clock import StoreClock
from shared.telemetry.metrics import Metrics


def bind_gauges(metrics: Metrics, host: Host, ownership: Ownership, store_clock: StoreClock) -> None:
    """Show objects, shards, messages, alarms and clocks."""
    metrics.gauge("tenure.object.queue.pending", lambda: host.backlog.calls)
    metrics.gauge("tenure.object.quarantined", host.quarantines.met)
    metrics.gauge("tenure.object.resident", lambda: host.objects_resident)
    metrics.gauge("tenure.ownership.owned", lambda: ownership.open_shards)
    metrics.gauge("tenure.ownership.lease.slack", lambda: ownership.slack_ms() / 1000)
    metrics.gauge("tenure.message.held", lambda: host.courier.held)
    metrics.gauge("tenure.alarm.pending", lambda: len(host.alarms.queue))
    metrics.gauge("tenure.alarm.overdue.age", lambda: host.alarms.overdue_ms() / 1000)
    metrics.gauge("tenure.store.skew", lambda: store_clock.skew_ms / 1000)


def bind_socket_gauges(metrics: Metrics, ingress: Ingress) -> None:
    """Show sockets."""
    metrics.gauge("tenure.socket.open", lambda: ingress.open_sockets)
    metrics.gauge("tenure.socket.queued", lambda: ingress.queued_bytes)
