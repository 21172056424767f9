"""Is a port free? Asked before anything is started.

Services listen with SO_REUSEPORT, so two of them on one port would not fail: each would get half
of the requests.
"""

import errno
import socket
import time

from shared.errors import ConfigurationError
from shared.runtime.local_call import Endpoint
from shared.settings import variable_of

# The services of a killed launcher are gone a moment later, and with them their ports.
_TRIES = 40
_RETRY_MS = 50


def check_port_free(endpoint: Endpoint, field: str) -> None:
    """Make sure that a service can listen at `endpoint`; `field` is the setting that says so.

    Raises:
        ConfigurationError: somebody listens there, or nobody can.
    """
    for _ in range(_TRIES):
        if _can_bind(endpoint, field):
            return
        time.sleep(_RETRY_MS / 1000)
    raise ConfigurationError(
        f"Port {endpoint.port} on {endpoint.host} is in use; set {variable_of(field)} to a free one."
    )


def _can_bind(endpoint: Endpoint, field: str) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if isinstance(exc, socket.gaierror) or exc.errno != errno.EADDRINUSE:
            raise ConfigurationError(
                f"{variable_of(field)}: cannot listen on port {endpoint.port} of {endpoint.host}: {exc.strerror}."
            ) from exc
        return False
    return True
