"""The two objects that the onboarding changes together: the listing of a property, and the account of its owner.

The workflow prepares both, and then commits both or rolls both back. What is prepared is held for a day: whoever
prepared it and vanished for good does not hold it for ever. Each method bears being called for what never happened, and
a workflow calls each once for each visit of a step, by its key.

    TENURE_OBJECTS=examples.onboarding.objects tenure run
"""

from typing import Any, ClassVar, Literal

import msgspec

from shared.objects.errors import DomainError
from shared.objects.handler import Alarm, DurableObject, public, public_as

HELD_MS = 24 * 3_600_000
PROPERTIES_MAX = 3
_LEASE = "lease"

State = Literal["free", "held", "published"]


class AlreadyPublishedError(DomainError):
    """The property is listed already."""

    code = "published"


class NotHeldError(DomainError):
    """It was not prepared, or so long ago that it was given back."""

    code = "not_held"


class AccountFullError(DomainError):
    """The owner has as many properties as an account may have."""

    code = "full"


class ListingView(msgspec.Struct, frozen=True, kw_only=True):
    """A listing as it is."""

    state: State
    report: Any


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """How many properties an owner has listed, and how many are being listed."""

    listed: int
    held: int


class Listing(DurableObject):
    """One property on offer."""

    kind: ClassVar[str] = "listing"

    @public
    def prepare(self, report: dict[str, Any]) -> ListingView:
        """Hold the place for a property with this inspection report.

        Raises:
            AlreadyPublishedError: it is on offer.
        """
        if self._state() == "published":
            raise AlreadyPublishedError("The property is on offer already.")
        self.storage.put("state", "held")
        self.storage.put("report", msgspec.json.encode(report))
        self.alarms.set(_LEASE, at_ms=self.clock.now_ms() + HELD_MS)
        return self._view()

    @public_as("commit")
    def publish(self) -> ListingView:
        """Put the property on offer; again is no error.

        Raises:
            NotHeldError: it was not prepared.
        """
        if self._state() == "free":
            raise NotHeldError("The listing was not prepared, or was given back.")
        self.storage.put("state", "published")
        self.alarms.cancel(_LEASE)
        return self._view()

    @public
    def rollback(self) -> ListingView:
        """Give the place back, if it is held."""
        if self._state() == "held":
            self._give_back()
        return self._view()

    @public
    def read(self) -> ListingView:
        """The listing as it is."""
        return self._view()

    def on_alarm(self, alarm: Alarm) -> None:
        """Whoever prepared it has not come back."""
        if alarm.name == _LEASE and self._state() == "held":
            self._give_back()

    def _give_back(self) -> None:
        self.storage.put("state", "free")
        self.storage.delete("report")
        self.alarms.cancel(_LEASE)

    def _state(self) -> State:
        state: State = self.storage.get("state", State, default="free")  # type: ignore[arg-type]  # A type of values.
        return state

    def _view(self) -> ListingView:
        return ListingView(
            state=self._state(), report=msgspec.json.decode(self.storage.get("report", bytes, default=b"null"))
        )


class OwnerAccount(DurableObject):
    """What one owner has on offer."""

    kind: ClassVar[str] = "owner_account"

    @public
    def prepare(self) -> AccountView:
        """Hold room for one more property.

        Raises:
            AccountFullError: there is none.
        """
        view = self._view()
        if view.listed + view.held >= PROPERTIES_MAX:
            raise AccountFullError(f"An account has at most {PROPERTIES_MAX} properties.")
        self.alarms.set(_LEASE, at_ms=self.clock.now_ms() + HELD_MS)
        return self._put(listed=view.listed, held=view.held + 1)

    @public_as("commit")
    def take(self) -> AccountView:
        """The property is on offer: it counts from now on.

        Raises:
            NotHeldError: no room was held.
        """
        view = self._view()
        if not view.held:
            raise NotHeldError("No room is held, or it was given back.")
        return self._put(listed=view.listed + 1, held=view.held - 1)

    @public
    def rollback(self) -> AccountView:
        """Give the room back, if any is held."""
        view = self._view()
        return self._put(listed=view.listed, held=max(0, view.held - 1))

    @public
    def read(self) -> AccountView:
        """The account as it is."""
        return self._view()

    def on_alarm(self, alarm: Alarm) -> None:
        """A day has passed since room was held last: whoever held it has not come back."""
        if alarm.name == _LEASE:
            self._put(listed=self._view().listed, held=0)

    def _put(self, *, listed: int, held: int) -> AccountView:
        self.storage.put("listed", listed)
        self.storage.put("held", held)
        if not held:
            self.alarms.cancel(_LEASE)
        return self._view()

    def _view(self) -> AccountView:
        return AccountView(
            listed=self.storage.get("listed", int, default=0), held=self.storage.get("held", int, default=0)
        )
