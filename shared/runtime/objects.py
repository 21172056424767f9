"""Objects of the operator's own: `TENURE_OBJECTS` names modules, and what they define is hosted.

A module is imported once, at the start of a service, by the composition root and nobody else. What
cannot be imported, defines no object or defines one that cannot stand, stops the start with one
sentence: a service that runs without the objects it was asked for would be a silent failure.
"""

import inspect
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from shared.errors import ConfigurationError
from shared.objects.handler import DurableObject
from shared.objects.published import PublishedKind, published
from shared.settings import variable_of

_VARIABLE = variable_of("objects")


def load_objects(modules: str, *, own: Iterable[type[DurableObject]]) -> list[PublishedKind]:
    """The kinds that the comma-separated `modules` define, in their order; `own` are those of the service.

    A class whose name begins with an underscore is a base of others, and is not registered itself.

    Raises:
        ConfigurationError: a module cannot be imported or defines no kind, a kind cannot stand, or two
            have one name.
    """
    found: list[PublishedKind] = []
    taken = {cls.kind: f"{cls.__module__}.{cls.__name__}" for cls in own}
    for name in dict.fromkeys(part.strip() for part in modules.split(",") if part.strip()):
        for cls in _defined(_imported(name)):
            kind = published(cls)
            named = f"{cls.__module__}.{cls.__name__}"
            if taken.get(kind.name) == named:
                raise ConfigurationError(f"{_VARIABLE} names {name}, whose {cls.__name__} the service hosts by itself.")
            if kind.name in taken:
                raise ConfigurationError(f"{named} has the kind {kind.name!r}, which is that of {taken[kind.name]}.")
            taken[kind.name] = named
            found.append(kind)
    return found


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as exc:
        reason = " ".join(str(exc).split())
        raise ConfigurationError(
            f"{_VARIABLE} names {name}, which cannot be imported: {type(exc).__name__}: {reason}."
        ) from exc


def _defined(module: ModuleType) -> list[type[DurableObject]]:
    """The kinds that stand in the module itself, and are not only imported into it."""
    classes = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, DurableObject) and cls.__module__ == module.__name__ and not cls.__name__.startswith("_")
    ]
    if not classes:
        raise ConfigurationError(f"{_VARIABLE} names {module.__name__}, which defines no DurableObject.")
    return list(dict.fromkeys(classes))
