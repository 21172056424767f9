"""Own objects through guard, routes and core, in virtual time: strict in, typed out, problems for all else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec
import pytest

from shared.errors import NotFoundError
from shared.objects.address import Address
from shared.objects.errors import DomainError, OverloadedError, TooLargeError
from shared.objects.handler import DurableObject, public, readonly
from shared.objects.parking import Park
from shared.testing.clock import START_MS
from tests.support.limiter_app import Answer, Service, with_service

LEVEL, TURNS, TIME = "x-tenure-durability", "x-object-requests", "x-response-time-ms"


class SoldOutError(DomainError):
    """Nothing is left."""

    code: ClassVar[str] = "sold_out"


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of an order."""

    sku: str
    count: int = 1


class Cart(DurableObject):
    kind = "cart"

    @public
    def put(self, line: Line, note: str | None = None) -> int:
        """Put a line into the cart."""
        total = self.storage.get("total", int, default=0) + line.count
        self.storage.put("total", total)
        return total

    @public
    async def put_later(self, line: Line) -> int:
        await asyncio.sleep(1)
        return self.put(line)

    @public
    @readonly
    def total(self) -> int:
        return self.storage.get("total", int, default=0)

    @public
    @readonly
    def whose(self) -> tuple[str, str]:
        return self.address.tenant, self.address.name

    @public
    def empty(self) -> None:
        self.storage.delete_all()

    @public
    def refuse(self, reason: str) -> None:
        self.storage.put("total", -1)
        raise {
            "sold_out": SoldOutError("None is left."),
            "domain": DomainError("Not like this."),
            "large": TooLargeError("The cart", size=9, size_max=8),
            "overloaded": OverloadedError("Too many carts.", retry_after_ms=1_500),
            "not_found": NotFoundError("line of that name"),
        }.get(reason, ValueError("secret=hunter2"))

    @public
    def wait(self, above: int, until_ms: int) -> int | Park:
        total = self.storage.get("total", int, default=0)
        return total if total > above or self.clock.now_ms() >= until_ms else Park("total", until_ms)

    @public
    def lie(self) -> int:
        return object()  # type: ignore[return-value]  # What it says is not what it does.

    def hidden(self) -> int:
        return 1


class Hits(DurableObject):
    kind = "hits"
    durability = "checkpointed"

    @public
    def hit(self) -> int:
        total = self.storage.get("total", int, default=0) + 1
        self.storage.put("total", total)
        return total


def with_objects(scenario: Callable[[Service], Awaitable[None]]) -> None:
    with_service(scenario, objects=[Cart, Hits])


async def call(service: Service, method: str, body: Any = None, *, name: str = "anna", **rest: Any) -> Answer:
    return await service.ask("POST", f"/v1/objects/cart/{name}/{method}", body, **rest)


def test_a_call_runs_one_turn_and_returns_what_it_returned() -> None:
    """Arguments by name, defaults left out, no body where there is nothing to say; the state is the object's."""

    async def scenario(service: Service) -> None:
        line = {"sku": "tea", "count": 2}
        assert (200, 2) == steady(await call(service, "put", {"line": line}))
        assert (200, 3) == steady(await call(service, "put_later", {"line": {"sku": "tea"}}))
        assert (200, 5) == steady(await call(service, "put", {"line": line, "note": "soon"}))
        assert (200, 5) == steady(await call(service, "total"))
        assert (200, 5) == steady(await call(service, "total", {}))
        assert (200, 0) == steady(await call(service, "total", name="bert"))
        assert (200, None) == steady(await call(service, "empty"))
        assert (200, 0) == steady(await call(service, "total"))

    with_objects(scenario)


def test_the_tenant_is_the_credentials_own() -> None:
    """The same name of another tenant is another object, and nothing in a request can say otherwise."""

    async def scenario(service: Service) -> None:
        await call(service, "put", {"line": {"sku": "tea"}})
        other = await service.add_key("other", "objects:call")
        assert (200, 0) == steady(await call(service, "total", key=other))
        assert (200, ["other", "anna"]) == steady(await call(service, "whose", key=other))

    with_objects(scenario)


