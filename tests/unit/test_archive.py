"""A file of a backup or an export is whole, or it is refused before a byte of it is used."""

import stat
from pathlib import Path

import msgspec
import pytest

from shared.storage.archive import Archive, ArchiveError, add_record, checked, read_header, records, written


class Header(msgspec.Struct, frozen=True):
    """What stands in the header of these tests."""

    taken_ms: int


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A whole file with two records."""
    path = tmp_path / "file"
    with written(path, "export", Header(7)) as writer:
        add_record(writer, {"a": b"\0"})
        add_record(writer, {})
    return path


def test_what_is_written_is_read(file: Path) -> None:
    """Header and records; only its owner may read it, and nothing is left beside it."""
    archive = checked(file, "export")

    assert Header(7) == read_header(archive, Header)
    assert [{"a": b"\0"}, {}] == list(records(archive, dict[str, bytes]))
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(file.parent.iterdir())


def test_a_body_is_copied_without_what_is_around_it(tmp_path: Path) -> None:
    """Also one that is empty."""
    for name, chunks in (("full", (b"x" * 3_000_000, b"y")), ("none", ())):
        with written(tmp_path / name, "backup", Header(1)) as writer:
            for chunk in chunks:
                writer.write(chunk)
        with checked(tmp_path / name, "backup").body() as body:
            body.copy_to(tmp_path / f"{name}.copy")
        assert b"".join(chunks) == (tmp_path / f"{name}.copy").read_bytes()


def test_every_cut_and_every_flipped_byte_is_seen(file: Path) -> None:
    """Wherever it is, and so is what was added behind the end."""
    whole = file.read_bytes()
    broken = [whole[:size] for size in range(len(whole))]
    broken += [whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :] for at in range(len(whole))]
    for content in (*broken, whole + b"\0", whole + whole):
        file.write_bytes(content)
        with pytest.raises(ArchiveError):
            checked(file, "export")


def test_what_it_is_instead_is_told(file: Path, tmp_path: Path) -> None:
    """A file of the other command, of a later release, or of nobody we know."""
    with pytest.raises(ArchiveError, match="is of `tenure export`, not of `tenure backup`"):
        checked(file, "backup")
    for content, told in (
        (b"tenure-export 2\n{}\n", "another release"),
        (b"PK\3\4" * 99, "not a file of"),
        (b"", "not"),
    ):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ArchiveError, match=told):
            checked(tmp_path / "other", "export")
    with pytest.raises(ArchiveError, match="cannot be read: No such file"):
        checked(tmp_path / "none", "export")


def test_nothing_is_overwritten_and_nothing_half_is_left(file: Path, tmp_path: Path) -> None:
    """A name that is taken, before or while it is written, and an error in the middle."""
    before = file.read_bytes()
    for path in (file, tmp_path / "meanwhile"):
        with pytest.raises(ArchiveError), written(path, "export", Header(1)):
            path.write_bytes(before)
        assert before == path.read_bytes()
    with pytest.raises(ValueError, match="broken"), written(tmp_path / "half", "export", Header(1)):
        raise ValueError("broken")
    with pytest.raises(ArchiveError, match="cannot be written"), written(tmp_path / "no" / "way", "export", Header(1)):
        pass
    assert {"file", "meanwhile"} == {path.name for path in tmp_path.iterdir()}


def test_a_header_or_record_of_another_form_is_refused(file: Path) -> None:
    """It is whole, but not what the reader knows."""
    archive = checked(file, "export")

    class Other(msgspec.Struct):
        color: str

    with pytest.raises(ArchiveError, match="header"):
        read_header(archive, Other)
    with pytest.raises(ArchiveError, match="record"):
        list(records(archive, list[int]))
    cut = Archive(path=file, header=b"{}", start=archive.start, end=archive.start + 6)
    with pytest.raises(ArchiveError, match="record"):
        list(records(cut, dict[str, bytes]))
