"""A running node goes by what the command line has changed, within the time that the commands say."""

import asyncio

from shared.objects.config import Documents
from shared.runtime.provision import KNOWN_WITHIN_S, list_keys, revoke_key, set_tenant_disabled
from shared.storage.keys import SHARED
from tests.support.limiter_app import Service, with_service

CHECK = {"policy": "api", "subject": "a"}
GATEWAY = [("x-tenure-subject", "a")]


async def started(service: Service) -> Documents:
    """A service that follows the store, and the documents as another process sees them."""
    await service.put_policy("api", ("burst", 100, 60_000))
    await service.put_profile("edge")
    operator = Documents(service.store, SHARED, service.clock)
    await operator.poll()
    return operator


async def statuses(service: Service, key: str) -> list[int]:
    """What the key gets: on the fast lane, on a route, and at a gateway's path."""
    answers = [
        await service.ask("POST", "/v1/check", CHECK, key=key),
        await service.ask("GET", "/v1/policies", key=key),
        await service.ask("GET", "/check/p/edge", key=key, gateway=True, headers=GATEWAY),
    ]
    return [answer.status for answer in answers]


def test_a_revoked_key_stops_working_on_a_running_node() -> None:
    """Within 2 s on every way in, though the node has answered to it; the other key of the tenant goes on."""

    async def scenario(service: Service) -> None:
        operator = await started(service)
        polling = asyncio.create_task(service.node.shared_documents.run())
        assert [200, 200, 200] == await statuses(service, service.key)
        (known,) = list_keys(operator, "acme", clock=service.clock)
        other = await service.add_key("acme", "limits:check", "limits:read")

        await revoke_key(operator, "acme", known.id)
        await asyncio.sleep(KNOWN_WITHIN_S)
        assert [401, 401, 401] == await statuses(service, service.key)
        assert [200, 200, 200] == await statuses(service, other)
        polling.cancel()

    with_service(scenario)


def test_a_disabled_tenant_is_shut_out_of_a_running_node_and_let_in_again() -> None:
    """Within 2 s each; what its subjects have used meanwhile counts as before."""

    async def scenario(service: Service) -> None:
        operator = await started(service)
        polling = asyncio.create_task(service.node.shared_documents.run())
        await service.check("a")

        await set_tenant_disabled(operator, "acme", disabled=True)
        await asyncio.sleep(KNOWN_WITHIN_S)
        assert [401, 401, 401] == await statuses(service, service.key)
        await set_tenant_disabled(operator, "acme", disabled=False)
        await asyncio.sleep(KNOWN_WITHIN_S)
        assert 99 == (await service.check("a", peek=True))["limits"][0]["remaining"]
        polling.cancel()

    with_service(scenario)
