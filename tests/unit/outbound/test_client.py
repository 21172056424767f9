"""Calls to the world outside, over real sockets on loopback."""

import asyncio
import zlib

import pytest
import trustme

from shared.bounds import OUTBOUND_ANSWER_BYTES_MAX, OUTBOUND_TENANT_AT_ONCE
from shared.outbound.client import TenantBusyError
from shared.outbound.errors import BadAnswerError, BadTargetError, NoAnswerError, OutboundError, UnreachableError
from shared.outbound.networks import Networks, read_networks
from shared.outbound.request import Request
from tests.support.log_lines import logged
from tests.support.outside import LOOPBACK, NAME, Names, answer, calling, client_tls, outside, server_tls

TIMEOUT_MS = 5_000


def get(url: str, **fields: object) -> Request:
    return Request(method="GET", url=url, **fields)  # type: ignore[arg-type]  # Of the struct's own fields.


async def test_a_call_brings_back_status_header_and_body() -> None:
    """And sends what it was given, with the engine's own fields."""
    async with outside() as world, calling() as client:
        world.answers = [answer(201, b'{"a": 1}', {"X-Other": "b"})]
        request = Request(
            method="POST",
            url=world.url("/orders?x=1"),
            headers={"X-Mine": "1"},
            engine_headers={"Idempotency-Key": "k"},
            body=b"{}",
        )
        got = await client.send("acme", request, timeout_ms=TIMEOUT_MS)

    assert (got.status, got.body, got.headers["x-other"]) == (201, b'{"a": 1}', "b")
    sent = world.requests[0]
    assert (sent.method, sent.path, sent.body) == ("POST", "/orders?x=1", b"{}")
    assert (sent.headers["x-mine"], sent.headers["idempotency-key"]) == ("1", "k")
    assert sent.headers["accept-encoding"] == "identity"


async def test_o01_a_name_is_judged_anew_each_time_it_is_dialled() -> None:
    """A name that first leads to an open address and then to another does not get there."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with outside() as world, calling(names=names) as client:
        world.answers = [answer(200, headers={"Connection": "close"})]
        first = await client.send("acme", get(world.url(host=NAME)), timeout_ms=TIMEOUT_MS)
        with pytest.raises(UnreachableError):
            await client.send("acme", get(world.url(host=NAME)), timeout_ms=TIMEOUT_MS)

    assert first.status == 200
    assert (names.asked, world.connections) == ([NAME, NAME], 1)


async def test_o01_nothing_touches_a_forbidden_address() -> None:
    """Not even a connection that is closed at once: that would tell which ports are open."""
    async with outside(host="127.0.0.2") as world, calling(names=Names(["127.0.0.2"])) as client:
        for url in (world.url(host=NAME), world.url(host="127.0.0.2")):
            with pytest.raises(UnreachableError):
                await client.send("acme", get(url), timeout_ms=TIMEOUT_MS)

    assert world.connections == 0


async def test_o01_one_forbidden_address_among_several_refuses_the_name() -> None:
    """A mixed answer is an attempt, or a mistake."""
    async with outside() as world, calling(names=Names(["127.0.0.1", "10.0.0.1"])) as client:
        with pytest.raises(UnreachableError):
            await client.send("acme", get(world.url(host=NAME)), timeout_ms=TIMEOUT_MS)

    assert world.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:7f00:1]", "localhost."])
async def test_o03_other_spellings_of_loopback_lead_nowhere(host: str) -> None:
    """Not by the text: the address that is dialled, or the lack of one, decides."""
    async with outside() as world, calling(networks=Networks(), names=Names(["127.0.0.1"])) as client:
        with pytest.raises(UnreachableError):
            await client.send("acme", get(world.url(host=host)), timeout_ms=TIMEOUT_MS)

    assert world.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433"])
async def test_o03_what_is_no_canonical_address_is_refused_where_loopback_is_open_too(host: str) -> None:
    """One spelling of an address is enough."""
    async with outside() as world, calling() as client:
        with pytest.raises(UnreachableError):
            await client.send("acme", get(world.url(host=host)), timeout_ms=TIMEOUT_MS)

    assert world.connections == 0


async def test_o04_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """Whoever wants to go there calls there."""
    async with outside() as world, calling() as client:
        world.answers = [answer(302, headers={"Location": world.url("/other")})]
        got = await client.send("acme", get(world.url("/one")), timeout_ms=TIMEOUT_MS)

    assert (got.status, [request.path for request in world.requests]) == (302, ["/one"])


async def test_o05_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor credentials from anywhere else."""
    async with outside() as proxy, outside() as world, calling() as client:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        await client.send("acme", get(world.url()), timeout_ms=TIMEOUT_MS)

    assert (proxy.connections, world.connections) == (0, 1)


async def test_no_cookie_of_one_call_is_sent_with_the_next() -> None:
    """Or one tenant's session would travel with another's call."""
    async with outside() as world, calling() as client:
        world.answers = [answer(200, headers={"Set-Cookie": "sid=1; Path=/"})]
        for tenant in ("acme", "other"):
            await client.send(tenant, get(world.url()), timeout_ms=TIMEOUT_MS)

    assert ["cookie" in request.headers for request in world.requests] == [False, False]


