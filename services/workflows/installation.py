"""What a run finds where it is hosted."""

from collections.abc import Callable

import msgspec

from services.workflows.intents import Intent
from services.workflows.program import Json
from shared.objects.address import Address
from shared.objects.host import Host


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for definitions, and who carries out errands, and which."""

    env: dict[str, Json] = {}
    carried: frozenset[type[Intent]] = frozenset()
    wake: Callable[[Host, Address], None] | None = None
    """Told, within a turn, that the run has errands. Whoever asks for them at once is answered after its commit."""
    hears: Callable[[str, str], bool] | None = None
    """Whether somebody of that tenant is to be told of such an event."""
