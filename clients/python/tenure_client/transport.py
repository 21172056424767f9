"""One way to the service: JSON there and back, and calls that may be made again are made again.

Calls of runs and tasks can be made twice without harm, by their nature or by an idempotency key. So what fails on the
way, and what the service refuses for the moment, is tried again, each time later than before and never in step with
others (full jitter), for as long as its caller has said; 0 s means once.
"""

import asyncio
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from tenure_client.errors import ApiError, UnreachableError

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
GONE = frozenset({404, 410})
BACKOFF_S = 0.2
BACKOFF_S_MAX = 10.0
ANSWER_S = 35.0  # Longer than the service takes to answer a call that it has accepted.


class Transport:
    """Calls one service with one key."""

    def __init__(self, url: str, key: str) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError(f"the address of a service begins with http:// or https://, and not as {url!r}")
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        answer_s: float = ANSWER_S,
        patience_s: float = 30.0,
    ) -> Any:
        """The answer, of JSON; None where it has no body. One try takes `answer_s` at most, all of them `patience_s`.

        Raises:
            ApiError: the service has refused it, and not for the moment only.
            UnreachableError: it could not be reached for as long as that.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        tries = 0
        while True:
            failure, wait_s = await self._try(method, path, body, headers or {}, answer_s)
            if not isinstance(failure, ApiError | UnreachableError):
                return failure
            wait_s = max(wait_s, pause_s(tries))
            if (isinstance(failure, ApiError) and failure.status not in RETRIED) or loop.time() + wait_s > until_s:
                raise failure
            await asyncio.sleep(wait_s)
            tries += 1

    async def remove(self, path: str) -> None:
        """Remove something; what is not there is removed.

        Raises:
            ApiError, UnreachableError: as `call`.
        """
        try:
            await self.call("DELETE", path)
        except ApiError as error:
            if error.status not in GONE:
                raise

    async def _try(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], answer_s: float
    ) -> tuple[Any, float]:
        """The answer or what is wrong, and how long the service asks to wait."""
        try:
            answer = await self._client.request(method, path, json=body, headers=headers, timeout=answer_s)
        except httpx.HTTPError as error:
            return UnreachableError(f"{method} {path}: {str(error) or type(error).__name__}"), 0.0
        if answer.status_code < 400:
            return (answer.json() if answer.content else None), 0.0
        return ApiError(answer.status_code, _problem(answer)), _retry_after_s(answer)


def given(**members: Any) -> dict[str, Any]:
    """The members that are said: those that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def pause_s(tries: int) -> float:
    """How long to wait after so many tries that failed: anything up to a bound that doubles."""
    return random.uniform(0, min(BACKOFF_S * 2**tries, BACKOFF_S_MAX))  # noqa: S311  # Nothing secret.


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {"detail": answer.text[:200]}
    return problem if isinstance(problem, dict) else {"detail": str(problem)[:200]}


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return min(float(answer.headers.get("retry-after", 0)), BACKOFF_S_MAX)
    except ValueError:
        return 0.0


class Client:
    """What calls one service with one key; it is opened and closed by `async with`."""

    def __init__(self, url: str, key: str) -> None:
        self._transport = Transport(url, key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()
