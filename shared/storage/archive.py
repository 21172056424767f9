r"""A file that is whole, or is refused: a backup or an export of a store.

    tenure-backup 1\n         what it is, and the version of its form
    {"taken_ms": ..., ...}\n  a header: one line of JSON
    ...                       the body
    32 bytes                  SHA-256 of everything before

A file that was cut short, has a flipped bit, is of another kind or of a later release is told before a single
byte of it is used. It is written beside its name and takes it when it is whole; a file of that name is never
overwritten. It holds what the store holds, so only its owner can read it.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import msgspec

from shared.errors import TenureError

FORMAT = 1
_DIGEST_BYTES = hashlib.sha256().digest_size
_HEADER_BYTES_MAX = 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
T = TypeVar("T")


class ArchiveError(TenureError):
    """The file cannot be written, or cannot be used; the message says why. Nothing was done with it."""

    code = "archive"


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file: where its body stands."""

    path: Path
    header: bytes
    start: int
    end: int

    def body(self) -> "Body":
        """The body, to be read from its beginning; to be closed."""
        return Body(self.path.open("rb"), self.start, self.end)


class Body:
    """Reads a body and nothing behind it."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._left = file, end - start
        file.seek(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        chunk = self._file.read(min(size, self._left))
        self._left -= len(chunk)
        return chunk

    def copy_to(self, path: Path) -> None:
        """Write all that is left into a new file."""
        with path.open("xb") as file:
            while chunk := self.read(_CHUNK_BYTES):
                file.write(chunk)


class Writer:
    """Adds to a body."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Add a piece."""
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        """Add the digest, and have all of it on the disk."""
        self._file.write(self._digest.digest())
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def written(path: Path, kind: str, header: msgspec.Struct) -> Iterator[Writer]:
    """A new file; it is there, whole, once the block has ended without an error.

    Raises:
        ArchiveError: there is a file of that name, or it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.exists():
            raise ArchiveError(f"{path} is there already, and is not overwritten.")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            writer = Writer(file)
            writer.write(_magic(kind) + msgspec.json.encode(header) + b"\n")
            yield writer
            writer.finish()
        os.link(draft, path)  # Unlike a renaming, it does not overwrite what has come there meanwhile.
    except OSError as exc:
        raise ArchiveError(f"{path} cannot be written: {exc.strerror}.") from exc
    finally:
        with suppress(OSError):
            draft.unlink()


def checked(path: Path, kind: str) -> Archive:
    """The file, read once from end to end.

    Raises:
        ArchiveError: it is not a whole file of this kind and form.
    """
    magic, digest = _magic(kind), hashlib.sha256()
    try:
        with path.open("rb") as file:
            end = path.stat().st_size - _DIGEST_BYTES
            first = file.readline(len(magic) + 16)
            if first != magic:
                raise ArchiveError(_foreign(path, kind, first))
            header = file.readline(_HEADER_BYTES_MAX)
            start = file.tell()
            digest.update(first + header)
            left = end - start
            while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
            if left or file.read() != digest.digest():
                raise ArchiveError(f"{path} is damaged or cut short.")
    except OSError as exc:
        raise ArchiveError(f"{path} cannot be read: {exc.strerror}.") from exc
    return Archive(path=path, header=header, start=start, end=end)


def read_header(archive: Archive, type_: type[T]) -> T:
    """The header as a `type_`.

    Raises:
        ArchiveError: it is another one.
    """
    try:
        return msgspec.json.decode(archive.header, type=type_)
    except msgspec.MsgspecError as exc:
        raise ArchiveError(f"{archive.path} has a header that is not understood: {exc}.") from exc


def add_record(writer: Writer, record: Any) -> None:
    """Add a record of MessagePack behind its length, four bytes."""
    encoded = msgspec.msgpack.encode(record)
    writer.write(len(encoded).to_bytes(4, "big") + encoded)


def records(archive: Archive, type_: Any) -> Iterator[Any]:
    """The records of a body that has nothing else.

    Raises:
        ArchiveError: it has something else.
    """
    decoder = msgspec.msgpack.Decoder(type_)
    with archive.body() as body:
        while length := body.read(4):
            try:
                yield decoder.decode(body.read(int.from_bytes(length, "big")))
            except msgspec.MsgspecError as exc:
                raise ArchiveError(f"{archive.path} has a record that is not understood: {exc}.") from exc


def _magic(kind: str) -> bytes:
    return f"tenure-{kind} {FORMAT}\n".encode()


def _foreign(path: Path, kind: str, first: bytes) -> str:
    if first.startswith(f"tenure-{kind} ".encode()):
        return f"{path} has a form of another release: this one reads form {FORMAT}."
    for other in ("backup", "export"):
        if first.startswith(f"tenure-{other} ".encode()):
            return f"{path} is of `tenure {other}`, not of `tenure {kind}`."
    return f"{path} is not a file of `tenure {kind}`."
