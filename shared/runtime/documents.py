"""The documents that all services share, for programs that are not a node (the command line)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import SystemClock
from shared.objects.config import Documents
from shared.storage import keys
from shared.storage.redis.store import RedisStore


@asynccontextmanager
async def open_documents(redis_url: str) -> AsyncIterator[Documents]:
    """Tenants and API keys as they are stored now.

    Raises:
        StoreError: the store does not answer.
    """
    store = RedisStore(redis_url, service=keys.SHARED)
    try:
        documents = Documents(store, keys.SHARED, SystemClock())
        await documents.poll()
        yield documents
    finally:
        await store.close()
