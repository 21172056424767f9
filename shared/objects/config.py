"""Replicated documents: tenants, keys, policies. Held whole by every node, read without waiting.

A document is versioned and written by compare-and-set. A node polls for changes with its
heartbeat; its own writes it sees at once. A view that has not been confirmed for 5 s is *stale*:
then nothing may be decided by what is *not* in it.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from shared import bounds
from shared.clock import Clock
from shared.errors import InvalidInputError, PreconditionFailedError
from shared.objects.errors import TooLargeError
from shared.storage.interface import DocumentStore, StoredDocument, StoreError
from shared.telemetry import logs

_log = logs.get_logger()
_SEPARATOR = "\x00"
T = TypeVar("T")


class VersionMismatchError(PreconditionFailedError):
    """The stored version is not the one that was expected; 0 means there is none."""

    def __init__(self, stored: int) -> None:
        super().__init__("It does not exist." if stored == 0 else f"It exists at version {stored}.")
        self.stored = stored


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One document as stored. `version` starts at 1 and never goes back, not even over a deletion."""

    kind: str
    tenant: str
    name: str
    version: int
    body: bytes
    changed_ms: int


Found = list[Document]
Listener = Callable[[str, str, Document | None], None]


class Documents:
    """All documents under one prefix, as of the last poll and our own writes."""

    def __init__(self, store: DocumentStore, prefix: str, clock: Clock) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._documents: dict[tuple[str, str, str], Document] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._revision = 0
        self._confirmed_ms: int | None = None
        self._polling = asyncio.Lock()

    def get(self, kind: str, tenant: str, name: str) -> Document | None:
        """The document, or None."""
        return self._documents.get((kind, tenant, name))

    def list(self, kind: str, tenant: str) -> Found:
        """The tenant's documents of a kind, by name."""
        found = [document for key, document in self._documents.items() if key[:2] == (kind, tenant)]
        return sorted(found, key=lambda document: document.name)

    def list_all(self, kind: str) -> Found:
        """Every tenant's documents of a kind, by tenant and name."""
        found = [document for key, document in self._documents.items() if key[0] == kind]
        return sorted(found, key=lambda document: (document.tenant, document.name))

    def subscribe(self, kind: str, listener: Listener) -> None:
        """Call `listener(tenant, name, document)` for each document of the kind that is there, then for each change."""
        self._listeners.setdefault(kind, []).append(listener)
        for document in [d for d in self._documents.values() if d.kind == kind]:
            listener(document.tenant, document.name, document)

    def fresh(self) -> bool:
        """Whether the view was confirmed within the last 5 s."""
        confirmed_ms = self._confirmed_ms
        return confirmed_ms is not None and self._clock.monotonic_ms() - confirmed_ms <= bounds.DOCUMENT_STALE_MS

    async def put(self, kind: str, tenant: str, name: str, body: bytes, *, expected: int | None) -> Document:
        """Write a document if its version is `expected` (0: must not exist, None: any). Seen here when it returns.

        Raises:
            InvalidInputError: kind, tenant or name cannot stand in a name of the store.
            VersionMismatchError: it has another version. Nothing was written.
            TooLargeError: the body has over 256 KiB.
            StoreError: the store did not answer; it may have been written.
        """
        if len(body) > bounds.DOCUMENT_BYTES_MAX:
            raise TooLargeError("The document", size=len(body), size_max=bounds.DOCUMENT_BYTES_MAX)
        await self._write(kind, tenant, name, body, expected)
        return self._documents[kind, tenant, name]

    async def delete(self, kind: str, tenant: str, name: str, *, expected: int | None) -> None:
        """Delete a document if its version is `expected` (None: any); deleting what is absent is no error.

        Raises:
            InvalidInputError: as `put`.
            VersionMismatchError: it has another version.
            StoreError: the store did not answer; it may have been deleted.
        """
        await self._write(kind, tenant, name, None, expected)

    async def poll(self) -> None:
        """Take in what has changed.

        Raises:
            StoreError: the store did not answer; the view ages.
        """
        async with self._polling:
            more = True
            sent_ms = self._clock.monotonic_ms()
            while more:
                changes = await self._store.documents_since(self._prefix, self._revision)
                if changes.revision < self._revision:
                    self._forget_missing({document.field for document in changes.documents})
                for document in changes.documents:
                    self._apply(document)
                self._revision, more = changes.revision, changes.more
            self._confirmed_ms = sent_ms

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            await asyncio.sleep(bounds.DOCUMENT_POLL_MS / 1000)
            try:
                await self.poll()
            except StoreError as exc:
                _log.warning(logs.STORE_AWAY, error=str(exc))

    async def _write(self, kind: str, tenant: str, name: str, body: bytes | None, expected: int | None) -> None:
        written, version = await self._store.document_put(
            self._prefix, _field(kind, tenant, name), body, expected=-1 if expected is None else expected
        )
        if not written:
            raise VersionMismatchError(version)
        await self.poll()

    def _apply(self, stored: StoredDocument) -> None:
        try:
            kind, tenant, name = stored.field.decode().split(_SEPARATOR)
        except ValueError as exc:  # Not ours, or of a newer release: one such document must not stop the rest.
            _log.error(logs.DOCUMENT_NAMELESS, prefix=self._prefix, field=repr(stored.field), error=str(exc))
            return
        if stored.body is None:
            if self._documents.pop((kind, tenant, name), None) is not None:
                self._tell(kind, tenant, name, None)
            return
        document = Document(
            kind=kind,
            tenant=tenant,
            name=name,
            version=stored.version,
            body=stored.body,
            changed_ms=stored.changed_ms,
        )
        if self._documents.get((kind, tenant, name)) != document:
            self._documents[kind, tenant, name] = document
            self._tell(kind, tenant, name, document)

    def _forget_missing(self, present: set[bytes]) -> None:
        """The store went back in time and sent everything it has: what it does not have is gone."""
        for kind, tenant, name in list(self._documents):
            if _SEPARATOR.join((kind, tenant, name)).encode() not in present:
                del self._documents[kind, tenant, name]
                self._tell(kind, tenant, name, None)

    def _tell(self, kind: str, tenant: str, name: str, document: Document | None) -> None:
        for listener in self._listeners.get(kind, ()):
            listener(tenant, name, document)


def read_document(document: Document, decode: Callable[[bytes], T]) -> T | None:
    """What `decode` makes of the body; None, and a line in the log, where it is not for this release to read."""
    try:
        return decode(document.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        report_unreadable(document, str(exc))
        return None


def report_unreadable(document: Document, error: str) -> None:
    """Tell the operator of a stored document that cannot be used."""
    _log.error(
        logs.DOCUMENT_UNREADABLE,
        document_kind=document.kind,
        tenant=document.tenant,
        name=document.name,
        version=document.version,
        error=error,
    )


def _field(kind: str, tenant: str, name: str) -> bytes:
    """The name of a document in the store.

    Raises:
        InvalidInputError: a part has the separator in it, or is not valid Unicode.
    """
    for what, part in (("kind", kind), ("tenant", tenant), ("name", name)):
        if _SEPARATOR in part:
            raise InvalidInputError(f"The {what} must not contain NUL", what)
        try:
            part.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(f"The {what} is not valid Unicode", what) from exc
    return _SEPARATOR.join((kind, tenant, name)).encode()
