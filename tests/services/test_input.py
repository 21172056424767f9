"""What the limiter says about input that is wrong: the key, the rule in words, and the place, alike on every route."""

import threading
from typing import Any, Literal

import msgspec
import pytest

from shared.errors import InvalidInputError
from shared.http.decoding import is_too_deep, strict_decoder
from tests.support.limiter_app import Service, with_service

LONG = "ä" * 300  # 600 bytes in fewer characters than a name may have bytes.
TOO_LONG = "The subject has 600 bytes; 1 to 512 are allowed"
LIMIT = b'{"name":"burst","limit":1,"window_ms":1000}'
NAME_RULE = "Expected 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("PUT", "/v1/policies/new", b'{"limits":[%b],"limits":[%b]}' % (LIMIT, LIMIT), "$.limits"),
        (
            "PUT",
            "/v1/policies/new",
            b'{"limits":[{"name":"a","limit":9,"window_ms":1,"limit":1}]}',
            "$.limits[0].limit",
        ),
        ("PUT", "/v1/profiles/new", b'{"policy":"api","subject_header":"x-a","policy":"api"}', "$.policy"),
        ("POST", "/v1/policies/api/rollback", b'{"version":2,"version":1}', "$.version"),
    ],
)
def test_a_document_with_a_key_twice_is_refused(method: str, path: str, body: bytes, where: str) -> None:
    """What is kept must be what was meant; the refusal names the key, and nothing is stored."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 1_000))
        revision = service.store.snapshot().documents
        answer = await service.ask(method, path, body)
        key = where.rpartition(".")[2]
        told = (answer.status, answer.json()["code"], answer.json()["detail"], answer.json()["where"])
        assert (400, "invalid_input", f"The key '{key}' stands here twice", where) == told
        assert revision == service.store.snapshot().documents

    with_service(scenario)


def test_of_a_key_that_a_check_has_twice_the_last_value_counts() -> None:
    """On the route (the first check, not in memory yet), on the fast lane and in a batch alike."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        check = b'{"policy":"none","policy":"api","subject":"b","subject":"a"}'
        cold, warm = [await service.ask("POST", "/v1/check", check) for _ in range(2)]
        batch = await service.ask(
            "POST", "/v1/check/batch", b'{"checks":[{"policy":"api","subject":"c"}],"checks":[%b]}' % check
        )
        told = [cold.json(), warm.json(), *batch.json()["results"]]
        assert [("a", 9), ("a", 8), ("a", 7)] == [(one["subject"], one["limits"][0]["remaining"]) for one in told]

    with_service(scenario)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("policies/a", {"limits": [{"name": "a b", "limit": 1, "window_ms": 1}]}, NAME_RULE),
        (
            "policies/a",
            {"limits": [{"name": "a", "limit": 1, "window_ms": 1, "algorithm": "gcra"}]},
            "Expected sliding_window or sliding_log",
        ),
        ("policies/a%20b", {"limits": [{"name": "a", "limit": 1, "window_ms": 1}]}, NAME_RULE),
        ("profiles/a", {"policy": "a\n", "subject_header": "x-a"}, NAME_RULE),
        (
            "profiles/a",
            {"policy": "a", "subject_header": "X-A"},
            "Expected 1 to 64 lower-case letters, digits and '-', beginning with a letter or digit",
        ),
    ],
)
def test_a_rule_is_told_in_words(path: str, body: Any, detail: str) -> None:
    """Whoever reads a refusal need not read a regular expression."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("PUT", f"/v1/{path}", body)
        assert (400, detail) == (answer.status, answer.json()["detail"])

    with_service(scenario)


def test_an_over_long_subject_is_told_alike_with_its_place() -> None:
    """One sentence on every way in; the place is that in the request: body, batch, path or header."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        await service.put_profile("edge")
        check = {"policy": "api", "subject": LONG}
        header = LONG.encode().decode("latin-1")
        path = "/v1/subjects/" + "%C3%A4" * 300
        answers = [
            await service.ask("POST", "/v1/check", check),
            await service.ask("GET", "/check/p/edge", gateway=True, headers=[("x-tenure-subject", header)]),
            await service.ask("GET", "/v1/subjects/any", raw_path=path.encode()),
            await service.ask("DELETE", "/v1/subjects/any", raw_path=path.encode()),
        ]
        assert [
            (400, TOO_LONG, "$.subject"),
            (400, TOO_LONG, "header.x-tenure-subject"),
            (400, TOO_LONG, "path.subject"),
            (400, TOO_LONG, "path.subject"),
        ] == [(one.status, one.json()["detail"], one.json()["where"]) for one in answers]
        batch = await service.ask("POST", "/v1/check/batch", {"checks": [{**check, "subject": "a"}, check]})
        assert f"{TOO_LONG} (at $.checks[1].subject)" == batch.json()["results"][1]["error"]["detail"]

    with_service(scenario)


