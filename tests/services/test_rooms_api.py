"""Rooms through their routes: tickets, sockets and documents, who may have them, and every refusal."""

import asyncio
from typing import Any

import pytest

from services.sessions import room
from shared import bounds
from tests.services.test_sessions_sockets import ENDINGS, within_a_second
from tests.support.far_end import FarEnd, knock
from tests.support.limiter_app import Answer
from tests.support.sessions_app import Sessions, with_sessions

PATCH = (("content-type", "application/merge-patch+json"),)
PAGE = [("origin", "https://app.example")]


async def ticket(service: Sessions, name: str, room_name: str = "one", **more: Any) -> str:
    """A ticket for somebody."""
    answer = await service.ask("POST", f"/v1/rooms/{room_name}/tickets", {"name": name, **more})
    assert 201 == answer.status, answer
    return str(answer.json()["ticket"])


async def entered(service: Sessions, name: str, room_name: str = "one", **more: Any) -> tuple[FarEnd, Any]:
    """Somebody in the room by a ticket, and what they heard first: `hello`, with the others among it."""
    given = await ticket(service, name, room_name, **more)
    far = await knock(service.app, f"/v1/rooms/{room_name}/socket", ticket=given, headers=PAGE)
    return far, await welcome(far)


async def welcome(far: FarEnd) -> Any:
    """What is heard first."""
    assert "tenure.v1" == far.accepted, (far.status, far.refusal, far.closed)
    hello, members = [(await far.frame())["message"] for _ in range(2)]
    assert ("hello", "members") == (hello["type"], members["type"])
    return {**hello, "names": [member["name"] for member in members["members"]]}


async def document(service: Sessions, room_name: str = "one", **more: Any) -> Answer:
    """The document."""
    return await service.ask("GET", f"/v1/rooms/{room_name}/document", **more)


async def change(
    service: Sessions, members: Any, *, if_match: str = "", repeat: str = "", room_name: str = "one"
) -> Answer:
    """A patch of it."""
    headers = [
        *PATCH,
        *([("if-match", if_match)] if if_match else []),
        *([("idempotency-key", repeat)] if repeat else []),
    ]
    return await service.ask("PATCH", f"/v1/rooms/{room_name}/document", members, headers=headers)


def test_people_in_a_room_and_a_program_change_one_document() -> None:
    """Each hears of all, in one order, by the numbers that the routes say too."""

    async def scenario(service: Sessions) -> None:
        anna, hello = await entered(service, "anna")
        assert ([], 0, {}) == (hello["names"], hello["seq"], hello["document"])
        bert, hello = await entered(service, "bert")
        assert ["anna"] == hello["names"]
        assert "joined" == (await anna.frame())["message"]["type"]
        await anna.send(
            {"type": "patch", "base_seq": 0, "merge_patch": {"title": "Hello", "x": {"a": 1}}, "id": "mine"}
        )
        assert {"type": "ack", "seq": 1, "id": "mine"} == (await anna.frame())["message"]
        assert 1 == (await bert.frame())["message"]["seq"]
        answer = await change(service, {"x": {"b": 2}, "title": None})
        assert (200, {"seq": 2}, '"v2"', "1") == (
            answer.status,
            answer.json(),
            answer.field("etag"),
            answer.field("x-tenure-durability"),
        )
        told = {"type": "patched", "seq": 2, "by": "", "merge_patch": {"x": {"b": 2}, "title": None}}
        assert [told, told] == [(await far.frame())["message"] for far in (anna, bert)]
        shown = await document(service)
        assert (200, '"v2"', {"seq": 2, "document": {"x": {"a": 1, "b": 2}}}) == (
            shown.status,
            shown.field("etag"),
            shown.json(),
        )

    with_sessions(scenario)


