"""What of a store is exported. A kind or a tenant that the store does not have is a mistake, and no empty export."""

from shared.errors import NotFoundError
from shared.objects.address import split_address

_TENANT = b"tenant"
_NAMED = 10  # Names that a sentence has at most.


class Selection:
    """The objects of a kind, or of all; and what is a tenant's, or anybody's. An empty text stands for all."""

    def __init__(self, kind: str, tenant: str) -> None:
        self._kind = kind
        self._tenant = tenant
        self._kinds: set[str] = set()
        self._tenants: set[str] = set()

    def takes_object(self, object_id: bytes) -> bool:
        """Whether the object of this encoded address is meant."""
        address, _ = split_address(object_id)
        self._kinds.add(address.kind)
        self._tenants.add(address.tenant)
        return self._kind in ("", address.kind) and self._tenant in ("", address.tenant)

    def takes_document(self, field: bytes) -> bool:
        """Whether the document of this name is meant: none is, where a kind of objects was named."""
        kind, tenant, _ = field.split(b"\0")
        if kind == _TENANT:
            self._tenants.add(tenant.decode())
        return not self._kind and self._tenant in ("", tenant.decode())

    def check_met(self) -> None:
        """To be asked when everything was looked at.

        Raises:
            NotFoundError: the store has nothing of the kind, or does not know the tenant; it says what there is.
        """
        if self._kind and self._kind not in self._kinds:
            raise NotFoundError(f"object of the kind {self._kind!r}; the store has {_listed(self._kinds, 'kinds')}")
        if self._tenant and self._tenant not in self._tenants:
            raise NotFoundError(f"tenant {self._tenant!r}; the store has {_listed(self._tenants, 'tenants')}")


def _listed(names: set[str], what: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the {what} {', '.join(map(repr, sorted(names)[:_NAMED]))}{more}" if names else f"no {what}"