def test_a_call_needs_its_scope() -> None:
    """No credential is 401; one for the limiter alone is 403 and names what it lacks."""

    async def scenario(service: Service) -> None:
        limits = await service.add_key("acme", "limits:check", "limits:read", "limits:write")
        refused = await call(service, "total", key=limits)
        assert (403, "objects:call") == (refused.status, refused.json()["scope"])
        assert 401 == (await call(service, "total", key=None)).status

    with_objects(scenario)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b"null", "$"),
        (b"", "$"),
        (b"{}", "$"),
        (b'{"line":null}', "$.line"),
        (b'{"line":{"sku":"tea","count":"1"}}', "$.line.count"),
        (b'{"line":{"sku":"tea","count":1.0}}', "$.line.count"),
        (b'{"line":{"sku":"tea","more":1}}', "$.line"),
        (b'{"line":{"sku":"tea"},"note":7}', "$.note"),
        (b'{"line":{"sku":"tea"},"more":1}', "$"),
        (b'{"line":{"sku":"tea"},"self":1}', "$"),
        (b'{"line":{"sku":"\xff"}}', "$"),
        (b"[" * 50_000, "$"),
    ],
)
def test_a_body_that_is_not_what_the_method_takes_is_refused(body: bytes, where: str) -> None:
    """400 with the place, and the turn does not run."""

    async def scenario(service: Service) -> None:
        answer = await call(service, "put", body)
        assert (400, "invalid_input", where) == (answer.status, answer.json()["code"], answer.json()["where"])
        assert 0 == service.host.turns_of(Address("cart", "acme", "anna"))

    with_objects(scenario)


@pytest.mark.parametrize(
    ("reason", "status", "code", "detail"),
    [
        ("sold_out", 409, "sold_out", "None is left."),
        ("domain", 409, "domain_error", "Not like this."),
        ("large", 413, "too_large", "The cart has 9 bytes; at most 8 are allowed."),
        ("overloaded", 503, "overloaded", "Too many carts."),
        ("not_found", 404, "not_found", "There is no line of that name."),
    ],
)
def test_an_error_that_is_declared_is_told_and_leaves_no_trace(
    reason: str, status: int, code: str, detail: str
) -> None:
    """Its own code and text, under the status of its class; what the turn wrote is dropped."""

    async def scenario(service: Service) -> None:
        answer = await call(service, "refuse", {"reason": reason})
        problem = answer.json()
        assert (status, code, detail) == (answer.status, problem["code"], problem["detail"])
        assert (None, "1") == (answer.field(LEVEL), answer.field(TURNS))
        assert (200, 0) == steady(await call(service, "total"))

    with_objects(scenario)


