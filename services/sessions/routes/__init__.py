"""The routes of the session manager: for applications by principal, for users about themselves, for the tenant."""

from collections.abc import Sequence
from typing import Any

from services.sessions.routes import events, mine, principals, tenant
from services.sessions.webhooks import SessionSubscription
from shared.webhooks.routes import webhook_routes

HANDLERS: Sequence[Any] = (
    *principals.HANDLERS,
    *events.HANDLERS,
    *mine.HANDLERS,
    *tenant.HANDLERS,
    *webhook_routes(SessionSubscription, read=principals.READ, admin=principals.ADMIN),
)
