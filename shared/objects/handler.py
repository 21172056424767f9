"""What an author writes: a class whose methods are the turns of one object.

    class Counter(DurableObject):
        kind = "counter"

        def add(self, amount: int) -> int:
            total = self.storage.get("total", int, default=0) + amount
            self.storage.put("total", total)
            return total

At any time one turn of one object runs, in one process. A turn counts whole or leaves no trace,
and its reply leaves after the store has confirmed it (kinds that are `committed`) or at once,
with a checkpoint behind it (kinds that are `checkpointed`). A handler is a plain `def` where it
cannot wait, which is the fastest, or an `async def`.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

import msgspec

from shared import bounds
from shared.objects.address import Address
from shared.objects.changes import check_moment
from shared.objects.errors import TooLargeError
from shared.objects.index import Index
from shared.objects.journal import Journal
from shared.objects.messages import Envelope
from shared.objects.migrations import migrations_of
from shared.objects.native import NativeState
from shared.objects.operations import OPERATIONS
from shared.objects.sockets import Socket, Sockets, socket_turns
from shared.storage.codec import AlarmRecord
from shared.telemetry.context import current_traceparent

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.calls import ObjectCalls
    from shared.objects.state import ObjectState
    from shared.objects.store_clock import StoreClock
    from shared.objects.transactions import Transactions

F = TypeVar("F", bound=Callable[..., Any])


def readonly(method: F) -> F:
    """Mark a handler that writes nothing but `storage.put_soft`; a write of another kind fails its turn.

    It sees pending writes, and its reply waits for their commit.
    """
    method.__tenure_readonly__ = True  # type: ignore[attr-defined]  # A mark, read by `Kind`.
    return method


def public(method: F) -> F:
    """Mark a handler that callers outside may reach, by `POST /v1/objects/{kind}/{name}/{method}`.

    Its annotations are its contract: what of them cannot be told in JSON is refused when the kind is
    registered (`shared.objects.published`). A subclass that overrides it marks it again or hides it.
    """
    method.__tenure_public__ = True  # type: ignore[attr-defined]  # A mark, read by `published`.
    return method


def public_as(name: str) -> Callable[[F], F]:
    """Mark a handler as `public` does, to be reached by a name that every object has for itself, such as `commit`."""

    def mark(method: F) -> F:
        method.__tenure_public__ = name  # type: ignore[attr-defined]  # As above.
        return method

    return mark


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A named alarm that has come due. `attempts` counts the failed tries before this one."""

    name: str
    due_ms: int
    attempts: int = 0


class Checkpoint(NamedTuple):
    """The whole state of an object that keeps it natively, encoded by its kind.

    `state` has at most 512 KiB; empty: there is none any more. From `expire_at_ms` of the store's clock on
    (0: never) the object is absent.
    """

    state: bytes
    expire_at_ms: int = 0


class Alarms:
    """The alarms of the object whose turn runs. Setting and cancelling are part of the turn."""

    __slots__ = ("_state",)

    def __init__(self, state: "ObjectState") -> None:
        self._state = state

    def set(self, name: str, *, at_ms: int) -> None:
        """Arm `name` for `at_ms` of the store's clock, replacing the one of that name.

        Raises:
            TooLargeError: the object has 64 alarms already, or the name has over 256 bytes.
            TypeError: `at_ms` is not a whole number that can be a moment.
        """
        if len(name.encode()) > bounds.ALARM_NAME_BYTES_MAX:
            raise TooLargeError("The alarm name", size=len(name.encode()), size_max=bounds.ALARM_NAME_BYTES_MAX)
        check_moment("An alarm's moment", at_ms)
        names = self._state.alarm_names()
        if name not in names and len(names) >= bounds.ALARMS_MAX:
            raise TooLargeError("The object", size=len(names) + 1, size_max=bounds.ALARMS_MAX, unit="alarms")
        self._state.set_alarm(name, AlarmRecord(due_ms=at_ms, serial=0, trace=current_traceparent()))

    def set_if_absent(self, name: str, *, at_ms: int) -> bool:
        """Arm `name` unless it is armed; say whether it was set now."""
        if self._state.alarm(name) is not None:
            return False
        self.set(name, at_ms=at_ms)
        return True

    def cancel(self, name: str) -> bool:
        """Disarm `name`; say whether it was armed."""
        if self._state.alarm(name) is None:
            return False
        self._state.set_alarm(name, None)
        return True

    def due_ms(self, name: str) -> int | None:
        """When `name` is due on the store's clock, or None."""
        record = self._state.alarm(name)
        return None if record is None else record.due_ms

    def names(self) -> list[str]:
        """What is armed, sorted."""
        return self._state.alarm_names()


