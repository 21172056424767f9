"""The limiter's API through guard, fast lane and routes, over the object core in virtual time."""

import asyncio

import msgspec
import pytest

from services.ratelimiter.gate import REMEMBERED_MS
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.schemas import BatchRequest
from tests.support.limiter_app import Service, with_service
from tests.support.simulated import Core, core

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
VOLATILE = {b"x-request-id", b"date"}


async def away(service: Service) -> None:
    """The node cannot run objects any more."""
    await service.host.drain()


def stored_objects(service: Service) -> list[bytes]:
    """The encoded addresses of everything that is stored."""
    return [object_id for shard in service.store.snapshot().shards.values() for object_id in shard.natives]


async def eventually_owned(heir: Core) -> None:
    """Wait until the heir has every shard."""
    while heir.ownership.open_shards < 4:  # noqa: ASYNC110  # In virtual time nobody waits.
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_input"),
        (b"{", 400, "invalid_input"),
        (b"\xff", 400, "invalid_input"),
        (b'{"policy":"api","subject":"\xff"}', 400, "invalid_input"),
        (b"[" * 50_000, 400, "invalid_input"),
        (b'{"policy":"api","subject":"a","cost":"1"}', 400, "invalid_input"),
        (b'{"policy":"api","subject":"a","cost":1.0}', 400, "invalid_input"),
        (b'{"policy":"api","subject":"a","cost":-1}', 400, "invalid_input"),
        (b'{"policy":"api","subject":"a","peek":1}', 400, "invalid_input"),
        (b'{"policy":"api","subject":"a","tenant":"b"}', 400, "invalid_input"),
        (b'{"policy":"api","subject":""}', 400, "invalid_input"),
        (b'{"policy":"api"}', 400, "invalid_input"),
        ('{"policy":"api","subject":"%s"}' % ("ä" * 300), 400, "invalid_input"),
        (b'{"policy":"none","subject":"a"}', 404, "unknown_policy"),
        (b'{"policy":"api","subject":"a","cost":11}', 422, "cost_too_large"),
        (b'{"policy":"api","subject":"%b"}' % (b"a" * 70_000), 413, "too_large"),
    ],
)
def test_a_bad_check_is_refused_and_changes_nothing(body: bytes | str, status: int, code: str) -> None:
    """The right status and a problem document each; nothing is charged."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        answer = await service.ask("POST", "/v1/check", body.encode() if isinstance(body, str) else body)
        assert (status, code, status) == (answer.status, answer.json()["code"], answer.json()["status"])
        assert "application/problem+json" == answer.field("content-type")
        assert 10 == (await service.check("a", peek=True))["limits"][0]["remaining"]

    with_service(scenario)


def test_checks_need_a_valid_key_with_the_scope() -> None:
    """None, nonsense, a foreign tenant's and one without the scope are four refusals, on both ways in."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 10, 60_000))
        await service.put_profile("edge")
        foreign = await service.add_key("other", "limits:check")
        reader = await service.add_key("acme", "limits:read", "limits:write")
        check, subject = {"policy": "api", "subject": "a"}, [("x-tenure-subject", "a")]
        for key, status in ((None, 401), ("tnk_" + "x" * 43, 401), (foreign, 404), (reader, 403)):
            answers = [
                await service.ask("POST", "/v1/check", check, key=key),
                await service.ask("GET", "/check/p/edge", key=key, gateway=True, headers=subject),
            ]
            assert [status, status] == [answer.status for answer in answers], key
        assert 401 == (await service.ask("GET", "/check/p/edge", headers=subject)).status  # Authorization is not read.
        assert 10 == (await service.check("a", peek=True))["limits"][0]["remaining"]

    with_service(scenario)


# Checks.


