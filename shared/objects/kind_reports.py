"""What an operator is shown of a kind: how its objects are kept, and what callers outside may call."""

import msgspec

from shared.objects.handler import Kind
from shared.objects.published import shown_names


class KindReport(msgspec.Struct, frozen=True, kw_only=True):
    """A kind that is hosted. `listed`: whether a list is kept of its objects; `public`: its `@public` methods."""

    kind: str
    durability: str
    listed: bool
    schema: int
    public: list[str]


def kind_report(kind: Kind) -> KindReport:
    """What there is to tell of `kind`."""
    return KindReport(
        kind=kind.name,
        durability=kind.cls.durability,
        listed=kind.indexed,
        schema=kind.schema,
        public=shown_names(kind.cls),
    )