@pytest.mark.parametrize("path", ["/v1/policies/api", "/v1/profiles/api"])
def test_what_a_put_can_answer_stands_in_the_document(path: str) -> None:
    """Created is 201 and replaced 200, both with the same form and the same fields."""

    async def scenario(service: Service) -> None:
        await service.put_policy("other", ("burst", 1, 1_000))
        body: Any = {"limits": [{"name": "burst", "limit": 1, "window_ms": 1_000}]}
        if "profiles" in path:
            body = {"policy": "other", "subject_header": "x-a"}
        answers = [await service.ask("PUT", path, body) for _ in range(2)]
        assert [201, 200] == [answer.status for answer in answers]
        document = (await service.ask("GET", "/openapi.json", app=service.admin)).json()
        told = document["paths"][path.replace("/api", "/{name}")]["put"]["responses"]
        assert {"200", "201"} == {status for status in told if status.startswith("2")}
        assert told["200"]["content"] == told["201"]["content"]
        assert told["200"]["headers"] == told["201"]["headers"]

    with_service(scenario)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (rb'{"policy":"api","subject":"\ud800"}', "half of a surrogate pair"),
        (rb'{"policy":"api","subject":"\udfff and more of it"}', "surrogate"),
        (b'{"policy":"api","subject":"a', "The body ends before its JSON does"),
        (b"", "required"),
        (b" ", "The body is empty"),
    ],
)
def test_json_that_is_broken_says_how(body: bytes, detail: str) -> None:
    """A half of a surrogate pair is not called a body that was cut short."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("POST", "/v1/check", body)
        assert (400, "$") == (answer.status, answer.json()["where"])
        assert detail in answer.json()["detail"]

    with_service(scenario)


def test_a_body_that_is_too_large_is_told_in_bytes() -> None:
    """What it has and what is allowed, with their unit."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("POST", "/v1/check", b" " * 70_000)
        told = answer.json()
        assert (413, 65_536) == (answer.status, told["size_max"])
        assert "The request body has 70000 bytes; at most 65536 are allowed." == told["detail"]

    with_service(scenario)


def test_a_value_that_is_none_of_a_few_is_told_with_those() -> None:
    """Wherever it stands: in the body itself, in a list of its, or behind a value that may be null."""

    async def scenario(service: Service) -> None:
        answer = await service.ask("PUT", "/v1/profiles/a", {"policy": "a", "subject_header": "x", "deny_status": 200})
        assert ("$.deny_status", "Invalid enum value 200; there are 403, 429") == (
            answer.json()["where"],
            answer.json()["detail"],
        )

    with_service(scenario)
    for type_, body, detail in (
        (list[Literal["a", "b"]], b'["c"]', "Invalid enum value 'c'; there are a, b"),
        (_Choice, b'{"inner":[{"one":3}]}', "Invalid enum value 3; there are 1, 2"),
        (_Choice, b'{"maybe":"c"}', "Invalid enum value 'c'; there are a, b"),
        (dict[str, Literal[1]], b'{"x":2}', "Invalid enum value 2; there are 1"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            strict_decoder(type_)(body)
        assert detail == refused.value.detail


@pytest.mark.parametrize(
    ("opening", "depth", "refused"),
    [(b"[", 128, False), (b"[", 129, True), (b'{"a":', 128, False), (b'{"a":', 129, True), (b"[", 100_000, True)],
)
def test_a_body_of_more_than_128_in_each_other_is_refused(opening: bytes, depth: int, refused: bool) -> None:
    """What is taken can be read again from any depth of the stack; a decoder alone takes what another one cannot."""
    body = opening * depth + b"1" + (b"]" if opening == b"[" else b"}") * depth
    assert refused == is_too_deep(body)
    if refused:
        with pytest.raises(InvalidInputError, match="nested too deeply: at most 128"):
            strict_decoder(Any)(body)
    else:
        strict_decoder(Any)(body)


def test_brackets_beside_each_other_and_in_texts_are_not_counted() -> None:
    """As many as there may be: only what stands in each other is deep."""
    beside, texts = b"[%b[]]" % (b"[]," * 500), b'["%b", "\\"", {"%b": "\\\\"}]' % (b"[" * 500, b"{" * 500)
    assert (False, False) == (is_too_deep(beside), is_too_deep(texts))
    assert 501 == len(strict_decoder(list[Any])(beside))
    assert 3 == len(strict_decoder(list[Any])(texts))


class _Inner(msgspec.Struct):
    one: Literal[1, 2] = 1


class _Choice(msgspec.Struct):
    inner: list[_Inner] = []
    maybe: Literal["a", "b"] | None = None


@pytest.mark.parametrize(
    ("method", "path", "detail", "where"),
    [
        ("DELETE", "/v1/policies/api?dry_run=true", "There are no parameters here", "query.dry_run"),
        ("GET", "/v1/policies?lmit=1", "There are no parameters here", "query.lmit"),
        ("GET", "/v1/policies?", None, None),
        ("DELETE", "/v1/subjects/a?polcy=api", "There is no such parameter; here are policy", "query.polcy"),
        (
            "DELETE",
            "/v1/subjects/a?policy=api&dry_run=",
            "There is no such parameter; here are policy",
            "query.dry_run",
        ),
        ("OPTIONS", "/v1/policies/api?dry_run=true", None, None),
    ],
)
def test_a_parameter_that_a_route_does_not_know_is_refused(
    method: str, path: str, detail: str | None, where: str | None
) -> None:
    """Read over, it would do more than was asked for; nothing has happened."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        await service.check("a")
        answer = await service.ask(method, path)
        if detail is None:
            assert answer.status < 300
        else:
            told = answer.json()
            assert (400, detail, where) == (answer.status, told["detail"], told["where"])
        assert 8 == (await service.check("a"))["limits"][0]["remaining"]

    with_service(scenario)


def test_a_request_needs_no_thread() -> None:
    """Litestar runs what is no coroutine function in one, hooks among them: slower by far, and out of order."""

    async def scenario(service: Service) -> None:
        before = set(threading.enumerate())
        await service.put_policy("api", ("burst", 10, 60_000))
        answers = [await service.ask("GET", f"/v1/policies{more}") for more in ("", "?a=1", "/api", "/none")]
        assert [200, 400, 200, 404] == [answer.status for answer in answers]
        assert before >= set(threading.enumerate())

    with_service(scenario)
