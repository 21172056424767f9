"""Brings an object that an older version of its kind has stored to the form that the code knows.

A kind says `schema = 3` and has `migrate_1` and `migrate_2`. Those that an object lacks run one after another when
it comes into memory, before `on_activate` and before any turn. What they write and the new number are one write,
stored like that of `on_activate`: with the first commit, 250 ms later at most, and any answer waits for it as for
other writes. Until then the store has the object as it was, so after a crash the same migrations run again on the
same state. One that fails leaves nothing behind.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.objects.errors import HandlerError
from shared.objects.native import NativeState
from shared.telemetry import logs

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.handler import DurableObject

Migration = Callable[[Any, Any], None]
_PREFIX = "migrate_"
_log = logs.get_logger()


def migrations_of(cls: "type[DurableObject]") -> tuple[Migration, ...]:
    """The migrations of a kind: the first leads from schema 1 to 2.

    Raises:
        ValueError: one is missing, not called for by `schema`, or cannot be run; the text is the end of a sentence.
    """
    if type(cls.schema) is not int or cls.schema < 1:
        raise ValueError(f"has the schema {cls.schema!r}, which is not a number from 1 on")
    if cls.native and cls.schema != 1:
        raise ValueError("is native, so its state has its own version and its schema is 1")
    names = [f"{_PREFIX}{number}" for number in range(1, cls.schema)]
    found = {name for name in dir(cls) if name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdecimal()}
    if wrong := sorted(found.symmetric_difference(names)):
        raise ValueError(f"has the schema {cls.schema}, which goes with {names or 'no migration'}: see {wrong[0]}")
    migrations: list[Migration] = [getattr(cls, name) for name in names]
    for migration in migrations:
        if not inspect.isfunction(migration) or inspect.iscoroutinefunction(migration):
            raise ValueError(f"has a {migration.__name__} that is not a plain method")
    return tuple(migrations)


def migrate(activation: "Activation") -> bool:
    """Run the migrations that the object lacks, as part of the writes of its activation; say whether there were any.

    Raises:
        HandlerError: one has failed, and what they wrote is dropped.
    """
    state, kind = activation.state, activation.kind
    if isinstance(state, NativeState) or state.schema >= kind.schema:
        return False
    for migration in kind.migrations[state.schema - 1 :]:
        try:
            migration(activation.instance, state)
        except Exception as exc:
            state.drop_turn()
            _log.error(logs.MIGRATION_FAILED, object=str(activation.address), method=migration.__name__, exc_info=exc)
            activation.host.metrics.migration(kind.name, "failed")
            raise HandlerError(kind.name, migration.__name__) from exc
    state.migrated(kind.schema)
    return True
