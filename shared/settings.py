"""What an operator may set about a node: read once from `TENURE_*` variables, then passed around.

Everything else is a bound (`shared.bounds`). A value that cannot be right, or a name that nobody
reads, stops the process with one sentence: a misspelt setting must not be a silent default.
A password in a store's address never appears in a `repr`.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, inspect

from shared.bounds import LEASE_TTL_MS, NAME_BYTES_MAX, RESIDENT_OBJECTS, SHARDS
from shared.errors import ConfigurationError

PREFIX = "TENURE_"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

_ORIGIN = re.compile(r"https?://[^/\s@]+")
_SECRET = ("admin_token", "session_keys", "workflow_keys")
ADMIN_TOKEN_LENGTH_MIN = 32  # 24 random bytes in base64: nobody guesses it.

Port = Annotated[int, Meta(ge=1, le=65_535)]
# Below 300 ms a busy event loop loses its leases by itself; above 60 s nobody would wait for a failover.
LeaseTtl = Annotated[int, Meta(ge=300, le=60_000)]
Shards = Annotated[int, Meta(ge=1, le=4_096)]
ResidentObjects = Annotated[int, Meta(ge=0, le=100_000_000)]
Name = Annotated[str, Meta(max_length=NAME_BYTES_MAX)]
Durability = Literal["", "0", "1", "2", "3"]
LogLevel = Literal["debug", "info", "warning", "error"]


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One node. Field `port` is read from `TENURE_PORT`, and so on.

    A service adds its own by a subclass.
    """

    redis_url: str = ""
    """The store's primary. Empty only for `tenure run`, which then starts a store of its own."""
    data_dir: str = ".tenure"
    """What this machine keeps: the embedded store, locks, the development key."""
    host: str = "127.0.0.1"
    port: Port = 7101
    """The public API. `tenure run` gives it to the first service and the next numbers to the others."""
    admin_host: str = "127.0.0.1"
    admin_port: Port = 7201
    """Health, readiness, metrics, API documents and the operator's API; not for the public."""
    admin_token: str = ""
    """Who sends it as a bearer token to the admin port may see and change every object (`/admin/`); at least 32
    characters. Empty: nobody may. `tenure run` makes one, in `<data_dir>/admin-token`."""
    session_keys: str = ""
    """The master keys of session tokens, 32 bytes each, as `0:<base64url>,1:<base64url>`: 0 routes and never changes,
    the first of the others signs tokens and webhooks. Wanted by the session manager alone. `tenure run` makes some, in
    `<data_dir>/session-keys`."""
    workflow_keys: str = ""
    """The master keys of callbacks and webhooks, 32 bytes each, as `1:<base64url>,2:<base64url>`: the first makes what
    is new, the others are accepted. Wanted by the workflow service alone. `tenure run` makes one, in
    `<data_dir>/workflow-keys`."""
    lease_ttl_ms: LeaseTtl = LEASE_TTL_MS
    """How long a crashed owner's objects stay unavailable, at most."""
    shards: Shards = SHARDS
    """Fixed for the life of a store by the first node that starts on it."""
    resident_objects: ResidentObjects = RESIDENT_OBJECTS
    """With no more objects in memory than these, subjects of the limiter stay for an hour after their last check;
    beyond, all that is idle leaves after a minute. A subject takes about 1.3 KB.
    """
    objects: str = ""
    """Modules with objects of your own, `package.module[,other.module]`, hosted beside the service's.
    Every kind of object defined in them is registered; what is `@public` in them is reached over REST.
    """
    definition_env: str = ""
    """What workflow definitions see as `$env`: a JSON object, such as {"notify": "https://n.example"}. No secrets."""
    socket_origins: str = ""
    """Origins of pages that may open sockets, `https://app.example[,...]`; `*`: of all. Pages of the host that is asked
    always may."""
    public_url: str = ""
    """Where those who are called reach the workflow service, `https://workflows.example`: the start of the address that
    an `http` step with `callback: true` gives them. Empty: they are given its path."""
    outbound_allow: str = ""
    """Networks that may be called beside public addresses with TLS, `10.1.0.0/16,fd00::/8`: there on any port, and
    without TLS too. Whoever may write a definition or a webhook reaches them. Empty: none; under `tenure run`,
    loopback."""
    outbound_ports: str = "443"
    """Ports of public addresses that may be called, with TLS."""
    secrets_dir: str = ""
    """Where the secrets are that definitions name: files `<tenant>/<name>`. Empty: there are none; under `tenure run`,
    `<data_dir>/secrets`."""
    durability: Durability = ""
    """The level that the store is declared to give where it cannot be asked: 0 executed, 1 on disk; empty: ask it.
    2 and 3 want replicas waited for, which this release does not do: it warns and goes on at the level below.
    """
    durability_strict: bool = False
    """Refuse to start where the durability level cannot be known or met, instead of warning."""
    log_level: LogLevel = "info"
    node_name: Name = ""
    """The name in leases, logs and metrics; empty: made from host name and port."""
    lock_id: Name = ""
    """The file in `<data_dir>/locks` that this node holds for life, so that its successor on this
    machine need not wait for its leases to expire; empty: none. Only for a store in `data_dir`."""

    def __post_init__(self) -> None:
        if self.redis_url and not self.redis_url.startswith(REDIS_SCHEMES):
            schemes = ", ".join(REDIS_SCHEMES)
            raise ConfigurationError(f"{PREFIX}REDIS_URL must be an address that starts with one of {schemes}.")
        if not _address_is_plain(self.redis_url):
            raise ConfigurationError(f"{PREFIX}REDIS_URL has a port or a database that is not a number that can be.")
        if self.admin_token and (len(self.admin_token) < ADMIN_TOKEN_LENGTH_MIN or not self.admin_token.isascii()):
            raise ConfigurationError(
                f"{PREFIX}ADMIN_TOKEN must have at least {ADMIN_TOKEN_LENGTH_MIN} characters, all of ASCII."
            )
        for origin in filter(None, map(str.strip, self.socket_origins.split(","))):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"{PREFIX}SOCKET_ORIGINS has {origin!r}, but an origin is a scheme and a host, as https://app.example."
                )
        if self.public_url and not re.fullmatch(r"https?://[!-~]+", self.public_url):
            raise ConfigurationError(f"{PREFIX}PUBLIC_URL must begin with https:// or http://.")
        if "/" in self.lock_id:
            raise ConfigurationError(f"{PREFIX}LOCK_ID must be a file name, without a slash.")

    def __repr__(self) -> str:
        shown = (
            (name, masked_url(value) if name == "redis_url" else "***" if name in _SECRET and value else value)
            for name in self.__struct_fields__
            for value in (getattr(self, name),)
        )
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


