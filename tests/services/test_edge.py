"""The edge of a small service: guard, Litestar application and credentials, through real ASGI."""

import json
from typing import Any

import httpx
import pytest

from shared.http.app import openapi_json
from shared.http.arrival import SECURITY_HEADERS
from shared.http.auth import routes_without_credential, scopes_by_route
from shared.telemetry.sampling import Sampler
from shared.telemetry.traces import current_trace
from tests.support.edge import FAULTS, Edge, with_edge
from tests.support.log_lines import logged

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-00"


def ask(method: str, path: str, **kwargs: Any) -> httpx.Response:
    """One request to an edge of its own."""
    answers: list[httpx.Response] = []

    async def scenario(edge: Edge) -> None:
        answers.append(await edge.ask(method, path, **kwargs))

    with_edge(scenario)
    return answers[0]


def send(body: bytes) -> httpx.Response:
    """One POST of JSON to an edge of its own."""
    return ask("POST", "/v1/orders", content=body, headers={"content-type": "application/json"})


def test_a_right_request_is_answered() -> None:
    """The body is decoded, the credential is at hand, the answer is JSON."""
    answer = send(b'{"name":"tea","cost":2,"items":[{"cost":3}]}')
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert answer.json() == {"tenant": "acme", "name": "tea", "cost": 5}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"name":"tea","cost":"1"}', "$.cost"),
        (b'{"name":"tea","cost":1.0}', "$.cost"),
        (b'{"name":"tea","cost":1.5}', "$.cost"),
        (b'{"name":"tea","cost":true}', "$.cost"),
        (b'{"name":"tea","cost":null}', "$.cost"),
        (b'{"name":5}', "$.name"),
        (b'{"name":"tea","items":[{"cost":1},{"cost":"1"}]}', "$.items[1].cost"),
        (b'{"name":"tea","items":{}}', "$.items"),
        (b'{"cost":1}', "$"),
        (b'["tea"]', "$"),
        (b'"tea"', "$"),
        (b"null", "$"),
    ],
)
def test_types_are_taken_at_their_word(body: bytes, where: str) -> None:
    """H-01: nothing is coerced, and the answer says where it is wrong."""
    answer = send(body)
    assert (400, "invalid_input", where) == (answer.status_code, answer.json()["code"], answer.json()["where"])


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"name":"tea","milk":true}', "$"),
        (b'{"name":"tea","items":[{"cost":1,"milk":1}]}', "$.items[0]"),
        (b'{"name":"tea","tenant":"other"}', "$"),
    ],
)
def test_unknown_fields_are_refused(body: bytes, where: str) -> None:
    """H-02, A-10: also deep inside, and also those that would be convenient for an attacker."""
    answer = send(body)
    assert (400, where) == (answer.status_code, answer.json()["where"])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b'{"name":"tea"} {}',
        b'{"name":"\xff"}',
        b"\xff\xfe",
        b'{"name":"\\ud800"}',
        b"[" * 30_000,
        b'{"name":"tea","anything":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"name":"tea","anything":' + b'{"a":' * 10_400 + b"1" + b"}" * 10_400 + b"}",
        b'{"name":"tea","cost":NaN}',
        b"name=tea",
    ],
    ids=["open", "empty", "two", "utf8", "bom", "surrogate", "deep", "deep-list", "deep-map", "nan", "form"],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """H-04: bad UTF-8 and deep nesting are the caller's mistakes, not the server's."""
    answer = send(body)
    assert (400, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize("cost", [b"-1", b"1001", b"9" * 4_000, b"1e3", b"-" + b"9" * 40])
def test_numbers_are_bounded(cost: bytes) -> None:
    """H-06: the bounds that the type states, and no number too large to compare."""
    assert send(b'{"name":"tea","cost":' + cost + b"}").status_code == 400


def test_parameters_in_the_path_and_query_are_checked() -> None:
    """The place names the parameter."""
    assert ask("GET", "/v1/orders/tea?limit=5").json()["cost"] == 5
    answer = ask("GET", "/v1/orders/tea?limit=many")
    assert (400, "query.limit") == (answer.status_code, answer.json()["where"])
    assert ask("GET", "/v1/orders/tea?limit=5&limit=6").json()["where"] == "query.limit"
    assert ask("GET", "/v1/orders/%ff").status_code == 400
    assert ask("GET", "/v1/orders/a%20%C3%A4%00").json()["name"] == "a ä\x00"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"name":"tea","name":"milk"}', "$.name"),
        (b'{"name":"tea","n\\u0061me":"milk"}', "$.name"),
        (b'{"name":"tea","items":[{"cost":1},{"cost":1,"cost":1}]}', "$.items[1].cost"),
        (b'{"name":"tea","anything":{"a":{"b":1e99,"b":%b}}}' % (b"9" * 4_000), "$.anything.a.b"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_name(body: bytes, where: str) -> None:
    """RFC 8259 4: which of the two was meant is not guessed, however the key is written and however deep it stands."""
    answer = send(body)
    told = answer.json()
    key = where.rpartition(".")[2]
    assert (400, "invalid_input", where) == (answer.status_code, told["code"], told["where"])
    assert f"The key '{key}' stands here twice" == told["detail"]


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 5_000])
def test_depth_is_no_fault_of_the_service(depth: int) -> None:
    """However deep a body is nested, it is taken or refused as input."""
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    answer = send(b'{"name":"tea","anything":%b}' % nested)
    assert answer.status_code == 200 or (400, "$") == (answer.status_code, answer.json()["where"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", "/v1/orders/none", 404, "not_found"),
        ("PATCH", "/v1/orders/tea", 405, "method_not_allowed"),
        ("BREW", "/v1/orders/tea", 405, "method_not_allowed"),
        ("TRACE", "/v1/orders/tea", 405, "method_not_allowed"),
        ("GET", "/v1/faults/value", 500, "internal"),
        ("GET", "/v1/faults/recursion", 500, "internal"),
        ("GET", "/v1/faults/unicode", 500, "internal"),
        ("GET", "/v1/faults/handler", 500, "handler_failed"),
        ("GET", "/v1/faults/overloaded", 503, "overloaded"),
        ("GET", "/v1/faults/unknown", 503, "outcome_unknown"),
        ("GET", "/v1/faults/teapot", 429, "teapot"),
        ("GET", "/schema", 404, "not_found"),
        ("GET", "/schema/openapi.json", 404, "not_found"),
        ("GET", "/openapi.json", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/metrics", 404, "not_found"),
        ("GET", "/health/live", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem(method: str, path: str, status: int, code: str) -> None:
    """H-14, H-16, H-17, L-04, L-05: one form, security headers and a request id on all, no faults told."""
    answer = ask(method, path)
    assert (status, code) == (answer.status_code, answer.json()["code"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    for name, value in SECURITY_HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert "hunter2" not in answer.text
    assert ("allow" in answer.headers) == (status == 405)
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_a_wrong_method_is_told_the_right_ones() -> None:
    """H-14: those that the path has."""
    assert ask("PATCH", "/v1/orders/tea").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"


def test_a_good_answer_carries_the_same_fields() -> None:
    """H-16: also where nothing is wrong."""
    answer = ask("GET", "/v1/orders/tea")
    assert answer.status_code == 200
    for name, value in SECURITY_HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert answer.headers["x-request-id"]


def test_a_refusal_of_the_guard_uses_the_same_forms() -> None:
    """H-03, H-07, H-08: the guard stands in front of the application."""
    assert ask("POST", "/v1/orders", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert ask("POST", "/v1/orders", data={"name": "tea"}).status_code == 415
    assert send(b" " * 65_537).status_code == 413
    encoded = {"content-type": "application/json", "content-encoding": "gzip"}
    assert ask("POST", "/v1/orders", content=b"{}", headers=encoded).status_code == 415


CALLS = [
    ("POST", "/v1/orders", "limits:check"),
    ("GET", "/v1/orders/tea", "limits:read"),
    ("PUT", "/v1/orders/tea", "limits:write"),
    ("DELETE", "/v1/orders/tea", "limits:write"),
    ("GET", "/v1/faults/unknown", "limits:read"),
]
BODY = {"content": b'{"name":"tea"}', "headers": {"content-type": "application/json"}}


def body_for(method: str) -> dict[str, Any]:
    """What a call of that method has to send."""
    return BODY if method in ("POST", "PUT") else {}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer tnk_" + "A" * 43])
@pytest.mark.parametrize(("method", "path", "_scope"), CALLS)
def test_without_a_valid_credential_nothing_is_reached(
    method: str, path: str, _scope: str, authorization: str | None
) -> None:
    """A-01, S-24: whatever is wrong with it, the answer is the same."""
    kwargs = body_for(method)
    headers = {**kwargs.get("headers", {}), **({} if authorization is None else {"authorization": authorization})}
    answer = ask(method, path, key=None, **{**kwargs, "headers": headers})
    assert (401, "unauthenticated") == (answer.status_code, answer.json()["code"])
    assert answer.headers["www-authenticate"] == 'Bearer realm="tenure"'


def test_a_key_in_the_query_or_a_gateway_field_is_not_read() -> None:
    """A-05: an API route takes its credential from Authorization and from nowhere else."""

    async def scenario(edge: Edge) -> None:
        assert (await edge.ask("GET", f"/v1/orders/tea?key={edge.text}", key=None)).status_code == 401
        field = {"x-tenure-key": edge.text}
        assert (await edge.ask("GET", "/v1/orders/tea", key=None, headers=field)).status_code == 401

    with_edge(scenario)


def test_a_gateway_route_reads_its_own_field_only() -> None:
    """Authorization belongs to the gateway's client there."""

    async def scenario(edge: Edge) -> None:
        assert (await edge.ask("GET", "/v1/gateway")).status_code == 401
        field = {"x-tenure-key": edge.text}
        assert (await edge.ask("GET", "/v1/gateway", key="nonsense", headers=field)).status_code == 200

    with_edge(scenario)


@pytest.mark.parametrize("given", ["limits:check", "limits:read", "limits:write"])
@pytest.mark.parametrize(("method", "path", "needed"), CALLS)
def test_only_the_documented_scope_passes(method: str, path: str, needed: str, given: str) -> None:
    """A-02: routes times scopes."""

    async def scenario(edge: Edge) -> None:
        answer = await edge.ask(method, path, **body_for(method))
        assert (answer.status_code == 403) == (given != needed)
        if given != needed:
            assert (answer.json()["code"], answer.json()["scope"]) == ("forbidden", needed)
            assert f'scope="{needed}"' in answer.headers["www-authenticate"]

    with_edge(scenario, given)


def test_routes_without_a_credential_are_enumerated() -> None:
    """A-01: what is open is open on purpose, OPTIONS included, and every other route has a scope."""

    async def scenario(edge: Edge) -> None:
        assert routes_without_credential(edge.litestar) == ["GET /v1/public"]
        scopes = scopes_by_route(edge.litestar)
        assert scopes["POST /v1/orders"] == {"limits:check"}
        assert {route for route, needed in scopes.items() if not needed and not route.startswith("OPTIONS")} == {
            "GET /v1/public"
        }
        assert (await edge.ask("OPTIONS", "/v1/orders", key=None)).status_code == 401
        assert (await edge.ask("GET", "/v1/public", key=None)).status_code == 200

    with_edge(scenario)


def test_a_stale_view_of_the_keys_is_a_503() -> None:
    """N-07: nobody is let in on old knowledge, and nobody is told that a key is wrong."""

    async def scenario(edge: Edge) -> None:
        edge.keys.clock.advance(5_001)
        answer = await edge.ask("GET", "/v1/orders/tea")
        assert (503, "unavailable", "1") == (answer.status_code, answer.json()["code"], answer.headers["retry-after"])

    with_edge(scenario)


def test_requests_are_counted_by_route_template() -> None:
    """Whatever paths clients think of, there is one series a route."""

    async def scenario(edge: Edge) -> None:
        for number in range(3):
            await edge.ask("GET", f"/v1/orders/{number}")
        await edge.ask("GET", "/v1/nowhere/else")
        await edge.ask("BREW", "/v1/orders/tea")
        await edge.ask("GET", "/v1/orders/tea", key=None)
        await edge.ask("POST", "/v1/orders", content=b"{}")
        assert edge.counted == [
            *[("GET", "/v1/orders/{name}", 200, None)] * 3,
            ("GET", "unrouted", 404, None),
            ("_OTHER", "unrouted", 405, None),
            ("GET", "/v1/orders/{name}", 401, None),
            ("POST", "unrouted", 415, None),
        ]

    with_edge(scenario)


def test_a_sampled_request_has_one_span() -> None:
    """It is a child of the caller's span, named by the route, and current inside the handler."""

    async def scenario(edge: Edge) -> None:
        answer = await edge.ask("GET", "/v1/public", headers={"traceparent": SAMPLED})
        assert answer.json() == {"sampled": True}
        failed = await edge.ask("GET", "/v1/faults/value", headers={"traceparent": SAMPLED})
        assert failed.json()["trace_id"] == TRACE_ID
        good, bad = edge.spans
        assert ("GET /v1/public", "server", "") == (good.name, good.kind, good.error)
        assert good.parent is not None
        assert f"{good.parent.trace_id:032x}" == f"{good.context.trace_id:032x}" == TRACE_ID
        assert good.attributes["http.response.status_code"] == 200
        assert ("GET /v1/faults/{which}", "500") == (bad.name, bad.error)
        assert [trace for *_, trace in edge.counted] == [good.context, bad.context]
        assert current_trace.get() is None

    with_edge(scenario, sampler=Sampler(ratio=0.0))


def test_an_unsampled_request_has_no_span_but_keeps_its_trace_id() -> None:
    """So that its errors can still be found from the caller's side."""

    async def scenario(edge: Edge) -> None:
        answer = await edge.ask("GET", "/v1/public", headers={"traceparent": UNSAMPLED})
        assert answer.json() == {"sampled": False}
        missing = await edge.ask("GET", "/v1/nowhere", headers={"traceparent": UNSAMPLED})
        assert missing.json()["trace_id"] == TRACE_ID
        assert edge.spans == []

    with_edge(scenario, sampler=Sampler(ratio=0.0))


def test_a_fault_is_logged_once_with_what_the_caller_saw() -> None:
    """L-04: the log has the reason under the request id; refusals are not logged."""

    async def scenario(edge: Edge) -> None:
        answer = await edge.ask("GET", "/v1/faults/value", headers={"traceparent": UNSAMPLED})
        await edge.ask("GET", "/v1/faults/overloaded")
        await edge.ask("GET", "/v1/nowhere")
        (line,) = [json.loads(line) for line in lines.getvalue().splitlines()]
        assert ("request.failed", answer.json()["request_id"]) == (line["event"], line["request_id"])
        assert (TRACE_ID, "/v1/faults/{which}") == (line["trace_id"], line["route"])
        assert "ValueError" in json.dumps(line)

    with logged() as lines:
        with_edge(scenario)


def test_the_document_says_what_the_edge_does() -> None:
    """H-02: closed schemas, credentials with scopes, problems by status, and nothing about documentation."""

    async def scenario(edge: Edge) -> None:
        document = json.loads(openapi_json(edge.litestar))
        assert document["openapi"].startswith("3.1")
        assert set(document["paths"]) == {
            "/v1/orders",
            "/v1/orders/{name}",
            "/v1/faults/{which}",
            "/v1/public",
            "/v1/gateway",
        }
        schemas = document["components"]["schemas"]
        assert schemas["Order"]["additionalProperties"] is False
        assert schemas["Item"]["additionalProperties"] is False
        assert "additionalProperties" not in schemas["Receipt"]
        assert (0, 1000) == (
            schemas["Item"]["properties"]["cost"]["minimum"],
            schemas["Item"]["properties"]["cost"]["maximum"],
        )
        post_order = document["paths"]["/v1/orders"]["post"]
        assert post_order["security"] == [{"bearer": ["limits:check"]}]
        assert {"200", "400", "401", "403", "408", "413", "415", "429", "500", "503"} == set(post_order["responses"])
        assert "teapot" in post_order["responses"]["429"]["description"]
        assert "404" in document["paths"]["/v1/orders/{name}"]["get"]["responses"]
        assert document["paths"]["/v1/public"]["get"]["security"] == []
        assert document["paths"]["/v1/gateway"]["get"]["security"] == [{"gateway": ["limits:check"]}]
        assert set(document["components"]["securitySchemes"]) == {"bearer", "gateway"}

    with_edge(scenario)


def test_the_document_is_the_same_every_time() -> None:
    """It is committed, so it must not change by itself."""
    documents: list[bytes] = []

    async def scenario(edge: Edge) -> None:
        documents.append(openapi_json(edge.litestar))
        documents.append(openapi_json(edge.litestar))

    with_edge(scenario)
    with_edge(scenario)
    assert len(set(documents)) == 1
    assert documents[0].endswith(b"}\n")


def test_every_problem_fits_the_documented_schema() -> None:
    """L-05: no member that the document does not know."""

    async def scenario(edge: Edge) -> None:
        known = json.loads(openapi_json(edge.litestar))["components"]["schemas"]["Problem"]
        calls = [("GET", f"/v1/faults/{which}") for which in FAULTS]
        calls += [("GET", "/"), ("PATCH", "/v1/orders/a"), ("POST", "/v1/orders"), ("GET", "/v1/orders/a?limit=x")]
        for method, path in calls:
            members = (await edge.ask(method, path, headers={"traceparent": UNSAMPLED})).json().keys()
            assert set(known["required"]) <= members <= set(known["properties"])

    with_edge(scenario)
