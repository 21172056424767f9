"""The objects of the onboarding, with a gate: a listing that is shut cannot be committed until it is opened."""

from typing import ClassVar

import examples.onboarding.objects as example
from shared.objects.errors import DomainError
from shared.objects.handler import public, public_as


class ShutError(DomainError):
    """Not yet."""

    code = "shut"


class Listing(example.Listing):
    """A listing that can be shut."""

    kind: ClassVar[str] = "listing"

    @public
    def shut(self) -> None:
        """Let nobody commit."""
        self.storage.put("shut", True)

    @public
    def open(self) -> None:
        """Let them again."""
        self.storage.delete("shut")

    @public_as("commit")
    def publish(self) -> example.ListingView:
        """As the listing of the example, once it is open."""
        if self.storage.get("shut", bool, default=False):
            raise ShutError("The listing is shut.")
        return super().publish()


class OwnerAccount(example.OwnerAccount):
    """As it is."""

    kind: ClassVar[str] = "owner_account"
