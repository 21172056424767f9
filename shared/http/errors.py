"""What a request can have wrong with it before any service looks at it.

TenureError
|- MethodNotAllowedError       the path has no such method
|- UnsupportedMediaTypeError   a body that is not plain JSON
|- ForeignOriginError         a socket for a page that may have none
|- UpgradeRequiredError       a socket asked for without the handshake
|- AdminOffError              the operator's API has no token, so nobody may use it
|- BodyTimeoutError            the body did not arrive in time
`- HeadersTooLargeError        more header fields or bytes than are read
"""

from shared.errors import TenureError


class MethodNotAllowedError(TenureError):
    """The path exists, the method on it does not. `allow` lists those that do, as in the header."""

    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"Allowed here: {allow}.")
        self.allow = allow


class UnsupportedMediaTypeError(TenureError):
    """The body is not `application/json` without encoding, the only form that is read."""

    code = "unsupported_media_type"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BodyTimeoutError(TenureError):
    """The body did not arrive within `deadline_ms` of the header."""

    code = "body_timeout"

    def __init__(self, deadline_ms: int) -> None:
        super().__init__(f"The body did not arrive within {deadline_ms} ms.")
        self.deadline_ms = deadline_ms


class HeadersTooLargeError(TenureError):
    """More header fields, or more bytes in them, than are read."""

    code = "headers_too_large"

    def __init__(self, *, fields_max: int, bytes_max: int) -> None:
        super().__init__(f"At most {fields_max} header fields with {bytes_max} bytes in all are read.")


class AdminOffError(TenureError):
    """This node was started without a token for the operator's API."""

    code = "admin_off"

    def __init__(self) -> None:
        super().__init__("The operator's API is off: start the node with TENURE_ADMIN_TOKEN.")


class ForeignOriginError(TenureError):
    """A page of another origin asks for a socket, and its origin is not among those that may."""

    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__("Pages of this origin may open no sockets: TENURE_SOCKET_ORIGINS names those that may.")


class UpgradeRequiredError(TenureError):
    """The path is that of a socket, and the request is no WebSocket handshake."""

    code = "upgrade_required"

    def __init__(self) -> None:
        super().__init__("This is a socket: ask for it with a WebSocket handshake (RFC 6455).")
