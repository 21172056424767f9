"""Restate from npm: its server with the storage on the local disk, and a service of its SDK for Node.

The server syncs its log before it goes on (`rocksdb-disable-wal-fsync` is false unless it is set). Its
telemetry is switched off; that it asks GitHub for its own newest release when it starts is not to be switched off.
"""

import http.client
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.peers.packages import MissingError, machine, node_packages, node_peer
from benchmarks.serving import serving
from tests.support.launching import free_ports

_DEPLOY_S = 10


@contextmanager
def restate(folder: Path, script: str) -> Iterator[tuple[int, int, int]]:
    """Port of the ingress, and the processes of the server and of the service, which `benchmarks/peers/<script>` is.

    Raises:
        MissingError: it is not to be had on this machine.
    """
    ingress_port, admin_port, node_port = free_ports(3)
    settings = {
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_LOG_FILTER": "error",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node_port}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin_port}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress_port}",
    }
    command = [str(_server()), "--no-logo", "--node-name", "bench", "--base-dir", str(folder)]
    with ExitStack() as stack:
        server_pid = stack.enter_context(serving(command, admin_port, environ={**os.environ, **settings}))
        service_port, service_pid = stack.enter_context(node_peer(script, speaks_http=False))
        _deploy(admin_port, service_port)
        yield ingress_port, server_pid, service_pid


def _server() -> Path:
    package = f"restate-server-{platform.system().lower()}-{machine('x64')}"
    found = node_packages() / "@restatedev" / package / "bin" / "restate-server"
    if not found.exists():
        raise MissingError(f"Restate is not built for {platform.system()} on {platform.machine()}")
    return found


def _deploy(admin_port: int, service_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=_DEPLOY_S)
    body = json.dumps({"uri": f"http://127.0.0.1:{service_port}"})
    connection.request("POST", "/deployments", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
