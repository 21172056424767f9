"""Sessions that are old, where no clock can be moved: what is stored of one is moved into the past."""

import asyncio
import urllib.request
from typing import Any, TypeVar

import msgspec

from services.sessions.keys import read_keys
from services.sessions.principal import Principal
from services.sessions.session import Seen, Session
from services.sessions.settings import PREFIX
from services.sessions.tokens import Tokens
from shared.storage.codec import decode, encode
from shared.storage.embedded import EmbeddedStore
from shared.storage.redis.store import RedisStore
from tests.support.service import Limiter

TENANT = "dev"
T = TypeVar("T", bound=msgspec.Struct)


def age(service: Limiter, principal: str, session_id: str, by_ms: int) -> None:
    """Have a session be that much older than it is, and its last use: its principal leaves memory, and reads it anew.

    `service` is the session manager of `tenure run`.
    """
    data_dir = service.run.data_dir
    tokens = Tokens(read_keys((data_dir / "session-keys").read_text().strip()))
    name = tokens.principal_ref(TENANT, principal).hex()
    admin_port = service.run.admin_port + service.port - service.run.port
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin_port}/admin/objects/{Principal.kind}/{TENANT}/{name}/evict",
        method="POST",
        headers={"Authorization": f"Bearer {(data_dir / 'admin-token').read_text().strip()}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert b'{"evicted":true}' == answer.read()
    asyncio.run(_moved(EmbeddedStore(data_dir).url, name, session_id, by_ms))


async def _moved(url: str, name: str, session_id: str, by_ms: int) -> None:
    store = RedisStore(url, service=PREFIX)
    try:
        (key,) = await store.command("KEYS", f"{{{PREFIX}:*:o:*{name}")

        async def changed(part: str, type_: type[T], **moments: Any) -> None:
            field = f"k{part}/{session_id}"
            value = decode(await store.command("HGET", key, field), type_)
            earlier = {which: move(value) for which, move in moments.items()}
            await store.command("HSET", key, field, encode(msgspec.structs.replace(value, **earlier)))

        await changed(
            "s",
            Session,
            created_ms=lambda session: session.created_ms - by_ms,
            lifetime=lambda session: msgspec.structs.replace(
                session.lifetime, began_ms=session.lifetime.began_ms - by_ms
            ),
        )
        await changed("u", Seen, at_ms=lambda seen: seen.at_ms - by_ms)
    finally:
        await store.close()
