"""What answers tell about themselves: how safe a write is, and what it took; never where a gateway would copy it."""

import pytest

from tests.support.limiter_app import Service, with_service

LEVEL, TURNS, TIME = "x-tenure-durability", "x-object-requests", "x-response-time-ms"
POLICY = {"limits": [{"name": "minute", "limit": 5, "window_ms": 60_000}]}
PROFILE = {"policy": "api", "subject_header": "x-sub"}


def test_answers_to_committed_writes_name_their_durability() -> None:
    """Policies, profiles and resets, made, changed and deleted; a write that was refused names none."""

    async def scenario(service: Service) -> None:
        for method, path, body, status in (
            ("PUT", "/v1/policies/api", POLICY, 201),
            ("PUT", "/v1/policies/api", POLICY, 200),
            ("POST", "/v1/policies/api/rollback", {"version": 1}, 200),
            ("PUT", "/v1/profiles/edge", PROFILE, 201),
            ("DELETE", "/v1/subjects/user", None, 204),
            ("DELETE", "/v1/profiles/edge", None, 204),
            ("DELETE", "/v1/policies/api", None, 204),
        ):
            answer = await service.ask(method, path, body)
            assert (status, "1") == (answer.status, answer.field(LEVEL)), path
        for method, path in (("DELETE", "/v1/policies/api"), ("PUT", "/v1/policies/-"), ("GET", "/v1/policies")):
            assert None is (await service.ask(method, path, POLICY if method == "PUT" else None)).field(LEVEL)

    with_service(scenario)


def test_the_level_is_that_of_the_store() -> None:
    """A store that does not write out before it answers gives level 0, and the answer says so."""

    async def scenario(service: Service) -> None:
        service.node.durability = 0
        await service.start()
        assert "0" == (await service.put_policy("api", ("minute", 5, 60_000))).field(LEVEL)

    with_service(scenario, start=False)


def test_answers_of_an_object_count_its_turns_and_their_time() -> None:
    """Every check of the subject counts, fast or not; another subject has its own count."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("minute", 50, 60_000))
        for _ in range(3):
            await service.check("user")
        shown = await service.ask("GET", "/v1/subjects/user")
        assert "4" == shown.field(TURNS)
        assert 0 <= float(shown.field(TIME) or "none") < 10_000
        assert "5" == (await service.ask("DELETE", "/v1/subjects/user")).field(TURNS)
        assert "1" == (await service.ask("GET", "/v1/subjects/other")).field(TURNS)

    with_service(scenario)


@pytest.mark.parametrize("peek", [True, False])
def test_checks_and_gateways_are_told_nothing_of_it(peek: bool) -> None:
    """Neither the fast lane nor the routes behind it, whether they allow, deny or refuse."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("minute", 2, 60_000))
        await service.put_profile("edge")
        for subject in ("user", "user", "user", ""):
            check = await service.ask("POST", "/v1/check", {"policy": "api", "subject": subject, "peek": peek})
            batch = await service.ask("POST", "/v1/check/batch", {"checks": [{"policy": "api", "subject": "user"}]})
            headers = [("x-tenure-subject", subject)]
            gateway = await service.ask("GET", "/check/p/edge", headers=headers, gateway=True)
            refused = await service.ask("GET", "/v1/subjects/user", key=None)
            for answer in (check, batch, gateway, refused):
                assert (None, None, None) == (answer.field(LEVEL), answer.field(TURNS), answer.field(TIME))

    with_service(scenario)


def test_the_document_describes_the_fields() -> None:
    """On the successes of the routes that have them, and nowhere else."""

    async def scenario(service: Service) -> None:
        paths = (await service.ask("GET", "/openapi.json", app=service.admin)).json()["paths"]
        told = {
            (method, path): set(response.get("headers", ())) & {"X-Tenure-Durability", "X-Object-Requests"}
            for path, operations in paths.items()
            for method, operation in operations.items()
            for status, response in operation["responses"].items()
            if status.startswith("2")
        }
        assert {"X-Tenure-Durability", "X-Object-Requests"} == told["delete", "/v1/subjects/{subject}"]
        assert {"X-Object-Requests"} == told["get", "/v1/subjects/{subject}"]
        assert {"X-Tenure-Durability"} == told["put", "/v1/policies/{name}"]
        assert set() == told["post", "/v1/check"] | told["get", "/check/p/{profile}"] | told["get", "/v1/policies"]

    with_service(scenario)