def test_decisions_are_counted_and_timed() -> None:
    """Allowed, denied and peeked apart, for each policy."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000))
        for _ in range(5):
            await service.check("a")
        await service.check("a", peek=True)
        counters = service.host.metrics.bind_check("api")
        assert (2, 3, 1, 0, 0) == counters.decisions()
        metrics = (await service.ask("GET", "/metrics", app=service.admin)).body
        assert b'tenure_ratelimit_decisions_total{decision="deny",policy="api"} 3' in metrics.replace(
            b'{policy="api",decision="deny"}', b'{decision="deny",policy="api"}'
        )

    with_service(scenario)


def test_a_batch_is_answered_in_order() -> None:
    """Decisions and errors each in their place; repeated subjects are charged for each."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000))
        checks = [{"policy": "api", "subject": "a"} for _ in range(3)]
        checks += [{"policy": "none", "subject": "a"}, {"policy": "api", "subject": "b"}]
        checks += [{"policy": "api", "subject": "a", "cost": 3}, {"policy": "api", "subject": "ä" * 300}]  # type: ignore[dict-item]  # A table of unlike cases.
        answer = await service.ask("POST", "/v1/check/batch", {"checks": checks})
        told = [
            result["error"]["code"] if "error" in result else result["allowed"] for result in answer.json()["results"]
        ]
        assert [True, True, False, "unknown_policy", True, "cost_too_large", "invalid_input"] == told

    with_service(scenario)


@pytest.mark.parametrize(("count", "status"), [(0, 400), (1_000, 200), (1_001, 400)])
def test_a_batch_has_at_most_a_thousand_checks(count: int, status: int) -> None:
    """A thousand distinct subjects, none of them in memory, are decided; one more is refused."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000))
        checks = [{"policy": "api", "subject": f"user-{number}"} for number in range(count)]
        answer = await service.ask("POST", "/v1/check/batch", {"checks": checks})
        assert status == answer.status
        if status == 200:
            assert [True] * count == [result["allowed"] for result in answer.json()["results"]]

    with_service(scenario)
    assert 1_000 == msgspec.json.schema(BatchRequest)["$defs"]["BatchRequest"]["properties"]["checks"]["maxItems"]


@pytest.mark.parametrize(("on_error", "status"), [("open", 200), ("closed", 503)])
def test_while_nobody_can_decide_the_policy_does(on_error: str, status: int) -> None:
    """Open: allowed, marked, without numbers, counted. Closed: 503 with Retry-After. Gateways likewise."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000), on_error=on_error)
        await service.put_profile("edge")
        await away(service)
        check = await service.ask("POST", "/v1/check", {"policy": "api", "subject": "a"})
        gate = await service.ask("GET", "/check/p/edge", gateway=True, headers=[("x-tenure-subject", "a")])
        batch = await service.ask("POST", "/v1/check/batch", {"checks": [{"policy": "api", "subject": "a"}]})
        assert [status, status, 200] == [check.status, gate.status, batch.status]
        (result,) = batch.json()["results"]
        counters = service.host.metrics.bind_check("api")
        if on_error == "open":
            expected = {
                "allowed": True,
                "policy": "api",
                "version": 1,
                "subject": "a",
                "limits": [],
                "retry_after_ms": 0,
            }
            assert expected | {"degraded": True} == check.json() == result
            assert b"" == gate.body
            assert (3, 0) == (counters.fail_open, counters.fail_closed)
        else:
            assert ("unavailable", "1") == (check.json()["code"], gate.field("retry-after"))
            assert "unavailable" == result["error"]["code"]
            assert (0, 3) == (counters.fail_open, counters.fail_closed)
        for answer in (check, gate):
            assert answer.field("ratelimit") is None

    with_service(scenario)


# Gateways.


