"""The routes of the session manager: for applications by principal, for users about themselves, for the tenant."""

from collections.abc import Sequence
from typing import Any

from services.sessions.routes import events, mine, principals, tenant

HANDLERS: Sequence[Any] = (*principals.HANDLERS, *events.HANDLERS, *mine.HANDLERS, *tenant.HANDLERS)
