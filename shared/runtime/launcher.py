"""`tenure run`: the store and every service on one machine, from nothing to the first call.

Whatever ends this process, its children end with it: they are stopped in order (services, then
store) on Ctrl-C and SIGTERM, and killed by the kernel when the launcher itself is killed. Any
child that dies is started again. Children live in sessions of their own, so that a Ctrl-C of the
terminal reaches only the launcher.

Stop order:
  1. services: SIGTERM, 30 s to finish, SIGKILL   (a second Ctrl-C: SIGKILL at once)
  2. store: SIGTERM, 10 s to write out what it has, SIGKILL
  3. the lock on the data directory
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.clock import SystemClock
from shared.errors import ConfigurationError, TenureError
from shared.runtime.children import Child, Reaper
from shared.runtime.development import LIMITER, SESSIONS, WORKFLOWS, development_key, key_path
from shared.runtime.kept_secrets import admin_token, session_keys, workflow_keys
from shared.runtime.local_call import Endpoint, NoAnswerError
from shared.runtime.ports import check_port_free
from shared.runtime.screen import RunningService, screen
from shared.settings import NodeSettings, masked_url, read_settings, variable_of
from shared.storage.embedded import STOP_MS_MAX, EmbeddedStore
from shared.storage.lockfile import lock_directory, make_private
from shared.tether import tethered

SERVICE_STOP_MS_MAX = 30_000
_READY_POLL_MS = 25
_READY_TIMEOUT_MS = 1_000
_WAITING_NOTICE_MS = 10_000
_LOOPBACK = "127.0.0.0/8,::1/128"  # Where a developer's own receivers are.


class ServiceCommand(msgspec.Struct, frozen=True):
    """A service that the launcher runs, and how."""

    name: str
    command: tuple[str, ...]


SERVICES = tuple(
    ServiceCommand(name, (sys.executable, "-m", f"services.{name}")) for name in (LIMITER, WORKFLOWS, SESSIONS)
)
"""In the order of their ports."""


def run(environ: Mapping[str, str], *, services: Sequence[ServiceCommand] = SERVICES) -> int:
    """Run everything until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        TenureError: it cannot be started, or not be kept running. Nothing is left behind.
    """
    settings = read_settings(NodeSettings, environ)
    data_dir = Path(settings.data_dir).absolute()
    plan = [_planned(settings, command, index) for index, command in enumerate(services)]
    commands = {command.name: command.command for command in services}
    is_new = not data_dir.exists()
    with lock_directory(data_dir), _undone_if_refused(data_dir, is_new=is_new):
        _check_ports(plan)
        asyncio.run(_Launcher(environ, settings, data_dir, plan, commands).run())
    return 0


@contextmanager
def _undone_if_refused(data_dir: Path, *, is_new: bool) -> Iterator[None]:
    """A first start that cannot be as it was asked for leaves no directory behind, nor what it had fixed in there."""
    try:
        yield
    except ConfigurationError:
        if is_new and not key_path(data_dir).exists():  # Nobody was ever answered.
            shutil.rmtree(data_dir, ignore_errors=True)
        raise


def _check_ports(plan: Sequence[RunningService]) -> None:
    for service in plan:
        check_port_free(service.api, "port")
        check_port_free(service.admin, "admin_port")


class _Launcher:
    """One run. Everything it starts is in `_children`, in the order of starting."""

    def __init__(
        self,
        environ: Mapping[str, str],
        settings: NodeSettings,
        data_dir: Path,
        plan: Sequence[RunningService],
        commands: Mapping[str, Sequence[str]],
    ) -> None:
        self._environ = environ
        self._settings = settings
        self._data_dir = data_dir
        self._plan = plan
        self._commands = commands
        self._clock = SystemClock()
        self._store = None if settings.redis_url else EmbeddedStore(data_dir)
        self._redis_url = settings.redis_url if self._store is None else self._store.url
        self._store_child: Child | None = None
        self._service_children: list[Child] = []

    async def run(self) -> None:
        """Start, wait for the end, stop."""
        loop = asyncio.get_running_loop()
        stop, hurry = asyncio.Event(), asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if name == signal.SIGHUP and signal.getsignal(name) is signal.SIG_IGN:
                continue  # Started by nohup.
            loop.add_signal_handler(name, lambda: hurry.set() if stop.is_set() else stop.set())
        work = asyncio.create_task(self._work(Reaper(loop)))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if work.done():
                stop.set()
            else:
                _tell("stopping.")
            work.cancel()
            await asyncio.wait((work,))
            await self._stop_children(hurry)
            stopped.cancel()
        if not work.cancelled() and (failure := work.exception()) is not None:
            raise _first_cause(failure)

    async def _work(self, reaper: Reaper) -> None:
        """Start everything and keep it running; ends only by an error or by being cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._store is not None:
                self._store_child = self._new_store_child(self._store, reaper)
                tasks.create_task(self._store_child.keep_running())
                await self._store_ready(self._store, self._store_child)
            make_private(self._data_dir / "logs")
            for service in self._plan:
                child = self._new_service_child(service, reaper)
                self._service_children.append(child)
                tasks.create_task(child.keep_running())
            await asyncio.gather(*map(self._service_ready, self._plan, self._service_children))
            apis = {service.name: service.api for service in self._plan}
            key = await development_key(self._data_dir, apis, redis_url=self._redis_url, clock=self._clock)
            store = "in the data directory" if self._store else masked_url(self._redis_url)
            kinds = await self._hosted_kinds() if self._settings.objects else {}
            sys.stdout.write(screen(self._plan, key=key, data_dir=self._data_dir, store=store, kinds=kinds))
            sys.stdout.flush()

    async def _store_ready(self, store: EmbeddedStore, child: Child) -> None:
        async def loads() -> str:
            return "" if store.answers() else "it is reading its log"

        await self._until("the store", loads)
        child.was_ready = True

    async def _service_ready(self, service: RunningService, child: Child) -> None:
        async def reasons() -> str:
            try:
                answer = await service.admin.call("GET", "/health/ready", timeout_ms=_READY_TIMEOUT_MS)
            except NoAnswerError as exc:
                return str(exc)
            return "" if answer.status == 200 else answer.body.decode(errors="replace").strip()

        await self._until(service.name, reasons)
        child.was_ready = True

    async def _hosted_kinds(self) -> dict[str, list[str]]:
        """The kinds that callers can reach, with their methods; none where the first service does not say."""
        headers = {"Authorization": f"Bearer {self._admin_token()}"}
        try:
            answer = await self._plan[0].admin.call(
                "GET", "/admin/kinds", headers=headers, timeout_ms=_READY_TIMEOUT_MS
            )
            kinds = json.loads(answer.body)["kinds"] if answer.status == 200 else []
        except (NoAnswerError, ValueError, KeyError):
            return {}
        return {kind["kind"]: kind["public"] for kind in kinds if kind["public"]}

    def _admin_token(self) -> str:
        return self._settings.admin_token or admin_token(self._data_dir)

    async def _until(self, who: str, missing: Callable[[], Awaitable[str]]) -> None:
        """Wait until nothing is missing, and say from time to time what is."""
        told_ms = self._clock.monotonic_ms()
        while reason := await missing():
            if self._clock.monotonic_ms() - told_ms > _WAITING_NOTICE_MS:
                told_ms = self._clock.monotonic_ms()
                _tell(f"still waiting for {who}: {reason}")
            await asyncio.sleep(_READY_POLL_MS / 1000)

    def _new_store_child(self, store: EmbeddedStore, reaper: Reaper) -> Child:
        return Child(
            "the store", store.spawn, last_words=store.last_words, reaper=reaper, clock=self._clock, tell=_tell
        )

    def _new_service_child(self, service: RunningService, reaper: Reaper) -> Child:
        command, environ = self._commands[service.name], self._service_environ(service)
        service.log_path.write_bytes(b"")

        def spawn() -> subprocess.Popen[bytes]:
            with service.log_path.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - our own command, no shell
                    tethered(command),
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        return Child(
            service.name,
            spawn,
            last_words=lambda: _last_words(service.log_path),
            reaper=reaper,
            clock=self._clock,
            tell=_tell,
        )

    def _service_environ(self, service: RunningService) -> dict[str, str]:
        given = {
            "redis_url": self._redis_url,
            "data_dir": str(self._data_dir),
            "port": str(service.api.port),
            "admin_port": str(service.admin.port),
            "admin_token": self._admin_token(),
        }
        if not self._settings.outbound_allow:
            given["outbound_allow"] = _LOOPBACK
        if not self._settings.secrets_dir:
            given["secrets_dir"] = str(self._data_dir / "secrets")
        if service.name == SESSIONS and not self._settings.session_keys:
            given["session_keys"] = session_keys(self._data_dir)
        if service.name == WORKFLOWS and not self._settings.workflow_keys:
            given["workflow_keys"] = workflow_keys(self._data_dir)
        if self._store is not None:
            given["lock_id"] = f"{service.name}-0"
        return {**self._environ, **{variable_of(name): value for name, value in given.items()}}

    async def _stop_children(self, hurry: asyncio.Event) -> None:
        await asyncio.gather(
            *(child.stop(grace_ms=SERVICE_STOP_MS_MAX, hurry=hurry) for child in self._service_children)
        )
        if self._store_child is not None and self._store is not None:
            await self._store_child.stop(grace_ms=STOP_MS_MAX, hurry=hurry)
            self._store.tidy()


def _planned(settings: NodeSettings, command: ServiceCommand, index: int) -> RunningService:
    return RunningService(
        name=command.name,
        api=Endpoint(settings.host, settings.port + index),
        admin=Endpoint(settings.admin_host, settings.admin_port + index),
        log_path=Path(settings.data_dir).absolute() / "logs" / f"{command.name}.log",
    )


def _last_words(log_path: Path) -> str:
    """What a service said last: its own sentence if it left one, else the last line of its log."""
    lines = [line for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    sentences = [line.removeprefix("tenure: ") for line in lines if line.startswith("tenure: ")]
    return (sentences or lines or ["it said nothing."])[-1]


def _first_cause(failure: BaseException) -> BaseException:
    """The error to report of a group: ours before any other."""
    while isinstance(failure, BaseExceptionGroup):
        ours = failure.subgroup(TenureError)
        failure = (ours or failure).exceptions[0]
    return failure


def _tell(sentence: str) -> None:
    sys.stderr.write(f"tenure: {sentence}\n")
    sys.stderr.flush()