def test_nothing_but_the_gateways_own_fields_counts() -> None:
    """Method, sub-path, query, body and the client's other fields change nothing about the decision."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 4, 60_000))
        await service.put_profile("edge")
        noise = [
            ("POST", "/check/p/edge/v1/check?policy=none&cost=0&subject=x", [("authorization", "Bearer nonsense")]),
            ("PROPFIND", "/check/p/edge//..//%zz?a=1&a=2", [("x-request-id", "r1"), ("x-tenure-cost", "0")]),
            ("OPTIONS", "/check/p/edge/", [("x-forwarded-for", "1.2.3.4"), ("expect", "100-continue")]),
            ("DELETE", "/check/p/edge", [("cookie", "a=b"), ("content-encoding", "gzip")]),
        ]
        left = []
        for method, path, headers in noise:
            sent = [("x-tenure-subject", "zoe"), *headers]
            answer = await service.ask(method, path, b"not json", gateway=True, headers=sent)
            assert 200 == answer.status, answer
            left.append(answer.field("ratelimit"))
        assert [f'"burst";r={n}' for n in (3, 2, 1, 0)] == [(value or "").split(";t=")[0] for value in left]

    with_service(scenario)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/check/p/edge", [], 400, "invalid_input"),
        ("/check/p/edge", [("x-tenure-subject", "")], 400, "invalid_input"),
        ("/check/p/edge", [("x-tenure-subject", "a"), ("x-tenure-subject", "b")], 400, "invalid_input"),
        ("/check/p/edge", [("x-tenure-subject", "\xff\xfe")], 400, "invalid_input"),
        ("/check/p/edge", [("x-tenure-subject", "a" * 513)], 400, "invalid_input"),
        ("/check/p/none", [("x-tenure-subject", "a")], 404, "unknown_profile"),
        ("/check/p/ids", [("x-tenure-subject", "a")], 400, "invalid_input"),
        ("/check/p/ids", [("x-tenure-subject", "a"), ("x-tenure-check-id", "i" * 129)], 400, "invalid_input"),
    ],
)
def test_a_gateway_that_is_set_up_wrongly_is_told(
    path: str, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    """A missing, repeated or impossible subject or id is a problem document, never a yes."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 4, 60_000))
        await service.put_profile("edge")
        await service.put_profile("ids", check_id=True)
        answer = await service.ask("GET", path, gateway=True, headers=headers)
        assert (status, code) == (answer.status, answer.json()["code"])

    with_service(scenario)


@pytest.mark.parametrize(
    ("gateway", "path", "field", "challenge"),
    [
        (True, "/check/p/edge", "X-Tenure-Key", 'ApiKey realm="tenure", header="X-Tenure-Key"'),
        (False, "/v1/policies", "Authorization: Bearer", 'Bearer realm="tenure"'),
    ],
)
def test_a_refused_credential_is_told_where_it_belongs(gateway: bool, path: str, field: str, challenge: str) -> None:
    """Each route names the field that it reads, in its challenge and in words; 403 has a challenge for bearers only."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 4, 60_000))
        await service.put_profile("edge")
        for key in (None, "nonsense"):
            answer = await service.ask("GET", path, gateway=gateway, key=key)
            assert (401, challenge) == (answer.status, answer.field("www-authenticate"))
            assert f"A valid credential is required: an API key, in {field}." == answer.json()["detail"]
        lacking = await service.ask("GET", path, gateway=gateway, key=await service.add_key("acme", "objects:call"))
        scheme = (lacking.field("www-authenticate") or "none").split()[0]
        assert (403, "none" if gateway else "Bearer") == (lacking.status, scheme)

    with_service(scenario)


def test_every_answer_to_a_gateway_has_its_request_id() -> None:
    """Allowed, denied or refused, from the fast lane, the route or the guard; no two have the same."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 60_000))
        await service.put_profile("edge")
        subject = [("x-tenure-subject", "a")]
        answers = [await service.ask("GET", "/check/p/edge", gateway=True, headers=subject) for _ in range(3)]
        answers.append(await service.ask("GET", "/check/p/edge", gateway=True))
        answers.append(await service.ask("GET", "/check/p/edge", gateway=True, headers=[("host", "two")]))
        assert [200, 429, 429, 400, 400] == [answer.status for answer in answers]
        assert 5 == len({answer.field("x-request-id") for answer in answers} - {None})

    with_service(scenario)