class DurableObject:
    """The base of every kind of object. Hooks may be left out; none of them may call other objects."""

    __slots__ = ("_activation",)

    kind: ClassVar[str]
    """The name of the kind: part of every address, never to change."""
    durability: ClassVar[Literal["committed", "checkpointed"]] = "committed"
    indexed: ClassVar[bool] = True
    """Whether anybody lists objects of this kind."""
    native: ClassVar[bool] = False
    """Whether the instance alone holds the state and `on_checkpoint` returns it (see `shared.objects.native`).

    Then `loaded` is what was stored, in `on_activate`, and `storage`, `alarms` and the index are not for
    it. If a handler fails unexpectedly, the instance is not trusted and the last checkpoint is read again.
    """
    idle_ms: ClassVar[int] = bounds.OBJECT_IDLE_MS
    """How long it may be idle before it leaves memory."""
    keep_ms: ClassVar[int] = 0
    """How long it may be idle while the node has room (`TENURE_RESIDENT_OBJECTS`); not below `idle_ms`."""
    schema: ClassVar[int] = 1
    """The version of the form in which the kind stores its objects.

    From 2 on there is a plain method `migrate_1(self, state)`, which brings the `state` (that is, `storage`) of an
    object stored with schema 1 to the form of schema 2, and so on. See `shared.objects.migrations`.
    """

    def __init__(self, activation: "Activation") -> None:
        self._activation = activation

    def on_activate(self) -> None:
        """State is loaded and nothing else has entered. Writes count like a turn's."""

    def on_passivate(self) -> None:
        """The object leaves memory; everything is stored."""

    def on_checkpoint(self) -> Checkpoint | None:
        """Checkpointed kinds: store what `dirty()` announced. Called once before each checkpoint.

        Native kinds return the whole state as a `Checkpoint`; the others `put` it and return None.
        """

    def on_alarm(self, alarm: Alarm) -> Any:
        """A named alarm is due. A normal end removes it unless it was set anew; an exception retries it later."""

    def on_socket_open(self, socket: Socket) -> Any:
        """A client asks for a socket; a DomainError refuses it. What is sent here is the first that the client gets.

        Committed kinds take sockets by defining `on_socket_message(self, socket, message)`; how `message` is annotated
        says what is taken. See `shared.objects.sockets`.
        """

    def on_socket_close(self, socket: Socket, code: int) -> Any:
        """A socket has left, and is none of `sockets` any more. Not called for those that end with their node."""

    def keep_reply(self, method: str, reply: Any) -> Any:  # noqa: ARG002  # For those who override it.
        """What to remember of the reply to a request with an idempotency key: it, or what it can be made of again.

        A secret is not to be stored: keep what `recall_reply` derives it from.
        """
        return reply

    def recall_reply(self, method: str, kept: Any) -> Any:  # noqa: ARG002  # As above.
        """The reply of before, of what `keep_reply` returned, read as the type that the method says it returns."""
        return kept

    @property
    def address(self) -> "Address":
        """Who I am."""
        return self._activation.address

    @property
    def storage(self) -> "ObjectState":
        """My keys and values. Raises TypeError for native kinds."""
        state = self._activation.state
        if isinstance(state, NativeState):
            raise TypeError(f"{self.kind} is a native kind: its state is in its instance")
        return state

    @property
    def loaded(self) -> bytes:
        """Native kinds, in `on_activate`: the state of the last stored checkpoint; empty if there is none."""
        state = self._activation.state
        assert isinstance(state, NativeState), "only native kinds load a native state"
        return state.stored

    @property
    def alarms(self) -> Alarms:
        """My alarms. Raises TypeError for native kinds."""
        return Alarms(self.storage)

    @property
    def journal(self) -> Journal:
        """My journal. Raises TypeError for native kinds."""
        return Journal(self._activation, self.storage)

    @property
    def index(self) -> Index:
        """My rows in the indexes of my kind. Raises TypeError for kinds that are not indexed."""
        return Index(self._activation, self.storage)

    @property
    def sockets(self) -> Sockets:
        """My live connections."""
        return Sockets(self._activation.host.sockets, self.address)

    @property
    def clock(self) -> "StoreClock":
        """`now_ms()` is the store's time, for moments; `monotonic_ms()` is for durations."""
        return self._activation.host.store_clock

    @property
    def objects(self) -> "ObjectCalls":
        """Calls to other objects: `await self.objects.at(Account, tenant, name).debit(5)`."""
        return self._activation.host.calls

    def send(
        self, kind: "type[DurableObject]", tenant: str, name: str, *, ttl_ms: int = bounds.MESSAGE_TTL_MS
    ) -> Envelope:
        """Send a message after this turn is stored: `self.send(Account, tenant, name).debit(5)`.

        It takes effect once, in the order of sending from this object to that one. What is not delivered within
        `ttl_ms` (a week at most), or refused by a DomainError, becomes a dead letter.

        Raises (the returned functions):
            TooLargeError: it has over 64 KiB, or 1,024 messages of this object wait.
            TypeError: the arguments do not fit the method, or cannot be stored.
        """
        assert 0 < ttl_ms <= bounds.MESSAGE_TTL_MS_MAX
        return Envelope(self, kind, Address(kind.kind, tenant, name), ttl_ms)

    @property
    def transactions(self) -> "Transactions":
        """Changes of several objects at once: `await self.transactions.run([Step(...), ...], key="order-7")`."""
        return self._activation.host.transactions(self.address.tenant)

    def dirty(self) -> None:
        """Checkpointed kinds: say that native state has changed. The next checkpoint calls `on_checkpoint`."""
        activation = self._activation
        if not activation.dirty:
            activation.host.committer.mark_dirty(activation)

    async def commit(self) -> None:
        """Store what this turn has written so far, before going on.

        Raises:
            CommitFailedError, OutcomeUnknownError: as a reply would.
        """
        await self._activation.host.commit_within_turn(self._activation)


