"""The routes of the session manager: by principal for applications, for users about themselves, the tenant, rooms."""

from collections.abc import Sequence
from typing import Any

from services.sessions.routes import events, mine, principals, rooms, tenant
from services.sessions.webhooks import SessionSubscription
from shared.webhooks.routes import webhook_routes

HANDLERS: Sequence[Any] = (
    *principals.HANDLERS,
    *events.HANDLERS,
    *mine.HANDLERS,
    *tenant.HANDLERS,
    *rooms.HANDLERS,
    *webhook_routes(SessionSubscription, read=principals.READ, admin=principals.ADMIN),
)
