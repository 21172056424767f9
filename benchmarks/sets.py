"""SET to a Valkey, answer by answer, from many connections: what the store alone does under `appendfsync always`.

One thread and epoll: an answer is read and the next command sent, with no pipelining, as from so many callers who
wait. It costs a tenth of what the server does (the share is handed back), so it does not hold the server back.
"""

import random
import select
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

_OK = b"+OK\r\n"


class Sets(NamedTuple):
    """What was answered."""

    rate: float
    """SETs a second."""
    client_share: float
    """The share of one core that this client used."""


def set_rate(server: Path, *, connections: int, seconds: float, names: int, value_bytes: int) -> Sets:
    """Send for `seconds` from `connections` to the Unix socket of a server; random ones of `names`.

    Raises:
        AssertionError: an answer is not OK.
    """
    commands = [_set(b"object-%d" % number, b"v" * value_bytes) for number in range(names)]
    choice = random.Random(1).choice
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        waiting = {}
        for _ in range(connections):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(server))
            poll.register(connection, select.EPOLLIN)
            waiting[connection.fileno()] = connection
            connection.sendall(choice(commands))
        answered, began_s, used_s = 0, time.monotonic(), time.process_time()
        while time.monotonic() < began_s + seconds:
            for number, _ in poll.poll(seconds):
                connection = waiting[number]
                answer = connection.recv(64)
                assert answer == _OK, answer
                answered += 1
                connection.sendall(choice(commands))
        span_s = time.monotonic() - began_s
    return Sets(answered / span_s, (time.process_time() - used_s) / span_s)


def _set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
