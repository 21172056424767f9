"""Documents that several people change at once: let users in, look at the document, change it."""

import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tenure_client.transport import Client


@dataclass(frozen=True)
class Document:
    """The document of a room, and the number of the last patch that it has."""

    seq: int
    content: dict[str, Any]


@dataclass(frozen=True)
class Ticket:
    """What a page opens one socket of a room with, once; it offers the subprotocols."""

    subprotocols: tuple[str, str] = field(repr=False)
    expires_in_ms: int


class Rooms(Client):
    """Calls the rooms of a session manager. Every call may be made again without harm, and is, while it is away."""

    async def ticket(self, room: str, name: str, *, session: tuple[str, str] | None = None) -> Ticket:
        """A ticket for a user whom the others see by that name; with `session` (principal, id) it ends with that.

        Raises:
            ApiError: `unknown_session`, `session_ended` and so on.
        """
        body: dict[str, Any] = {"name": name}
        if session is not None:
            body["session"] = {"principal": session[0], "id": session[1]}
        shown = await self._transport.call("POST", f"{_path(room)}/tickets", body)
        return Ticket(("tenure.v1", f"tenure.ticket.{shown['ticket']}"), shown["expires_in_ms"])

    async def document(self, room: str) -> Document:
        """The document as it is stored; empty, with number 0, before anybody has changed it."""
        shown = await self._transport.call("GET", f"{_path(room)}/document")
        return Document(shown["seq"], shown["document"])

    async def patch(
        self, room: str, patch: dict[str, Any], *, seq: int | None = None, idempotency_key: str | None = None
    ) -> int:
        """Merge a patch into the document (None removes), if `seq` is its number; the number of the patch.

        Raises:
            ApiError: `precondition_failed`: it has another number. `document_too_large`.
        """
        headers = {
            "content-type": "application/merge-patch+json",
            "idempotency-key": idempotency_key or str(uuid.uuid4()),
        }
        if seq is not None:
            headers["if-match"] = f'"v{seq}"'
        shown = await self._transport.call("PATCH", f"{_path(room)}/document", patch, headers=headers)
        return int(shown["seq"])


def _path(room: str) -> str:
    return f"/v1/rooms/{quote(room, safe='').replace('.', '%2E')}"