def test_a_check_that_a_gateway_repeats_is_charged_once() -> None:
    """Four repeats within five seconds cost nothing, the fifth does; other subjects, ids and profiles are apart."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 100, 600_000))
        await service.put_profile("edge", check_id=True)
        await service.put_profile("twin", check_id=True)
        await service.put_profile("plain")

        async def left(profile: str = "edge", subject: str = "a", check_id: str = "one") -> int:
            headers = [("x-tenure-subject", subject), ("x-tenure-check-id", check_id)]
            answer = await service.ask("GET", f"/check/p/{profile}", gateway=True, headers=headers)
            return int((answer.field("ratelimit") or "").split("r=")[1].split(";")[0])

        assert [99, 99, 99, 99, 99, 98, 98] == [await left() for _ in range(7)]
        assert 97 == await left(check_id="two")
        assert 96 == await left("twin")
        assert 99 == await left(subject="b")
        assert [95, 94] == [await left("plain") for _ in range(2)]
        assert 94 + 3 == await left(check_id="two")
        await asyncio.sleep(REMEMBERED_MS / 1000)
        assert 93 == await left(check_id="two")

    with_service(scenario)


def test_a_repeated_check_under_a_changed_policy_is_decided_anew() -> None:
    """What was remembered of other limits is not told as if it were of these."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 100, 600_000))
        await service.put_profile("edge", check_id=True)
        headers = [("x-tenure-subject", "a"), ("x-tenure-check-id", "one")]
        for limits, expected in (
            ([("burst", 100, 600_000)], "99"),
            ([("burst", 50, 600_000), ("day", 9, 86_400_000)], "8"),
        ):
            await service.put_policy("api", *limits)
            answer = await service.ask("GET", "/check/p/edge", gateway=True, headers=headers)
            assert (200, expected) == (answer.status, (answer.field("ratelimit") or "").split("r=")[1].split(";")[0])

    with_service(scenario)


# Policies, profiles, subjects.


def test_a_policy_lives_through_its_versions() -> None:
    """Created, read, changed under conditions, read as it was, rolled back, deleted."""

    async def scenario(service: Service) -> None:
        created = await service.put_policy("api", ("burst", 1, 1_000))
        assert (201, '"v1"') == (created.status, created.field("etag"))
        changed = await service.put_policy("api", ("burst", 2, 1_000), on_error="closed")
        assert (200, '"v2"', 2) == (changed.status, changed.field("etag"), changed.json()["version"])
        body = {"limits": [{"name": "burst", "limit": 3, "window_ms": 1_000}]}
        for header, status in ((("if-match", '"v1"'), 412), (("if-none-match", "*"), 412), (("if-match", '"v2"'), 200)):
            assert status == (await service.ask("PUT", "/v1/policies/api", body, headers=[header])).status, header
        shown = (await service.ask("GET", "/v1/policies/api")).json()
        assert (3, "open") == (shown["version"], shown["on_error"])
        past = (await service.ask("GET", "/v1/policies/api/versions/2")).json()
        assert (2, 2, "closed") == (past["version"], past["limits"][0]["limit"], past["on_error"])
        assert 404 == (await service.ask("GET", "/v1/policies/api/versions/9")).status
        listed = (await service.ask("GET", "/v1/policies")).json()["policies"]
        assert [("api", 3, [3, 2, 1])] == [(one["name"], one["version"], one["versions"]) for one in listed]
        back = await service.ask("POST", "/v1/policies/api/rollback", {"version": 2}, headers=[("if-match", '"v3"')])
        assert (200, 4, 2, "closed") == (
            back.status,
            back.json()["version"],
            back.json()["limits"][0]["limit"],
            back.json()["on_error"],
        )
        assert 4 == (await service.check("a"))["version"]
        assert 404 == (await service.ask("POST", "/v1/policies/api/rollback", {"version": 77})).status
        assert 412 == (await service.ask("DELETE", "/v1/policies/api", headers=[("if-match", '"v1"')])).status
        assert 204 == (await service.ask("DELETE", "/v1/policies/api")).status
        assert 404 == (await service.ask("GET", "/v1/policies/api")).status
        assert 404 == (await service.ask("POST", "/v1/check", {"policy": "api", "subject": "a"})).status
        assert 201 == (await service.put_policy("api", ("burst", 1, 1_000))).status

    with_service(scenario)


