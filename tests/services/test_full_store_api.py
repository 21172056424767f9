"""The limiter's API on a store that has no memory left: what grows is refused plainly, the rest goes on."""

import asyncio

import pytest

from tests.support.limiter_app import Service, with_service


def test_a_full_store_takes_no_policy_but_lets_one_go() -> None:
    """507 with nothing changed; deleting works; with room the same write is taken."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("minute", 5, 60_000))
        service.store.full = True
        refused = await service.put_policy("other", ("minute", 5, 60_000))
        assert (507, "insufficient_storage") == (refused.status, refused.json()["code"])
        assert 404 == (await service.ask("GET", "/v1/policies/other")).status
        assert 204 == (await service.ask("DELETE", "/v1/policies/api")).status
        service.store.full = False
        assert 201 == (await service.put_policy("other", ("minute", 5, 60_000))).status

    with_service(scenario)


@pytest.mark.parametrize(("on_error", "status"), [("closed", 503), ("open", 200)])
def test_checks_on_a_full_store_go_on_for_a_second_and_then_by_policy(on_error: str, status: int) -> None:
    """As with a store that is away; a subject can still be reset, and with room checks are counted again."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("minute", 50, 60_000), on_error=on_error)
        await service.check("user")
        await asyncio.sleep(1)
        service.store.full = True
        assert 48 == (await service.check("user"))["limits"][0]["remaining"]
        await asyncio.sleep(3)
        late = await service.ask("POST", "/v1/check", {"policy": "api", "subject": "user"})
        assert (status, True if on_error == "open" else None) == (late.status, late.json().get("degraded"))
        assert 204 == (await service.ask("DELETE", "/v1/subjects/user")).status
        service.store.full = False
        await service.node.shared_documents.poll()  # Five seconds are over.
        await service.node.documents.poll()
        await asyncio.sleep(1)
        assert 49 == (await service.check("user"))["limits"][0]["remaining"]

    with_service(scenario)
