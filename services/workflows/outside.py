"""Carries out `http` steps: one call of an address outside, and what its answer means for the step.

The call leaves after the commit that wants it. If the node dies before the answer is stored, the call is made again
with the same `Idempotency-Key`: an effect happens at least once, and whoever honours the key makes it once. A retry of
the step has the same key too; another visit of the step has another.

A status of 200 to 299 is success and the body is the result. Any other status is the error `http.<status>`, a redirect
too: where it leads, nobody has checked. With `callback: true`, 202 means that the answer comes to the address in
`Tenure-Callback`.
"""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from services.workflows.bounds import CALL_TIMEOUT_MS, ERROR_BODY_BYTES_MAX
from services.workflows.callbacks import Callbacks
from services.workflows.calling import request_key
from services.workflows.events import Accepted, Completed, Failed
from services.workflows.intents import SendHttp
from services.workflows.program import Json, Secret
from shared.http.decoding import is_too_deep
from shared.objects.address import Address
from shared.objects.host import Host
from shared.outbound.client import Answer, Calls
from shared.outbound.credentials import Secrets
from shared.outbound.errors import BadAnswerError, BadTargetError, NoAnswerError, UnreachableError
from shared.outbound.request import Request
from shared.telemetry.context import current_traceparent

CALLBACKS = "/v1/callbacks/"


class HttpSender:
    """Makes the calls of `http` steps, reminders and compensations."""

    def __init__(self, calls: Calls, secrets: Secrets, callbacks: Callbacks, *, public_url: str) -> None:
        """`public_url` is where receivers reach this service; empty: they are given the path alone."""
        self._calls, self._secrets, self._callbacks = calls, secrets, callbacks
        self._public_url = public_url.rstrip("/")

    async def __call__(self, host: Host, run: Address, call: SendHttp) -> Completed | Failed | Accepted:
        """Make the call; what its answer means.

        Raises:
            TenantBusyError: the tenant has too many calls under way; it is made later.
        """
        now_ms = host.store_clock.now_ms()
        left_ms = CALL_TIMEOUT_MS if call.due_ms is None else call.due_ms - now_ms
        try:
            request = self._request(run, call)
            answer = await self._calls.send(run.tenant, request, timeout_ms=max(1, min(CALL_TIMEOUT_MS, left_ms)))
        except (BadTargetError, BadAnswerError, UnreachableError, NoAnswerError) as error:
            return Failed(path=call.path, serial=call.serial, error=error.code, cause=str(error))
        return meaning(call, answer, now_ms=host.store_clock.now_ms())

    def _request(self, run: Address, call: SendHttp) -> Request:
        headers = {name: self._value(run.tenant, value) for name, value in call.headers.items()}
        ours = {"Idempotency-Key": idempotency_key(run.name, call.key), "X-Attempt": str(call.attempt)}
        if traceparent := current_traceparent():
            ours["traceparent"] = traceparent
        if call.callback:
            token = self._callbacks.token(run, call.path, call.serial)
            ours["Tenure-Callback"] = f"{self._public_url}{CALLBACKS}{token}"
        body = _body(call, headers)
        if body is not None and not _content_type(headers):
            ours["Content-Type"] = "application/json"
        return Request(method=call.method, url=call.url, headers=headers, engine_headers=ours, body=body)

    def _value(self, tenant: str, value: str | Secret) -> str:
        return value if isinstance(value, str) else value.prefix + self._secrets.value(tenant, value.secret)


def meaning(call: SendHttp, answer: Answer, *, now_ms: int) -> Completed | Failed | Accepted:
    """What the answer means for the step."""
    if call.callback and answer.status == 202:
        return Accepted(path=call.path, serial=call.serial)
    if 200 <= answer.status < 300:
        return Completed(path=call.path, serial=call.serial, result=value_of(answer))
    whole = len(answer.body) <= ERROR_BODY_BYTES_MAX
    return Failed(
        path=call.path,
        serial=call.serial,
        error=f"http.{answer.status}",
        cause=f"The answer had the status {answer.status}.",
        data={"status": answer.status, "body": value_of(answer) if whole else None},
        retry_after_ms=answer.retry_after_ms(now_ms),
    )


def value_of(answer: Answer) -> Json:
    """The body as a value: JSON as what it says, text as text, and null for all else."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return None if not answer.body or is_too_deep(answer.body) else msgspec.json.decode(answer.body)
        return answer.body.decode() if kind.startswith("text/") else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def idempotency_key(run_id: str, key: str) -> str:
    """The key of every sending of one visit of a step; a digest where it could not stand in a header field."""
    whole = request_key(run_id, key)
    if whole.isascii() and whole.isprintable() and " " not in whole:
        return whole
    return blake2b(whole.encode(), digest_size=32).hexdigest()


def _body(call: SendHttp, headers: Mapping[str, str]) -> bytes | None:
    """What is sent: JSON, or a text as it is where the call says that it is something else."""
    if not call.has_body:
        return None
    if isinstance(call.body, str) and "json" not in (_content_type(headers) or "json"):
        return call.body.encode()
    return msgspec.json.encode(call.body)


def _content_type(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "content-type"), "")