class Kind:
    """What the host needs to know of a kind, read off its class once."""

    __slots__ = (
        "cls",
        "durable",
        "idle_ms",
        "indexed",
        "is_async",
        "keep_ms",
        "migrations",
        "name",
        "native",
        "readonly",
        "schema",
        "sockets",
    )

    def __init__(self, cls: type[DurableObject]) -> None:
        assert cls.durability in ("committed", "checkpointed"), cls
        assert not cls.native or (cls.durability == "checkpointed" and not cls.indexed), cls
        self.cls = cls
        self.name = cls.kind
        self.durable = cls.durability == "committed"
        self.indexed = cls.indexed
        self.native = cls.native
        self.idle_ms = cls.idle_ms
        self.keep_ms = max(cls.keep_ms, cls.idle_ms)
        self.schema = cls.schema
        self.migrations = migrations_of(cls)
        methods = [method for _, method in inspect.getmembers(cls, inspect.isfunction)]
        self.sockets = socket_turns(cls)
        assert self.sockets is None or self.durable, f"{cls} takes sockets, so it must be committed"
        known = (*methods, *OPERATIONS, *(self.sockets or ()))
        self.is_async = frozenset(method for method in known if inspect.iscoroutinefunction(method))
        self.readonly = frozenset(method.__name__ for method in methods if hasattr(method, "__tenure_readonly__"))