@pytest.mark.parametrize(("method", "body"), [("refuse", {"reason": "any"}), ("lie", None)])
def test_a_fault_of_a_handler_is_told_without_its_text(method: str, body: Any) -> None:
    """What it raised, or returned against its word, is 500; the log has it under the request id."""

    async def scenario(service: Service) -> None:
        answer = await call(service, method, body)
        assert (500, "handler_failed") == (answer.status, answer.json()["code"])
        assert b"hunter2" not in answer.body
        assert answer.field("x-request-id") == answer.json()["request_id"]
        assert "The object's own method failed" in answer.json()["detail"]
        assert (200, 0) == steady(await call(service, "total"))

    with_objects(scenario)


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/cat/anna/total", "There is no kind 'cat' to be called; here are: cart, hits."),
        ("/subject/anna/check", "There is no kind 'subject' to be called; here are: cart, hits."),
        ("/cart/anna/totl", "There is no method 'totl' of the kind 'cart'; it has: empty, lie, put,"),
        ("/cart/anna/hidden", "There is no method 'hidden' of the kind 'cart'; it has: empty, lie, put,"),
        ("/cart/anna", "There is no such path; an object is called by POST /v1/objects/{kind}/{name}/{method}."),
        ("/cart", "There is no such path; an object is called by POST /v1/objects/{kind}/{name}/{method}."),
        ("/cat", "There is no such path; an object is called by POST /v1/objects/{kind}/{name}/{method}."),
        ("/cart/anna//total", "There is no such path"),
        ("/cart/anna/total/", "There is no such path"),
        ("/cart/anna/total/more", "There is no such path"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(path: str, detail: str) -> None:
    """To whoever may call objects; nobody else hears what is hosted."""

    async def scenario(service: Service) -> None:
        missing = await service.ask("POST", "/v1/objects" + path, raw_path=f"/v1/objects{path}".encode())
        assert (404, "not_found") == (missing.status, missing.json()["code"])
        assert missing.json()["detail"].startswith(detail)
        if "such path" not in detail:
            for method in ("GET", "PUT", "OPTIONS"):
                assert 404 == (await service.ask(method, "/v1/objects" + path)).status
            stranger = await service.ask("POST", "/v1/objects" + path, key=None)
            assert (401, False) == (stranger.status, b"cart" in stranger.body)

    with_objects(scenario)


def test_a_node_that_hosts_nothing_says_so() -> None:
    """Whoever has forgotten to name a module is not sent to look for a slash."""

    async def scenario(service: Service) -> None:
        assert call_of_none == (await call(service, "total")).json()["detail"]

    call_of_none = "There is no kind 'cart' to be called; here are: none."
    with_service(scenario)


def test_a_node_that_stops_says_when_to_come_again() -> None:
    """503 and `started: false`: the call may be made again as it was."""

    async def scenario(service: Service) -> None:
        await service.host.drain()
        answer = await call(service, "total")
        assert (503, "unavailable", False) == (answer.status, answer.json()["code"], answer.json()["started"])
        assert "1" == answer.field("retry-after")

    with_objects(scenario)


async def repeat(service: Service, key: str, method: str, body: Any = None, *, kind: str = "cart") -> Answer:
    return await service.ask("POST", f"/v1/objects/{kind}/anna/{method}", body, headers=[("idempotency-key", key)])


def test_a_call_with_a_key_takes_effect_once() -> None:
    """The second gets the first one's answer; the key of a read says nothing."""

    async def scenario(service: Service) -> None:
        line = {"line": {"sku": "tea"}}
        for _ in range(3):
            assert (200, 1) == steady(await repeat(service, "k1", "put", line))
        assert (200, 2) == steady(await repeat(service, "k2", "put", line))
        assert (200, 2) == steady(await repeat(service, "k1", "total"))
        assert [(200, 1)] * 2 == [steady(await repeat(service, "k", "hit", kind="hits")) for _ in range(2)]

    with_objects(scenario)


def test_a_key_that_stands_for_another_call_is_refused() -> None:
    """422, and nothing has run; so it is 400 for a key that cannot be one."""

    async def scenario(service: Service) -> None:
        await repeat(service, "k", "put", {"line": {"sku": "tea"}})
        other = await repeat(service, "k", "put", {"line": {"sku": "milk"}})
        assert (422, "idempotency_key_reused", False) == (other.status, other.json()["code"], other.json()["started"])
        for key in ("", "x" * 256, "\xe4"):
            answer = await repeat(service, key, "put", {"line": {"sku": "milk"}})
            assert (400, "invalid_input", "header.idempotency-key") == (
                answer.status,
                answer.json()["code"],
                answer.json()["where"],
            )
        assert (200, 1) == steady(await call(service, "total"))

    with_objects(scenario)


def test_a_call_can_wait_for_a_change() -> None:
    """A long poll: answered by the write that it waits for, or at its moment."""

    async def scenario(service: Service) -> None:
        far_ms = START_MS + 20_000
        waiting = asyncio.ensure_future(call(service, "wait", {"above": 0, "until_ms": far_ms}))
        await asyncio.sleep(5)
        assert not waiting.done()
        await call(service, "put", {"line": {"sku": "tea"}})
        assert (200, 1) == steady(await waiting)
        assert (200, 1) == steady(await call(service, "wait", {"above": 1, "until_ms": far_ms}))

    with_objects(scenario)


def test_answers_say_what_they_took_and_how_safe_they_are() -> None:
    """Turns and time on all; durability on writes that were committed, and on those alone."""

    async def scenario(service: Service) -> None:
        written = await call(service, "put", {"line": {"sku": "tea"}})
        read = await call(service, "total")
        checkpointed = await service.ask("POST", "/v1/objects/hits/anna/hit")
        told = [(answer.field(LEVEL), answer.field(TURNS)) for answer in (written, read, checkpointed)]
        assert [("1", "1"), (None, "2"), (None, "1")] == told
        assert all(float(answer.field(TIME) or "none") >= 0 for answer in (written, read, checkpointed))

    with_objects(scenario)


@pytest.mark.parametrize(
    "name", ["a", "/", "a//b", "..", ".", "%", "%2F", "a?b#c", " ", "ä", "*", "+", "\x00", "x" * 512]
)
def test_every_name_can_be_called(name: str) -> None:
    """Percent-encoded whole, any text is a name, and the object finds itself under it."""

    async def scenario(service: Service) -> None:
        encoded = "".join(f"%{byte:02X}" for byte in name.encode())
        raw = f"/v1/objects/cart/{encoded}/whose?a=1".encode()
        answer = await service.ask("POST", f"/v1/objects/cart/{name}/whose", query="a=1", raw_path=raw)
        assert (200, ["acme", name]) == steady(answer)

    with_objects(scenario)


@pytest.mark.parametrize(("name", "size"), [("", 0), ("x" * 513, 513), ("%C3%A4" * 300, 600)])
def test_a_name_of_no_possible_length_is_told_with_its_place(name: str, size: int) -> None:
    """In bytes, as the bound is, and as a subject of the limiter is told."""

    async def scenario(service: Service) -> None:
        raw = f"/v1/objects/cart/{name}/total".encode()
        answer = await service.ask("POST", "/v1/objects/cart/any/total", raw_path=raw)
        told = (answer.status, answer.json()["where"], answer.json()["detail"])
        assert (400, "path.name", f"The name has {size} bytes; 1 to 512 are allowed") == told

    with_objects(scenario)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("/v1/objects/cart//total", 400),
        ("/v1/objects/cart/" + "x" * 513 + "/total", 400),
        ("/v1/objects/cart/%/total", 400),
        ("/v1/objects/cart/%2/total", 400),
        ("/v1/objects/cart/%zz/total", 400),
        ("/v1/objects/cart/%FF/total", 400),
        ("/v1/objects/cart/a/b/total", 404),
        ("/v1/objects/cart/anna/total/", 404),
        ("/v1/objects//cart/anna/total", 404),
        ("/v1%2Fobjects/cart/anna/total", 404),
        ("/v1/objects/cart%2Fanna/total", 404),
        ("/v1/objects/cart/anna/hidden", 404),
        ("/v1/objects/cart/anna/on_alarm", 404),
        ("/v1/objects/cart/anna/nothing", 404),
        ("/v1/objects/cart/anna/", 404),
        ("/v1/objects/cart/anna", 404),
        ("/v1/objects/limiter/anna/usage", 404),
        ("/v1/objects/nothing/anna/total", 404),
        ("/v1/objects/", 404),
    ],
)
def test_a_path_that_names_no_method_of_an_object_is_refused(raw: str, status: int) -> None:
    """A name that cannot be one is 400; a kind or method that is not shown is 404, as is a path that had to be tidied."""

    async def scenario(service: Service) -> None:
        from urllib.parse import unquote

        answer = await service.ask("POST", unquote(raw, errors="replace"), query="", raw_path=raw.encode())
        assert status == answer.status, answer
        assert status == answer.json()["status"]

    with_objects(scenario)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_objects_are_called_by_post_alone(method: str) -> None:
    """405, and the answer says so."""

    async def scenario(service: Service) -> None:
        answer = await service.ask(method, "/v1/objects/cart/anna/total")
        assert (405, "OPTIONS, POST") == (answer.status, answer.field("allow"))

    with_objects(scenario)