def test_names_that_cannot_be_are_refused() -> None:
    """A name with other characters never reaches the store."""

    async def scenario(service: Service) -> None:
        for name in ("a b", "a%", "-a", "a" * 65, "a\x00b", "a\n", "é"):
            answer = await service.put_policy(name, ("burst", 1, 1_000))
            assert (400, "invalid_input") == (answer.status, answer.json()["code"]), name
            assert 404 == (await service.ask("DELETE", f"/v1/policies/{name}")).status

    with_service(scenario)


def test_a_writer_of_another_node_is_not_overwritten_blindly() -> None:
    """A write from a view that has fallen behind keeps the other's version in the history."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 1_000))
        stored = service.node.documents.get("policy", "acme", "api")
        other = msgspec.json.encode({"policy": {"limits": [{"name": "burst", "limit": 7, "window_ms": 1_000}]}})
        written, version = await service.store.document_put(
            "rl", b"policy\x00acme\x00api", other, expected=stored.version
        )
        assert (True, 2) == (written, version)
        answer = await service.put_policy("api", ("burst", 3, 1_000))
        assert (200, 3) == (answer.status, answer.json()["version"])
        assert 7 == (await service.ask("GET", "/v1/policies/api/versions/2")).json()["limits"][0]["limit"]

    with_service(scenario)


def test_a_profile_needs_its_policy() -> None:
    """It cannot be made before it, and keeps it from being deleted."""

    async def scenario(service: Service) -> None:
        assert 409 == (await service.put_profile("edge")).status
        await service.put_policy("api", ("burst", 1, 1_000))
        created = await service.put_profile("edge", deny_status=403, check_id=True)
        assert (201, '"v1"') == (created.status, created.field("etag"))
        shown = (await service.ask("GET", "/v1/profiles/edge")).json()
        assert {
            "name": "edge",
            "version": 1,
            "policy": "api",
            "subject_header": "x-tenure-subject",
            "deny_status": 403,
            "check_id": True,
        } == {key: shown[key] for key in shown if key != "changed_ms"}
        assert ["edge"] == [one["name"] for one in (await service.ask("GET", "/v1/profiles")).json()["profiles"]]
        refused = await service.ask("DELETE", "/v1/policies/api")
        assert (409, "policy_in_use") == (refused.status, refused.json()["code"])
        assert 204 == (await service.ask("DELETE", "/v1/profiles/edge")).status
        assert 404 == (await service.ask("DELETE", "/v1/profiles/edge")).status
        assert 204 == (await service.ask("DELETE", "/v1/policies/api")).status

    with_service(scenario)


def test_reading_and_writing_need_their_scopes() -> None:
    """A key that may check can neither read nor write what a tenant has decided."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 1_000))
        checker = await service.add_key("acme", "limits:check")
        reader = await service.add_key("acme", "limits:read")
        for method, path, body in (
            ("GET", "/v1/policies", None),
            ("GET", "/v1/subjects/a", None),
            ("GET", "/v1/profiles/none", None),
            ("PUT", "/v1/policies/x", {"limits": [{"name": "a", "limit": 1, "window_ms": 1}]}),
            ("DELETE", "/v1/policies/api", None),
            ("DELETE", "/v1/subjects/a", None),
            ("POST", "/v1/policies/api/rollback", {"version": 1}),
        ):
            assert 403 == (await service.ask(method, path, body, key=checker)).status, path
            if method != "GET":
                assert 403 == (await service.ask(method, path, body, key=reader)).status, path

    with_service(scenario)


@pytest.mark.parametrize(
    "subject",
    ["a", "user/1", "a//b/", "/", "///", "ä ö", "100%", "100%25", "%2F", "a?b", ".", "..", "/../", "a\x00b"],
)
def test_a_subject_is_shown_and_reset_by_its_exact_name(subject: str) -> None:
    """Whatever characters a subject has, its usage is found, under one policy or all, and so is a reset."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 3, 60_000))
        await service.put_policy("other", ("burst", 3, 60_000))
        await service.check(subject)
        await service.check(subject, "other")
        path = "/v1/subjects/" + subject
        shown = (await service.ask("GET", path, query="")).json()
        assert (subject, [2, 2]) == (shown["subject"], [one["limits"][0]["remaining"] for one in shown["policies"]])
        assert 204 == (await service.ask("DELETE", path, query="policy=other")).status
        left = (await service.ask("GET", path, query="")).json()["policies"]
        assert ["api"] == [one["policy"] for one in left]
        assert 204 == (await service.ask("DELETE", path, query="")).status
        assert [] == (await service.ask("GET", path, query="")).json()["policies"]
        assert [] == stored_objects(service)

    with_service(scenario)


def test_a_misspelt_parameter_forgets_nothing() -> None:
    """Without the refusal it would reset every policy instead of one."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 60_000))
        await service.check("a")
        answer = await service.ask("DELETE", "/v1/subjects/a", query="polcy=other")
        assert (400, "query.polcy") == (answer.status, answer.json()["where"])
        assert not (await service.check("a"))["allowed"]

    with_service(scenario)


