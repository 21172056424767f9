"""Settings are read once, strictly, and never show a secret."""

import pytest

from services.ratelimiter.settings import RatelimiterSettings
from shared.bounds import LEASE_TTL_MS
from shared.errors import ConfigurationError
from shared.settings import NodeSettings, masked_url, read_settings


class ExampleSettings(NodeSettings, frozen=True, kw_only=True):
    """What a service would add."""

    batch_max: int = 10


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set, and other programs' variables are not ours."""
    assert NodeSettings() == read_settings(NodeSettings, {"HOME": "/home/me", "PORT": "x"})
    assert NodeSettings().lease_ttl_ms == LEASE_TTL_MS


def test_values_are_converted_to_their_types() -> None:
    """Numbers and switches are read from text; a service's own settings too."""
    environ = {
        "TENURE_PORT": " 8080 ",
        "TENURE_DURABILITY_STRICT": "1",
        "TENURE_DURABILITY": "2",
        "TENURE_BATCH_MAX": "5",
    }
    expected = ExampleSettings(port=8080, durability_strict=True, durability="2", batch_max=5)
    assert expected == read_settings(ExampleSettings, environ)


def test_an_empty_value_is_the_default() -> None:
    """Templates write variables without a value for what is not set."""
    assert NodeSettings() == read_settings(NodeSettings, {"TENURE_REDIS_URL": "", "TENURE_SHARDS": ""})


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("TENURE_PORT", "http", "TENURE_PORT is 'http', but must be a whole number from 1 to 65535."),
        ("TENURE_PORT", "70000", "TENURE_PORT is '70000', but must be a whole number from 1 to 65535."),
        ("TENURE_DURABILITY", "4", "TENURE_DURABILITY is '4', but must be one of 0, 1, 2, 3."),
        ("TENURE_DURABILITY_STRICT", "maybe", "TENURE_DURABILITY_STRICT is 'maybe', but must be 1 or 0."),
        ("TENURE_PROT", "1", "There is no setting TENURE_PROT; did you mean TENURE_PORT?"),
        ("TENURE_port", "1", "There is no setting TENURE_port; did you mean TENURE_PORT?"),
        ("TENURE_COLOUR", "red", "There is no setting TENURE_COLOUR."),
        ("TENURE_PUBLIC_URL", "flows.example", "TENURE_PUBLIC_URL must begin with https:// or http://."),
        ("TENURE_LOCK_ID", "../x", "TENURE_LOCK_ID must be a file name, without a slash."),
        (
            "TENURE_SOCKET_ORIGINS",
            "https://a.example,b.example/x",
            "TENURE_SOCKET_ORIGINS has 'b.example/x', but an origin is a scheme and a host, as https://app.example.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(variable: str, value: str, sentence: str) -> None:
    """A value that cannot be right, or a name nobody reads, is refused by name."""
    with pytest.raises(ConfigurationError) as raised:
        read_settings(NodeSettings, {variable: value})
    assert sentence == str(raised.value)


def test_no_service_has_a_setting_that_the_commands_do_not_know() -> None:
    """`tenure run` and the commands judge the names that they pass on, so a service may have no others."""
    assert NodeSettings.__struct_fields__ == RatelimiterSettings.__struct_fields__


def test_a_bad_store_address_is_refused_without_showing_it() -> None:
    """The address may hold a password even where it is wrong."""
    with pytest.raises(ConfigurationError) as raised:
        read_settings(NodeSettings, {"TENURE_REDIS_URL": "https://me:secret@host"})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("rest", ["host:99999/0", "host:x/0", "host/abc"])
def test_a_port_or_database_that_cannot_be_is_refused(rest: str) -> None:
    """With one sentence, and not taken for another one."""
    with pytest.raises(ConfigurationError, match="REDIS_URL") as raised:
        read_settings(NodeSettings, {"TENURE_REDIS_URL": f"redis://:secret@{rest}"})
    assert "secret" not in str(raised.value)


def test_the_password_is_not_in_the_repr() -> None:
    """A settings object may be logged."""
    settings = NodeSettings(redis_url="rediss://me:pa55word@host:6379/1")
    assert "pa55word" not in repr(settings)
    assert "rediss://me:***@host:6379/1" in repr(settings)


def test_an_admin_token_is_long_and_never_shown() -> None:
    """One that could be guessed, or cannot stand in a header, is refused without being repeated."""
    token = "0123456789abcdef0123456789abcdef"
    settings = read_settings(NodeSettings, {"TENURE_ADMIN_TOKEN": token})
    assert (token, True) == (settings.admin_token, "admin_token='***'" in repr(settings))
    assert "admin_token=''" in repr(NodeSettings())
    for bad in (token[:-1], token[:-1] + "é"):
        with pytest.raises(ConfigurationError, match="TENURE_ADMIN_TOKEN") as raised:
            read_settings(NodeSettings, {"TENURE_ADMIN_TOKEN": bad})
        assert bad not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://me:se@cr:et@host/0", "redis://me:***@host/0"),
        ("redis://me@host", "redis://me@host"),
        ("redis://host:6379", "redis://host:6379"),
        ("unix:///a@b/c.sock?db=1&password=secret", "unix:///a@b/c.sock?db=1&password=***"),
    ],
)
def test_passwords_are_masked_wherever_an_address_may_hold_one(url: str, expected: str) -> None:
    """Before the host, and as an option."""
    assert expected == masked_url(url)
