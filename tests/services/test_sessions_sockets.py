"""Objects of one's own take sockets on the session service as they do on the others."""

from tests.services.test_sockets_api import HALL, TICKETS
from tests.simulation.test_sockets import Hall
from tests.support.far_end import knock
from tests.support.sessions_app import Sessions, with_sessions


def test_the_session_service_opens_sockets_of_objects_that_it_hosts() -> None:
    """With a key, with a ticket, and with neither not at all."""

    async def scenario(service: Sessions) -> None:
        ticket = (await service.ask("POST", TICKETS, {})).json()["ticket"]
        told = [
            (await knock(service.app, HALL, **shown)).status for shown in ({"key": service.key}, {"ticket": ticket}, {})
        ]
        assert [0, 0, 401] == told
        assert 2 == service.node.ingress.open_sockets

    with_sessions(scenario, objects=[Hall])
