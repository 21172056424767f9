"""What an operator may set about the workflow service beside what is set about every node."""

from typing import Any

import msgspec

from services.workflows.keys import KeySet, read_keys
from shared.errors import ConfigurationError
from shared.settings import NodeSettings, Port, variable_of

SERVICE = "workflows"
PREFIX = "wf"
"""The service's prefix in the store; part of stored keys, never to change."""


class WorkflowsSettings(NodeSettings, frozen=True, kw_only=True):
    """One node of the workflow service."""

    port: Port = 7102
    admin_port: Port = 7202

    def keys(self) -> KeySet:
        """`workflow_keys`, read.

        Raises:
            ConfigurationError: there are none, or they cannot be read.
        """
        return read_keys(self.workflow_keys)

    def env(self) -> dict[str, Any]:
        """`definition_env` as values.

        Raises:
            ConfigurationError: it is no JSON object.
        """
        if not self.definition_env:
            return {}
        try:
            return msgspec.json.decode(self.definition_env, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{variable_of('definition_env')} must be a JSON object: {error}.") from error
