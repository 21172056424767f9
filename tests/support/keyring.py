"""Tenants and keys in a store in memory, for tests of the edge."""

import msgspec

from shared.http.auth import KeyRing
from shared.objects.config import Documents
from shared.storage.keys import SHARED
from shared.storage.records import KeyRecord, TenantRecord, key_digest, new_key_id, new_key_text
from shared.testing.clock import ManualClock
from shared.testing.store import MemoryStore

ALL = ("limits:check", "limits:read", "limits:write")


class Keys:
    """Documents that a test writes, and the ring that follows them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.documents = Documents(self.store, SHARED, self.clock)
        self.ring = KeyRing(self.documents, self.clock)

    async def add_tenant(self, tenant: str, *, disabled: bool = False) -> None:
        """Write the tenant, whether it is there or not."""
        body = msgspec.json.encode(TenantRecord(created_ms=self.clock.now_ms(), disabled=disabled))
        await self.documents.put("tenant", tenant, tenant, body, expected=None)

    async def add_key(
        self, tenant: str, *scopes: str, text: str = "", key_id: str = "", expires_ms: int | None = None
    ) -> str:
        """Write a key and return its text; all scopes unless some are named."""
        text = text or new_key_text()
        record = KeyRecord(
            digest=key_digest(text), scopes=scopes or ALL, created_ms=self.clock.now_ms(), expires_ms=expires_ms
        )
        await self.documents.put("key", tenant, key_id or new_key_id(), msgspec.json.encode(record), expected=None)
        return text
