"""Why a message is not signed."""

from shared.errors import ConflictError


class WebhookKeyGoneError(ConflictError):
    """The secret of a webhook cannot be derived any more."""

    code = "webhook.key_gone"

    def __init__(self, name: str) -> None:
        super().__init__(f"The key that made the secret of webhook {name!r} has been taken out; rotate the secret.")