S = TypeVar("S", bound=NodeSettings)


def read_settings(cls: type[S], environ: Mapping[str, str]) -> S:
    """The settings that `environ` holds; what it does not name, or leaves empty, has its default.

    Every program of this package reads its settings here, so all of them refuse the same mistakes.

    Raises:
        ConfigurationError: a name nobody reads, or a value that cannot be right.
    """
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        field = fields.get(variable.removeprefix(PREFIX).lower())
        if field is not None and variable.isupper():
            values[field.name] = _value(variable, text, field.type)
        else:
            raise ConfigurationError(_unknown(variable, fields))
    return cls(**values)


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def masked_url(url: str) -> str:
    """`url` without its password, for people to read."""
    without_user = re.sub(r"(?<=://)([^/:]*):[^/]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", without_user)


def _address_is_plain(url: str) -> bool:
    """Whether port and database of a store's address, where it has them, are numbers that can be."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme == "unix" or parts.path in ("", "/") or parts.path[1:].isdecimal()


def _value(variable: str, text: str, type_: Any) -> Any:
    try:
        return msgspec.convert(text.strip(), type_, strict=False)
    except msgspec.ValidationError as exc:
        given = masked_url(text)
        raise ConfigurationError(
            f"{variable} is {given!r}, but must be {_expected(inspect.type_info(type_))}."
        ) from exc


def _expected(info: inspect.Type) -> str:
    match info:
        case inspect.IntType(ge=int(least), le=int(most)):
            return f"a whole number from {least} to {most}"
        case inspect.IntType(ge=int(least)):
            return f"a whole number, {least} or more"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "1 or 0"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values if value)
        case inspect.StrType(max_length=int(most)):
            return f"a text of at most {most} characters"
        case _:
            return "of another form"


def _unknown(variable: str, fields: Iterable[str]) -> str:
    near = get_close_matches(variable.removeprefix(PREFIX).lower(), fields, n=1)
    hint = f"; did you mean {variable_of(near[0])}?" if near else "."
    return f"There is no setting {variable}{hint}"
