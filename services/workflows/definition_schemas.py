"""Definitions over the wire: what there is, and one step that is tried."""

from typing import Any

import msgspec

from services.workflows.program import Json
from services.workflows.schemas import StepName


class TryStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Try one step of a definition, on values that are given, with an answer that is given. Nothing is sent."""

    definition: dict[str, Any]
    step: StepName
    """Its path: steps in branches stand behind their parallel and branch, `verification/identity/check`."""
    input: Json = None
    """Of the run."""
    previous: Json = None
    """What the step before gave."""
    variables: dict[str, Json] = {}
    item: Json = None
    result: Json = None
    outcome: str = ""
    error: str = ""
    """The name of the error that the step ends in; without it, it ends well where it waits for something."""
    answered: bool = True
    """False: leave the step waiting, to see what it would send."""


class StepTried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the step."""

    state: str
    """`went_on`, `ended`, or the phase that the step is in: `called`, `waiting`, `sleeping`, `stalled` and so on."""
    next: str | None = None
    output: Json = None
    variables: dict[str, Json] = {}
    failure: Json = None
    effects: list[Any] = []
    """What was to be sent, armed and told, in order."""


class DefinitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a definition."""

    name: str
    version: int
    changed_ms: int
    versions: list[int]
    """All that there are, newest first."""
    media_type: str
    source: str
    """As it was put."""


class DefinitionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A definition, and the numbers of its versions, newest first."""

    name: str
    versions: list[int]


class DefinitionList(msgspec.Struct, frozen=True, kw_only=True):
    """All definitions of the tenant, by name."""

    definitions: list[DefinitionSummary]


class DefinitionIsValid(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is wrong with the definition, and everything in it can be carried out here."""

    name: str
    steps: int
