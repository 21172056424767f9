"""Every route of the limiter: HEAD where there is GET, and one list of methods however it is asked for."""

import msgspec

from tests.support.limiter_app import Answer, Service, with_service

FILLED = {"{name}": "api", "{version}": "1", "{profile}": "edge", "{subject}": "anna"}
GATEWAY = "/check/p/{profile}"
VOLATILE = {b"x-request-id", b"x-object-requests", b"x-response-time-ms"}


async def documented(service: Service) -> dict[str, set[str]]:
    """Methods by path of all routes, as the document has them; policy, profile and usage are there."""
    await service.put_policy("api", ("burst", 10, 60_000))
    await service.put_profile("api")
    await service.put_profile("edge")
    await service.check("anna")
    document = (await service.ask("GET", "/openapi.json", app=service.admin)).json()
    return {path: {method.upper() for method in operations} for path, operations in document["paths"].items()}


def filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    assert "{" not in path
    return path


def stable(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [field for field in answer.headers if field[0] not in VOLATILE]


def test_options_and_a_refused_method_name_the_same_methods() -> None:
    """On every path but the gateways', whose every method is a check: those of its routes, OPTIONS, HEAD beside GET."""

    async def scenario(service: Service) -> None:
        paths = await documented(service)
        assert {"GET"} == paths.pop(GATEWAY)
        assert len(paths) >= 8
        for path, methods in paths.items():
            expected = ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
            options = await service.ask("OPTIONS", filled(path))
            assert (204, expected, b"") == (options.status, options.field("allow"), options.body), path
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"):
                if method not in expected.split(", "):
                    refused = await service.ask(method, filled(path))
                    assert (405, expected) == (refused.status, refused.field("allow")), (method, path)

    with_service(scenario)


def test_head_is_get_without_the_body() -> None:
    """On every path with GET: the same status and fields, the length of the body among them, and no byte of it."""

    async def scenario(service: Service) -> None:
        paths = [filled(path) for path, methods in (await documented(service)).items() if "GET" in methods]
        gateway = filled(GATEWAY)
        paths.remove(gateway)
        for path in [*paths, "/v1/policies/absent", "/v1/nowhere"]:
            got, head = await service.ask("GET", path), await service.ask("HEAD", path)
            assert (got.status, stable(got), b"") == (head.status, stable(head), head.body), path
            assert got.field("content-length") == str(len(got.body))

    with_service(scenario)


def test_head_is_a_check_like_any_other_at_a_gateways_path() -> None:
    """It is charged, and the one that is over the limit is told so without the document."""

    async def scenario(service: Service) -> None:
        await service.put_policy("api", ("burst", 2, 60_000))
        await service.put_profile("edge")
        subject = [("x-tenure-subject", "anna")]
        asked = [await service.ask("HEAD", "/check/p/edge", gateway=True, headers=subject) for _ in range(3)]
        assert [(200, b""), (200, b""), (429, b"")] == [(one.status, one.body) for one in asked]
        denied = await service.ask("GET", "/check/p/edge", gateway=True, headers=subject)
        assert "quota_exceeded" == msgspec.json.decode(denied.body)["code"]
        assert asked[2].field("content-length") == denied.field("content-length")

    with_service(scenario)