def test_a_ticket_opens_one_socket_of_its_room_within_30_s() -> None:
    """Not two, not one of another room, not later, and no socket of an object."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("POST", "/v1/rooms/one/tickets", {"name": "anna"})
        assert bounds.TICKET_MS == answer.json()["expires_in_ms"] == 30_000
        used = answer.json()["ticket"]
        statuses = [(await knock(service.app, "/v1/rooms/one/socket", ticket=used)).status for _ in range(2)]
        assert [0, 401] == statuses
        elsewhere = await ticket(service, "anna", "two")
        assert 401 == (await knock(service.app, "/v1/rooms/one/socket", ticket=elsewhere)).status
        inner = await ticket(service, "anna")
        assert 404 == (await knock(service.app, "/v1/objects/room/one/socket", ticket=inner)).status
        late, in_time = await ticket(service, "anna"), await ticket(service, "anna")
        await asyncio.sleep(29.9)
        assert 0 == (await knock(service.app, "/v1/rooms/one/socket", ticket=in_time)).status
        await asyncio.sleep(0.1)
        assert 401 == (await knock(service.app, "/v1/rooms/one/socket", ticket=late)).status

    with_sessions(scenario)


def test_a_program_enters_with_its_key() -> None:
    """Of the scope `rooms:join`; it is a member without a name."""

    async def scenario(service: Sessions) -> None:
        key = await service.add_key("acme", "rooms:join")
        await welcome(await knock(service.app, "/v1/rooms/one/socket", key=key))
        _, hello = await entered(service, "anna")
        assert [""] == hello["names"]

    with_sessions(scenario)


def test_who_may_not_is_refused_everywhere() -> None:
    """401 without a key, 403 with the scope that is lacking; a token of a user is no key."""

    async def scenario(service: Sessions) -> None:
        token = (await service.signed_in())["token"]
        lacking = await service.add_key("acme", "objects:call", "sessions:read")
        calls: list[tuple[str, str, Any, Any, str]] = [
            ("POST", "tickets", {"name": "anna"}, (), "rooms:join"),
            ("GET", "socket", None, (), "rooms:join"),
            ("GET", "document", None, (), "rooms:read"),
            ("PATCH", "document", {"a": 1}, PATCH, "rooms:write"),
        ]
        for method, what, body, headers, scope in calls:
            for key, status in ((None, 401), (token, 401), (lacking, 403)):
                answer = await service.ask(method, f"/v1/rooms/one/{what}", body, key=key, headers=headers)
                assert status == answer.status, answer
                assert scope == answer.json().get("scope", scope)
        for key, status in ((None, 401), (token, 401), (lacking, 403)):
            assert status == (await knock(service.app, "/v1/rooms/one/socket", key=key)).status
        assert {"seq": 0, "document": {}} == (await document(service)).json()

    with_sessions(scenario)


def test_what_is_no_handshake_of_a_page_that_may_is_refused() -> None:
    """426 for a plain GET, 403 for a foreign page, 400 for a query or a name that cannot be."""

    async def scenario(service: Sessions) -> None:
        assert 426 == (await service.ask("GET", "/v1/rooms/one/socket")).status
        given = await ticket(service, "anna")
        foreign = await knock(
            service.app, "/v1/rooms/one/socket", ticket=given, headers=[("origin", "https://evil.example")]
        )
        assert (403, "foreign_origin") == (foreign.status, foreign.refusal["code"])
        asked = await knock(service.app, "/v1/rooms/one/socket", ticket=given, query=b"ticket=1")
        assert (400, "query") == (asked.status, asked.refusal["where"])
        long = "n" * (bounds.NAME_BYTES_MAX + 1)
        named = await knock(service.app, f"/v1/rooms/{long}/socket", key=service.key)
        assert (400, "path.room") == (named.status, named.refusal["where"])
        assert (400, "path.room") == ((answer := await document(service, long)).status, answer.json()["where"])
        assert 404 == (await knock(service.app, "/v1/rooms/one/more/socket", key=service.key)).status

    with_sessions(scenario)


def test_a_room_may_have_any_name() -> None:
    """Slashes, dots and colons, percent-encoded whole; rooms of one tenant are not those of another."""

    async def scenario(service: Sessions) -> None:
        name = b"/v1/rooms/a%2Fb%2E%2E%3Ac/document"
        answer = await service.ask("PATCH", "/v1/rooms/x", {"a": 1}, headers=PATCH, raw_path=name)
        assert 200 == answer.status, answer
        shown = await service.ask("GET", "/v1/rooms/x", raw_path=name)
        assert {"a": 1} == shown.json()["document"]
        other = await service.add_key("globex", "rooms:read", "rooms:join")
        hidden = await service.ask("GET", "/v1/rooms/x", raw_path=name, key=other)
        assert (200, '"v0"', {"seq": 0, "document": {}}) == (hidden.status, hidden.field("etag"), hidden.json())
        await change(service, {"a": 1})
        hello = await welcome(await knock(service.app, "/v1/rooms/one/socket", key=other))
        assert {} == hello["document"]

    with_sessions(scenario)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "$"),
        ({"name": ""}, "$.name"),
        ({"name": "n" * 65}, "$.name"),
        ({"name": "anna", "more": 1}, "$"),
        ({"name": "anna", "session": {"principal": "ann"}}, "$.session"),
        (b'{"name": "anna", "name": "bert"}', "$.name"),
    ],
)
def test_a_bad_request_for_a_ticket_says_where(body: Any, where: str) -> None:
    """400, and no ticket."""

    async def scenario(service: Sessions) -> None:
        answer = await service.ask("POST", "/v1/rooms/one/tickets", body)
        assert (400, "invalid_input", where) == (answer.status, answer.json()["code"], answer.json()["where"])

    with_sessions(scenario)


@pytest.mark.parametrize("ending", ENDINGS)
def test_whoever_is_in_the_room_in_a_session_leaves_with_it(ending: str) -> None:
    """Within a second of the answer, by 4401; the others hear it, and a ticket that was not used opens nothing."""

    async def scenario(service: Sessions) -> None:
        it, other = await service.signed_in(), await service.signed_in("ben")
        session = {"principal": "ann", "id": it["session"]["id"]}
        free, _ = await entered(service, "carl")
        anna, hello = await entered(service, "anna", session=session)
        unused = await ticket(service, "anna", session=session)
        ben, _ = await entered(service, "ben", session={"principal": "ben", "id": other["session"]["id"]})
        answer = await ENDINGS[ending](service, it)
        assert answer.status in {200, 204}, answer
        also = 4401 if ending == "the tenant" else 0
        assert [4401, also, 0] == await within_a_second(service, anna, ben, free)
        while (message := (await free.frame())["message"])["type"] != "left":
            assert "joined" == message["type"]
        assert hello["you"] == message["id"]
        assert 401 == (await knock(service.app, "/v1/rooms/one/socket", ticket=unused)).status
        again = await service.ask("POST", "/v1/rooms/one/tickets", {"name": "anna", "session": session})
        assert again.status in {404, 410}

    with_sessions(scenario)


def test_a_ticket_in_a_session_that_there_is_not_is_refused() -> None:
    """404, or 410 where it is known that it has ended."""

    async def scenario(service: Sessions) -> None:
        it = await service.signed_in()
        body = {"name": "anna", "session": {"principal": "ann", "id": it["session"]["id"]}}
        unknown = {"name": "anna", "session": {"principal": "ben", "id": it["session"]["id"]}}
        assert 404 == (await service.ask("POST", "/v1/rooms/one/tickets", unknown)).status
        assert 204 == (await service.of("DELETE", f"sessions/{it['session']['id']}")).status
        gone = await service.ask("POST", "/v1/rooms/one/tickets", body)
        assert (410, "revoked") == (gone.status, gone.json()["reason"])

    with_sessions(scenario)


def test_a_key_that_ends_takes_its_people_with_it() -> None:
    """Within a second of when the node knows it: who came by a ticket of it, and who came with it."""

    async def scenario(service: Sessions) -> None:
        anna, _ = await entered(service, "anna")
        program = await knock(service.app, "/v1/rooms/one/socket", key=service.key)
        documents = service.node.shared_documents
        for key in documents.list_all("key"):
            await documents.delete("key", key.tenant, key.name, expected=None)
        assert [4401, 4401] == await within_a_second(service, anna, program)

    with_sessions(scenario)


def test_a_full_room_lets_nobody_in() -> None:
    """409 for the 201st, with a ticket and with a key; until somebody leaves."""

    async def scenario(service: Sessions) -> None:
        path = "/v1/rooms/one/socket"
        people = [await knock(service.app, path, key=service.key) for _ in range(room.MEMBERS_MAX)]
        assert {"tenure.v1"} == {far.accepted for far in people}
        given = await ticket(service, "anna")
        for late in (await knock(service.app, path, key=service.key), await knock(service.app, path, ticket=given)):
            assert (409, "room_full", None) == (late.status, late.refusal["code"], late.accepted)
        await people[7].leave()
        _, hello = await entered(service, "anna")
        assert room.MEMBERS_MAX - 1 == len(hello["names"])

    with_sessions(scenario)


def test_a_document_has_a_largest_size() -> None:
    """413 and nothing changed: for a body, for a member, for the document."""

    async def scenario(service: Sessions) -> None:
        body = await change(service, {"a": "x" * bounds.BODY_BYTES_MAX})
        assert (413, "too_large", bounds.BODY_BYTES_MAX) == _refusal(body)
        for number in range(4):
            assert 200 == (await change(service, {"a": {f"n{number % 2}": "x" * 55_000}, f"m{number}": 1})).status
        member = await change(service, {"a": {"n2": "x" * 55_000}})
        assert (413, "document_too_large", room.MEMBER_BYTES_MAX) == _refusal(member)
        for number in range(2):
            assert 200 == (await change(service, {f"b{number}": "x" * 60_000})).status
        whole = await change(service, {"c": "x" * 60_000})
        assert (413, "document_too_large", room.DOCUMENT_BYTES_MAX) == _refusal(whole)
        assert '"v6"' == (await document(service)).field("etag")
        key = await change(service, {"k" * bounds.KEY_BYTES_MAX: 1})
        assert (413, "too_large") == _refusal(key)[:2]
        assert 200 == (await change(service, {"b0": None, "c": "x" * 60_000})).status

    with_sessions(scenario)


def _refusal(answer: Answer) -> tuple[int, str, int]:
    problem = answer.json()
    return answer.status, problem["code"], problem["size_max"]


def test_a_patch_is_a_merge_patch_or_nothing() -> None:
    """415 for another media type, 400 for what is no object, has a key twice or is too deep; nothing is changed."""

    async def scenario(service: Sessions) -> None:
        plain = await service.ask("PATCH", "/v1/rooms/one/document", {"a": 1})
        assert (415, "unsupported_media_type") == (plain.status, plain.json()["code"])
        deep: Any = 1
        for _ in range(40):
            deep = {"x": deep}
        for body in (b"[1]", b"null", b'{"a":1,"a":2}', b'{"a":', deep):
            answer = await change(service, body)
            assert (400, "invalid_input") == (answer.status, answer.json()["code"]), body
        assert {"seq": 0, "document": {}} == (await document(service)).json()

    with_sessions(scenario)


def test_if_match_lets_only_a_patch_of_the_named_state_through() -> None:
    """412 on any other, and nothing is changed; `*` and none: whatever is there. 400 for what is no tag of ours."""

    async def scenario(service: Sessions) -> None:
        assert '"v1"' == (await change(service, {"a": 1}, if_match='"v0"')).field("etag")
        assert 200 == (await change(service, {"a": 2}, if_match="*")).status
        for tag in ('"v1"', '"v3"'):
            stale = await change(service, {"a": 3}, if_match=tag)
            assert (412, "precondition_failed") == (stale.status, stale.json()["code"])
        bad = await change(service, {"a": 3}, if_match="v2")
        assert (400, "header.if-match") == (bad.status, bad.json()["where"])
        assert {"seq": 2, "document": {"a": 2}} == (await document(service)).json()
        tag = (await document(service)).field("etag") or ""
        assert 200 == (await change(service, {"a": 4}, if_match=tag)).status

    with_sessions(scenario)


def test_a_patch_with_a_key_takes_effect_once() -> None:
    """Made again it has the same answer, also where others have changed the document since; 422 for another patch."""

    async def scenario(service: Sessions) -> None:
        first = await change(service, {"a": 1}, repeat="k", if_match='"v0"')
        await change(service, {"a": 2})
        again = await change(service, {"a": 1}, repeat="k", if_match='"v0"')
        assert (first.json(), first.field("etag")) == (again.json(), again.field("etag")) == ({"seq": 1}, '"v1"')
        reused = await change(service, {"a": 3}, repeat="k", if_match='"v0"')
        assert (422, "idempotency_key_reused") == (reused.status, reused.json()["code"])
        assert {"seq": 2, "document": {"a": 2}} == (await document(service)).json()

    with_sessions(scenario)


def test_the_generic_paths_of_objects_know_no_rooms() -> None:
    """They are for objects of one's own; the room's own paths are the way to it."""

    async def scenario(service: Sessions) -> None:
        for what in ("document", "patch", "tickets"):
            assert 404 == (await service.ask("POST", f"/v1/objects/room/one/{what}", {})).status

    with_sessions(scenario)


def test_a_patch_has_at_most_999_members() -> None:
    """One more is 413, which counts members and not what the store has of them."""

    async def scenario(service: Sessions) -> None:
        statuses = []
        for count in (999, 1_000):
            answer = await change(service, {f"k{number}": 1 for number in range(count)})
            statuses.append((answer.status, answer.json().get("detail")))
        assert [(200, None), (413, "A patch has 1000 members; at most 999 are allowed.")] == statuses

    with_sessions(scenario)