def test_the_document_has_each_method_with_its_types() -> None:
    """One path a method; schemas of the annotations, closed where input is; problems, scope and fields as they are sent."""

    async def scenario(service: Service) -> None:
        document = (await service.ask("GET", "/openapi.json", app=service.admin)).json()
        paths, schemas = document["paths"], document["components"]["schemas"]
        put = paths["/v1/objects/cart/{name}/put"]["post"]
        body = schemas[put["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        assert {
            f"/v1/objects/{path}"
            for path in (
                *(
                    f"cart/{{name}}/{name}"
                    for name in ("put", "put_later", "total", "whose", "empty", "refuse", "lie", "wait")
                ),
                "hits/{name}/hit",
            )
        } == {path for path in paths if path.startswith("/v1/objects/")}
        assert ("objects.cart.put", "Put a line into the cart.") == (put["operationId"], put["description"])
        assert [{"bearer": ["objects:call"]}] == put["security"]
        assert (True, False) == (put["requestBody"]["required"], body["additionalProperties"])
        assert ["line"] == body["required"]
        assert {"$ref": "#/components/schemas/objects.Line"} == body["properties"]["line"]
        assert False is schemas["objects.Line"]["additionalProperties"]
        assert {"type": "integer"} == put["responses"]["200"]["content"]["application/json"]["schema"]
        assert {
            "200",
            "400",
            "401",
            "403",
            "404",
            "408",
            "409",
            "413",
            "415",
            "422",
            "500",
            "503",
            "504",
            "507",
        } == set(put["responses"])
        assert {LEVEL, TURNS, TIME} == {name.lower() for name in put["responses"]["200"]["headers"]}
        assert ["name", "Idempotency-Key"] == [parameter["name"] for parameter in put["parameters"]]
        total = paths["/v1/objects/cart/{name}/total"]["post"]
        assert False is total["requestBody"]["required"]
        assert ["name"] == [parameter["name"] for parameter in total["parameters"]]
        assert {TURNS, TIME} == {name.lower() for name in total["responses"]["200"]["headers"]}
        page = (await service.ask("GET", "/docs", app=service.admin)).body.decode()
        assert 'href="#objects.Cart.put"' in page

    with_objects(scenario)


def steady(answer: Answer) -> tuple[int, Any]:
    """Status and body."""
    return answer.status, answer.json()
