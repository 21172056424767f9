"""Secrets: read where the operator has put them, by name, for one tenant, and nowhere else."""

from pathlib import Path

import pytest

from shared.outbound.credentials import Secrets, UnknownSecretError


def put(directory: Path, tenant: str, name: str, value: bytes) -> None:
    (directory / tenant).mkdir(exist_ok=True)
    (directory / tenant / name).write_bytes(value)


def test_a_secret_is_the_line_in_its_file(tmp_path: Path) -> None:
    """Without the line break that editors leave; a new value counts at once."""
    put(tmp_path, "acme", "registry", b"first\n")
    secrets = Secrets(str(tmp_path))
    before = secrets.value("acme", "registry")
    put(tmp_path, "acme", "registry", b"second")

    assert (before, secrets.value("acme", "registry")) == ("first", "second")


def test_a_tenant_with_an_odd_name_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """Percent-encoded, so that no name leads elsewhere."""
    put(tmp_path, "a%2Fb", "key", b"x")
    put(tmp_path, "%2E%2E", "key", b"y")

    assert [Secrets(str(tmp_path)).value(tenant, "key") for tenant in ("a/b", "..")] == ["x", "y"]


@pytest.mark.parametrize("name", ["other", "../acme/key", "..", "", "/etc/passwd", "key\n", "a/b"])
def test_o11_what_is_no_name_of_a_secret_leads_to_no_file(tmp_path: Path, name: str) -> None:
    """Neither out of the directory nor into another tenant's."""
    put(tmp_path, "acme", "key", b"x")

    with pytest.raises(UnknownSecretError):
        Secrets(str(tmp_path)).value("acme", name)


@pytest.mark.parametrize("value", [b"", b"\n", b"two\nlines", b"\xff", b"x" * 9_000], ids=range(5))
def test_a_file_that_is_no_line_is_no_secret(tmp_path: Path, value: bytes) -> None:
    """It could not be sent in a header field."""
    put(tmp_path, "acme", "key", value)

    with pytest.raises(UnknownSecretError):
        Secrets(str(tmp_path)).value("acme", "key")


def test_o11_another_tenants_secret_is_unknown(tmp_path: Path) -> None:
    """Its name is its own."""
    put(tmp_path, "acme", "key", b"x")

    with pytest.raises(UnknownSecretError):
        Secrets(str(tmp_path)).value("other", "key")


def test_without_a_directory_there_are_no_secrets() -> None:
    """The refusal says the name and nothing else."""
    with pytest.raises(UnknownSecretError, match="There is no secret 'key' here"):
        Secrets("").value("acme", "key")
