"""A connection of a listener that has become a WebSocket: uvicorn's protocol, and what it lets a client do too much of.

A handshake that `websockets` cannot read leaves the base without an event, so it is answered and ended here. Pongs are
written whether or not the client reads, and parts of a message without a byte count for nothing against its size.
"""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shared import bounds

_PARTS_MAX = 1_024  # Of one message.
_REFUSED = STATUS_LINE[400] + b"content-length: 0\r\nconnection: close\r\n\r\n"


class Upgraded(WebSocketsSansIOProtocol):
    """One WebSocket, from its handshake on."""

    def data_received(self, data: bytes) -> None:
        """Read on; who only writes, or says nothing in ever more frames, is cut off."""
        super().data_received(data)
        if not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()) or _REFUSED)
            self.transport.close()
        elif self.transport.get_write_buffer_size() > bounds.SOCKET_QUEUE_BYTES_MAX or len(self.frames) > _PARTS_MAX:
            self.transport.abort()

    @property
    def write_paused(self) -> bool:
        """Whether the client has left so much unread that nothing more is written."""
        return not self.writable.is_set()