@pytest.mark.parametrize(
    "raw",
    [
        answer(200, b"x" * (OUTBOUND_ANSWER_BYTES_MAX + 1)),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 20,
        answer(200, zlib.compress(b"0" * 10_000_000), {"Content-Encoding": "deflate"}),
        answer(200, headers={f"x-{number}": "y" for number in range(200)}),
        answer(200, headers={"x-long": "y" * 20_000}),
        b"this is no HTTP\r\n\r\n",
    ],
    ids=["body", "chunks", "bomb", "fields", "field", "nonsense"],
)
async def test_o06_an_answer_that_is_too_large_or_no_answer_is_not_taken(raw: bytes) -> None:
    """Neither a large body, nor one that would become large, nor a large header."""
    async with outside() as world, calling() as client:
        world.answers = [raw]
        with pytest.raises(BadAnswerError):
            await client.send("acme", get(world.url()), timeout_ms=TIMEOUT_MS)


@pytest.mark.parametrize("raw", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"], ids=["silent", "slow"])
async def test_o06_an_answer_has_a_time(raw: bytes | None) -> None:
    """Then nobody knows what became of the call."""
    async with outside() as world, calling() as client:
        world.answers = [raw]
        with pytest.raises(NoAnswerError):
            await client.send("acme", get(world.url()), timeout_ms=100)


async def test_a_connection_that_breaks_leaves_the_outcome_open() -> None:
    """It was sent."""
    async with outside() as world, calling() as client:
        world.answers = [b""]
        with pytest.raises(NoAnswerError):
            await client.send("acme", get(world.url()), timeout_ms=TIMEOUT_MS)


async def test_o06_one_tenant_cannot_take_all_connections() -> None:
    """Beyond its share it is refused at once, and others are served."""
    async with outside() as world, calling() as client:
        world.answers = [None]
        hanging = [
            asyncio.ensure_future(client.send("greedy", get(world.url()), timeout_ms=TIMEOUT_MS))
            for _ in range(OUTBOUND_TENANT_AT_ONCE)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TenantBusyError):
            await client.send("greedy", get(world.url()), timeout_ms=TIMEOUT_MS)
        async with outside() as other:
            got = await client.send("modest", get(other.url()), timeout_ms=TIMEOUT_MS)
        for call in hanging:
            call.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    assert got.status == 200


async def test_o07_public_addresses_are_called_with_tls_only() -> None:
    """A plain address of the internet is not dialled."""
    async with calling(networks=Networks(), names=Names(["93.184.216.34"])) as client:
        for url in ("http://example.com/", "https://example.com:6379/"):
            with pytest.raises(UnreachableError):
                await client.send("acme", get(url), timeout_ms=TIMEOUT_MS)


async def test_o08_a_tenants_header_cannot_take_the_place_of_ours() -> None:
    """It is refused before anything is sent."""
    async with outside() as world, calling() as client:
        with pytest.raises(BadTargetError):
            await client.send("acme", get(world.url(), headers={"Idempotency-Key": "x"}), timeout_ms=TIMEOUT_MS)

    assert world.connections == 0


async def test_o09_a_blocked_address_and_a_closed_port_read_the_same() -> None:
    """A call cannot be used to explore the network it is made from."""
    async with outside() as world:
        closed = world.url()
    told = []
    async with calling() as client:
        for url in (closed, "http://10.0.0.1:80/", "http://169.254.169.254/latest/meta-data"):
            with pytest.raises(OutboundError) as caught:
                await client.send("acme", get(url), timeout_ms=TIMEOUT_MS)
            told.append((type(caught.value), str(caught.value), caught.value.code))

    assert len(set(told)) == 1


async def test_a_blocked_address_is_told_to_the_operator_and_nothing_secret_is() -> None:
    """The log has the address; neither path nor header."""
    with logged() as lines:
        async with calling() as client:
            request = get("http://10.0.0.1/s3cret-path", headers={"Authorization": "s3cret"})
            with pytest.raises(UnreachableError):
                await client.send("acme", request, timeout_ms=TIMEOUT_MS)

    assert '"outbound.blocked"' in lines.getvalue()
    assert '"address":"10.0.0.1"' in lines.getvalue().replace(": ", ":")
    assert "s3cret" not in lines.getvalue()


async def test_a_certificate_of_the_name_and_of_a_trusted_authority_is_taken() -> None:
    """The name in the address is the one that is verified, though the numeric address was dialled."""
    authority = trustme.CA()
    async with outside(tls=server_tls(authority)) as world, calling(tls=client_tls(authority)) as client:
        got = await client.send("acme", get(world.url(scheme="https", host=NAME)), timeout_ms=TIMEOUT_MS)

    assert (got.status, world.requests[0].headers["host"]) == (200, f"{NAME}:{world.port}")


@pytest.mark.parametrize("case", ["other authority", "other name"])
async def test_a_certificate_that_proves_nothing_is_refused(case: str) -> None:
    """Of an authority that is not trusted, or of another name: nothing is sent."""
    authority = trustme.CA()
    name = "other.test" if case == "other name" else NAME
    trusted = trustme.CA() if case == "other authority" else authority
    async with outside(tls=server_tls(authority, name)) as world, calling(tls=client_tls(trusted)) as client:
        with pytest.raises(UnreachableError):
            await client.send("acme", get(world.url(scheme="https", host=NAME)), timeout_ms=TIMEOUT_MS)

    assert world.requests == []


def test_loopback_of_the_tests_is_one_address() -> None:
    """So that the second one is forbidden."""
    assert LOOPBACK.allowed == read_networks("127.0.0.1/32")
