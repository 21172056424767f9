"""Workers as real processes: they do tasks, die, stop, are told to stop, and outlive the service."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tenure_client import ApiError, Document, Limiter, Rooms, Sessions, UnreachableError, Workflows
from websockets.asyncio.client import connect

from tests.e2e.test_workflows import BLOCK, MARK
from tests.support.launching import ROOT, eventually, free_ports
from tests.support.service import Limiter as Launched
from tests.support.service import limiter
from tests.support.shell import run_in_shell

pytestmark = pytest.mark.e2e
T = TypeVar("T")
GUIDE = ROOT / "docs/how-to/write-a-worker.md"
WORKER = ROOT / "tests/support/worker_process.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with limiter(tmp_path_factory.mktemp("data")) as running:
        workflows = running.beside("workflows")
        for queue in ("waiting", "blocking", "failing"):
            step: dict[str, Any] = {"task": queue, "input": "{% $input %}", "timeout": "10m", "retry": [], "end": True}
            definition = {"workflow": queue, "start": "a", "steps": {"a": step}}
            assert 201 == workflows.call("PUT", f"/v1/definitions/{queue}/versions/1", definition)[0]
        yield workflows


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[str]]:
    """What the workers of the test have told, a line each; the file is `told.file`."""
    file = tmp_path / "told"

    def lines() -> list[str]:
        return file.read_text().splitlines() if file.exists() else []

    lines.file = file  # type: ignore[attr-defined]  # Kept with what reads it.
    return lines


def answers(service: Launched) -> bool:
    """Whether it is there again."""
    try:
        return bool(service.call("GET", "/v1/runs")[0] == 200)
    except OSError:
        return False


@contextmanager
def worker(service: Launched, told: Any, name: str, *manner: object) -> Iterator[subprocess.Popen[bytes]]:
    """A running worker; it is gone in the end."""
    command = [sys.executable, str(WORKER), service.url, service.key, name, str(told.file), *map(str, manner)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "clients/python")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start(service: Launched, definition: str, run_input: Any) -> str:
    """The id of a run that has started."""
    status, _, run = service.call("POST", "/v1/runs", {"definition": definition, "input": run_input})
    assert 201 == status
    return str(run["id"])


def seen(service: Launched, run_id: str) -> Any:
    """The run as it is."""
    return service.call("GET", f"/v1/runs/{run_id}")[2]


def ended(service: Launched, run_id: str, *, within_s: float = 20) -> Any:
    """The end of the run."""
    return eventually(lambda: seen(service, run_id)["end"], within_s=within_s)


def events(lines: list[str]) -> list[str]:
    """Who, and what."""
    return [" ".join(line.split()[:2]) for line in lines]


def test_the_guide_does_what_it_says(service: Launched, tmp_path: Path) -> None:
    """Every block of commands prints the block that follows it."""
    (tmp_path / "key").write_text(service.key)
    guide = GUIDE.read_text().replace(".tenure/dev-key", str(tmp_path / "key"))
    blocks = BLOCK.findall(guide.replace("http://127.0.0.1:7102", service.url))
    commands = [code for kind, code in blocks[1:] if kind == "sh"]
    expected = [code for kind, code in blocks if kind == "text"]
    path = f"export PATH={Path(sys.executable).parent}:$PATH\n"

    printed = run_in_shell(path + blocks[0][1] + "".join(f"{code}echo '{MARK}'\n" for code in commands))

    assert expected == printed.split(f"{MARK}\n")[:-1]


@pytest.mark.parametrize("queue", ["waiting", "blocking"])
def test_a_worker_does_tasks(service: Launched, told: Any, queue: str) -> None:
    """Several at a time, coroutines and threads; what the handler returns is the result."""
    with worker(service, told, "ann"):
        runs = [start(service, queue, {"s": 0.3, "n": number}) for number in range(6)]
        for number, run in enumerate(runs):
            assert {"status": "succeeded", "output": {"s": 0.3, "n": number}} == ended(service, run)
    assert 6 == events(told()).count("ann end")


def test_progress_is_seen_in_the_run_while_the_task_goes_on(service: Launched, told: Any) -> None:
    """And who has the task."""
    with worker(service, told, "ann"):
        run = start(service, "waiting", {"s": 1.5})
        step = eventually(lambda: (seen(service, run)["steps"] or [{}])[0].get("progress"), within_s=10)
        assert step["tenths"] >= 0
        assert "ann" == seen(service, run)["steps"][0]["worker"]
        ended(service, run)


def test_the_task_of_a_worker_that_is_killed_is_done_by_another(service: Launched, told: Any) -> None:
    """With the same key and in the same attempt, when its lease has ended; the queue shows who was lost."""
    with worker(service, told, "first", 2) as first:
        run = start(service, "waiting", {"s": 3})
        eventually(told, within_s=10)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with worker(service, told, "second", 2):
            assert "succeeded" == ended(service, run)["status"]
    assert ["first begin", "second begin", "second end"] == events(told())
    assert 1 == len({tuple(line.split()[2:]) for line in told()})
    assert "first" in {one["worker"] for one in service.call("GET", "/v1/queues/waiting")[2]["lost_workers"]}


def test_a_worker_that_is_stopped_gives_back_what_it_cannot_finish(service: Launched, told: Any) -> None:
    """Within its grace, long before the lease ends; what ends in the grace is completed."""
    with worker(service, told, "first", 600) as first:
        short, long = start(service, "waiting", {"s": 0.8}), start(service, "waiting", {"s": 5})
        eventually(lambda: len(told()) == 2, within_s=10)
        first.send_signal(signal.SIGTERM)
        assert 0 == first.wait(timeout=10)
        assert "succeeded" == ended(service, short, within_s=1)["status"]
        with worker(service, told, "second", 600):
            assert "succeeded" == ended(service, long)["status"]
    assert {"first cancelled", "second end"} <= set(events(told()))


def test_a_worker_that_stops_while_it_waits_takes_no_task_with_it(service: Launched, told: Any) -> None:
    """The next task is for the others at once, and not when a lease has ended."""
    with worker(service, told, "first", 600) as first:
        run = start(service, "waiting", {"s": 0.1})
        ended(service, run)
        first.send_signal(signal.SIGTERM)
        assert 0 == first.wait(timeout=10)
    run = start(service, "waiting", {"s": 0.1})
    with worker(service, told, "second", 600):
        ended(service, run, within_s=10)


def test_a_service_that_stops_does_not_wait_for_workers_that_wait(service: Launched) -> None:
    """A poll is held for up to a minute, but a node that stops holds nobody: it says 503, and ends."""
    pid = service.run.pid_of("services.workflows")
    body = {"worker": "ann", "wait_ms": 30_000}
    with ThreadPoolExecutor(1) as polling:
        poll = polling.submit(service.call, "POST", "/v1/queues/nobody/poll", body)
        time.sleep(0.5)  # It is held by then.
        assert not poll.done()
        os.kill(pid, signal.SIGTERM)
        status, fields, problem = poll.result(timeout=5)
        assert (503, "1", "unavailable") == (status, fields["retry-after"], problem["code"])
        eventually(lambda: not Path(f"/proc/{pid}").exists(), within_s=4)
    eventually(lambda: answers(service), within_s=10)


@pytest.mark.parametrize("queue", ["waiting", "blocking"])
def test_a_handler_hears_that_its_run_is_cancelled(service: Launched, told: Any, queue: str) -> None:
    """With the next sign of life: a coroutine is cancelled, a thread sees it."""
    with worker(service, told, "ann", 2):
        run = start(service, queue, {"s": 20})
        eventually(told, within_s=10)
        assert 202 == service.call("POST", f"/v1/runs/{run}/cancel", {})[0]
        eventually(lambda: "ann cancelled" in events(told()), within_s=10)


@pytest.mark.parametrize(
    ("how", "error"), [("bug", "worker.failed"), ("kyc.bad", "kyc.bad"), ("large", "payload.too_large")]
)
def test_what_a_handler_raises_is_the_error_of_the_step(service: Launched, told: Any, how: str, error: str) -> None:
    """A bug is one too, and so is a result that is too large; the worker goes on."""
    with worker(service, told, "ann"):
        run = start(service, "failing", {"how": how, "retry": False})
        step = eventually(lambda: (seen(service, run)["steps"] or [{}])[0].get("error"), within_s=10)
        assert error == step["error"]
        assert "succeeded" == ended(service, start(service, "waiting", {"s": 0.1}))["status"]


def test_a_worker_outlives_the_service(service: Launched, told: Any) -> None:
    """The service is killed while a task is done: the answer is brought when it is back, and the next task is polled."""
    with worker(service, told, "ann"):
        run = start(service, "waiting", {"s": 1.5})
        eventually(told, within_s=10)
        os.kill(service.run.pid_of("services.workflows"), signal.SIGKILL)

        def done() -> Any:
            try:
                return seen(service, run)["end"]
            except (OSError, KeyError, TypeError):
                return None

        assert "succeeded" == eventually(done, within_s=30)["status"]
        assert "succeeded" == ended(service, start(service, "waiting", {"s": 0.1}))["status"]
    assert 2 == events(told()).count("ann end")


def test_the_client_of_runs_and_of_the_limiter(service: Launched, told: Any) -> None:
    """Start, start again, signal, wait, complete; a check; and what is refused or away is said."""

    async def scenario() -> None:
        step: dict[str, Any] = {"wait": {"title": "Go", "signal": "go"}, "next": "b"}
        definition = {"workflow": "w", "start": "a", "steps": {"a": step, "b": {"wait": {"title": "On"}, "end": True}}}
        assert 201 == service.call("PUT", "/v1/definitions/w/versions/1", definition)[0]
        async with Workflows(service.url, service.key) as workflows:
            run = await workflows.start("w", {"n": 1}, idempotency_key="one")
            assert run.id == (await workflows.start("w", {"n": 1}, idempotency_key="one")).id
            assert "running" == await workflows.signal(run.id, "go", {"by": "ann"})
            assert "succeeded" == await workflows.complete(run.id, "b", {"done": True})
            assert {"done": True} == (await workflows.wait(run.id, timeout_s=5)).output
            open_run = await workflows.start("w", {"n": 2})
            assert not (await workflows.wait(open_run.id, timeout_s=1)).ended
            assert "cancelled" == await workflows.cancel(open_run.id)
            with pytest.raises(ApiError) as refused:
                await workflows.get("nobody")
            assert (404, "not_found") == (refused.value.status, refused.value.code)
        Launched(service.run).policy("api", ("minute", 1, 60_000))
        async with Limiter(Launched(service.run).url, service.key) as asked:
            assert (await asked.check("api", "ann")).allowed
            denied = await asked.check("api", "ann")
            assert not denied.allowed
            assert 0 < denied.retry_after_s <= 60
        async with Limiter(f"http://127.0.0.1:{free_ports(1)[0]}", service.key) as nobody:
            with pytest.raises(UnreachableError):
                await nobody.check("api", "ann")

    asyncio.run(scenario())


def test_the_client_signs_users_in_and_out(service: Launched) -> None:
    """Each call against the real session manager; a token is in no repr."""

    async def scenario() -> None:
        async with Sessions(service.beside("sessions").url, service.key) as sessions:
            first = await sessions.begin("ann/work", amr=["pwd"], roles=["editor"], client="web", idempotency_key="one")
            again = await sessions.begin("ann/work", amr=["pwd"], roles=["editor"], client="web", idempotency_key="one")
            assert (first.token, first.session.id) == (again.token, again.session.id)
            assert first.token not in repr(first)
            told = await sessions.whoami(first.token)
            assert told is not None
            assert ("ann/work", ["editor"]) == (told["principal"], told["roles"])
            for no_token in (first.token[:-4] + "AAAA", "", "t\u00f6ken", "two\nlines", service.key):
                assert await sessions.whoami(no_token) is None
            next_one = await sessions.rotate(first.token)
            assert (first.session.id, True) == (next_one.session.id, next_one.token != first.token)
            second = await sessions.begin("ann/work")
            assert [first.session.id, second.session.id] == [one.id for one in await sessions.list("ann/work")]
            assert 1 == await sessions.revoke_all("ann/work", but=second.session.id)
            assert await sessions.whoami(next_one.token) is None
            for _ in range(2):
                await sessions.revoke("ann/work", second.session.id)
            assert [] == await sessions.list("ann/work")
            third = await sessions.begin("ann/work", amr=["pwd"])
            key: dict[str, Any] = {"acr": "aal2", "amr": ["pwd", "otp"], "idempotency_key": "raise"}
            raised, same = [await sessions.authenticate("ann/work", third.session.id, **key) for _ in range(2)]
            assert ("aal2", third.session.id, raised.token) == (raised.session.acr, raised.session.id, same.token)
            for _ in range(2):
                await sessions.logout(raised.token)
            for token, code in ((second.token, "signed_out"), (third.token, "signed_out"), ("", "unauthenticated")):
                with pytest.raises(ApiError) as refused:
                    await sessions.rotate(token)
                assert (401, code) == (refused.value.status, refused.value.code)
            with pytest.raises(TypeError, match="a list of words"):
                await sessions.begin("ann/work", amr="pwd")
        with pytest.raises(ValueError, match="begins with http"):
            Sessions("127.0.0.1:7103", service.key)

    asyncio.run(scenario())


def test_rooms_are_changed_and_entered_from_the_client(service: Launched) -> None:
    """A patch counts once however often it is made; a ticket is in a user's session, and ends with it."""

    async def scenario() -> None:
        there = service.beside("sessions")
        async with Rooms(there.url, service.key) as rooms, Sessions(there.url, service.key) as sessions:
            assert Document(0, {}) == await rooms.document("a/b.c")
            for _ in range(2):
                assert 1 == await rooms.patch("a/b.c", {"x": {"y": 1}}, idempotency_key="one")
            assert 2 == await rooms.patch("a/b.c", {"x": {"z": 2}}, seq=1)
            with pytest.raises(ApiError) as stale:
                await rooms.patch("a/b.c", {"x": None}, seq=1)
            assert (412, "precondition_failed") == (stale.value.status, stale.value.code)
            assert Document(2, {"x": {"y": 1, "z": 2}}) == await rooms.document("a/b.c")

            session = ("ann", (await sessions.begin("ann")).session.id)
            ticket = await rooms.ticket("a/b.c", "anna", session=session)
            address = f"{there.url.replace('http', 'ws')}/v1/rooms/a%2Fb%2Ec/socket"
            subprotocols: list[Any] = list(ticket.subprotocols)
            async with connect(address, subprotocols=subprotocols) as socket:
                assert 2 == json.loads(await socket.recv())["message"]["seq"]
            assert ticket.subprotocols[1] not in repr(ticket)
            await sessions.revoke(*session)
            with pytest.raises(ApiError) as ended:
                await rooms.ticket("a/b.c", "anna", session=session)
            assert (410, "session_ended") == (ended.value.status, ended.value.code)

    asyncio.run(scenario())
