"""May this pass? One question to the rate limiter."""

from dataclasses import dataclass
from typing import Any

from tenure_client.transport import Client


@dataclass(frozen=True)
class Decision:
    """The answer; `shown` is all of it, with every limit as it stands now."""

    allowed: bool
    retry_after_s: float
    """0 if allowed; else when the cost fits, provided nobody else takes before."""
    degraded: bool
    """Whether it was decided without counting, because the store is away."""
    shown: dict[str, Any]


class Limiter(Client):
    """Calls a rate limiter. A check is made once, since one that was heard has counted; `answer_s` is its patience."""

    def __init__(self, url: str, key: str, *, answer_s: float = 1.0) -> None:
        super().__init__(url, key)
        self._answer_s = answer_s

    async def check(self, policy: str, subject: str, *, cost: int = 1, peek: bool = False) -> Decision:
        """Take `cost` from all limits of the policy, or from none; `peek` takes nothing.

        Raises:
            ApiError: there is no such policy, or the limiter cannot decide now.
            UnreachableError: it has not answered in time; let pass or not, as your application says.
        """
        body = {"policy": policy, "subject": subject, "cost": cost, "peek": peek}
        shown = await self._transport.call("POST", "/v1/check", body, answer_s=self._answer_s, patience_s=0)
        return Decision(
            allowed=shown["allowed"],
            retry_after_s=shown["retry_after_ms"] / 1_000,
            degraded=bool(shown.get("degraded")),
            shown=shown,
        )