def test_a_subject_nobody_checked_has_no_usage() -> None:
    """It is shown as empty, and looking leaves nothing behind."""

    async def scenario(service: Service) -> None:
        assert {"subject": "nobody", "policies": []} == (await service.ask("GET", "/v1/subjects/nobody")).json()
        assert 204 == (await service.ask("DELETE", "/v1/subjects/nobody")).status
        await service.host.drain()
        assert [] == stored_objects(service)

    with_service(scenario)


def test_tenants_do_not_see_each_other() -> None:
    """The same names in two tenants are two policies and two subjects."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 1, 60_000))
        await service.check("a")
        acme, service.key = service.key, await service.add_key("other", "limits:check", "limits:read", "limits:write")
        assert [] == (await service.ask("GET", "/v1/policies")).json()["policies"]
        assert [] == (await service.ask("GET", "/v1/subjects/a")).json()["policies"]
        await service.put_policy("api", ("burst", 5, 60_000))
        assert 4 == (await service.check("a"))["limits"][0]["remaining"]
        service.key = acme
        assert not (await service.check("a"))["allowed"]

    with_service(scenario)


def test_usage_outlives_the_owner_within_its_bound() -> None:
    """A killed owner's successor knows what was checkpointed, and nothing that came after it."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 3, 60_000))
        for _ in range(2):
            await service.check("a")
        await asyncio.sleep(0.5)
        assert 1 == len(stored_objects(service))
        await service.check("a")
        await service.core.kill()
        async with core(service.store, node="b", kinds=[Limiter]) as heir:
            await eventually_owned(heir)
            again = Service(heir, service.store)
            await again.start()
            assert 1 == (await again.check("a", peek=True))["limits"][0]["remaining"]
            await heir.host.drain()

    with_service(scenario)


def test_the_api_document_is_complete() -> None:
    """Every route with its struct, its credential and its problems; request structs are closed."""

    async def scenario(service: Service) -> None:
        document = (await service.ask("GET", "/openapi.json", app=service.admin)).json()
        assert "3.1.0" == document["openapi"]
        assert {
            "/v1/check",
            "/v1/check/batch",
            "/check/p/{profile}",
            "/v1/policies",
            "/v1/policies/{name}",
            "/v1/policies/{name}/versions/{version}",
            "/v1/policies/{name}/rollback",
            "/v1/profiles",
            "/v1/profiles/{name}",
            "/v1/subjects/{subject}",
        } == set(document["paths"])
        check = document["paths"]["/v1/check"]["post"]
        assert check["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/CheckResult")
        assert {"200", "400", "401", "403", "404", "413", "415", "422", "503"} <= set(check["responses"])
        schemas = document["components"]["schemas"]
        for name in ("CheckRequest", "BatchRequest", "Policy", "Limit", "Profile", "Rollback"):
            assert schemas[name]["additionalProperties"] is False, name
        assert "sliding_window|sliding_log" in schemas["Limit"]["properties"]["algorithm"]["pattern"]
        gateway = document["paths"]["/check/p/{profile}"]["get"]["responses"]
        assert {"200", "400", "401", "403", "404", "409", "429", "503"} <= set(gateway)
        subject = document["paths"]["/v1/subjects/{subject}"]["get"]["parameters"]
        assert [("subject", "path", True)] == [(one["name"], one["in"], one["required"]) for one in subject]

    with_service(scenario)
