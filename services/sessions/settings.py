"""What an operator may set about the session manager beside what is set about every node."""

from services.sessions.keys import KeySet, read_keys
from shared.errors import ConfigurationError
from shared.settings import NodeSettings, Port

SERVICE = "sessions"
PREFIX = "se"
"""The service's prefix in the store; part of stored keys, never to change."""


class SessionsSettings(NodeSettings, frozen=True, kw_only=True):
    """One node of the session manager."""

    port: Port = 7103
    admin_port: Port = 7203

    def keys(self) -> KeySet:
        """`session_keys`, read.

        Raises:
            ConfigurationError: there are none, or they cannot be read.
        """
        if not self.session_keys:
            raise ConfigurationError(
                "TENURE_SESSION_KEYS must hold the keys of session tokens; see docs/how-to/keep-users-signed-in.md."
            )
        return read_keys(self.session_keys)
