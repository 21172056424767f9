"""Exit codes are those of `docs/reference/commands.md`, whichever command it is: 0 done, 1 refused, 2 cannot be right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shared.cli.main import REFUSED, WRONG, main, parser
from tests.docs.test_commands_page import leaves
from tests.support.launching import free_ports, free_row
from tests.support.service import Limiter, limiter

pytestmark = pytest.mark.timeout(120)
OBJECT = ("troubled", "dev", "one")
NOBODY = "00" * 16
Command = Callable[..., int]


class Row(NamedTuple):
    """A command on a running node with the object `one`, the tenants `dev` and `acme`: what comes of it there."""

    code: int
    words: tuple[str, ...]


ROWS = {
    "doctor": Row(0, ()),
    "tenant create": Row(REFUSED, ("dev",)),
    "tenant list": Row(0, ()),
    "tenant disable": Row(0, ("acme",)),
    "tenant enable": Row(REFUSED, ("nobody",)),
    "key create": Row(0, ("--tenant", "acme", "--scope", "limits:check")),
    "key list": Row(REFUSED, ("--tenant", "nobody")),
    "key revoke": Row(REFUSED, ("--tenant", "acme", NOBODY)),
    "objects kinds": Row(0, ()),
    "objects list": Row(0, ("--kind", "troubled", "--tenant", "dev")),
    "objects show": Row(0, OBJECT),
    "objects journal": Row(REFUSED, ("troubled", "dev", "nobody")),
    "objects evict": Row(0, OBJECT),
    "objects quarantined": Row(0, ()),
    "objects lift": Row(0, OBJECT),
    "alarms list": Row(0, ()),
    "alarms dead": Row(0, ()),
    "alarms cancel": Row(REFUSED, (*OBJECT, "none")),
    "alarms rearm": Row(REFUSED, (*OBJECT, "none")),
    "alarms drop": Row(REFUSED, (*OBJECT, "none")),
    "messages list": Row(0, OBJECT),
    "messages dead": Row(0, ()),
    "messages show": Row(REFUSED, (*OBJECT, NOBODY)),
    "messages resend": Row(REFUSED, (*OBJECT, NOBODY)),
    "messages drop": Row(REFUSED, (*OBJECT, NOBODY)),
    "sessions list": Row(0, ("nobody",)),
    "sessions show": Row(REFUSED, ("nobody", "none")),
    "sessions revoke": Row(0, ("nobody", "none")),
    "workflows list": Row(0, ()),
    "workflows show": Row(REFUSED, ("none",)),
    "workflows start": Row(0, ("approval", "--input", '{{"what":"a test"}}')),
    "workflows signal": Row(REFUSED, ("none", "go")),
    "workflows complete": Row(REFUSED, ("none", "decide", "--outcome", "yes")),
    "workflows retry": Row(REFUSED, ("none", "decide")),
    "workflows migrate": Row(REFUSED, ("none", "2")),
    "workflows watch": Row(REFUSED, ("none",)),
    "operations begin": Row(0, ("pause", "--definition", "nothing", "--wait")),
    "operations list": Row(0, ()),
    "operations show": Row(REFUSED, (NOBODY,)),
    "operations stop": Row(REFUSED, (NOBODY,)),
    "schedules list": Row(0, ()),
    "schedules show": Row(REFUSED, ("none",)),
    "schedules put": Row(REFUSED, ("none", '{{"definition":"none","timetable":{{"every_s":60}}}}')),
    "schedules pause": Row(REFUSED, ("none",)),
    "schedules resume": Row(REFUSED, ("none",)),
    "schedules trigger": Row(REFUSED, ("none",)),
    "schedules backfill": Row(REFUSED, ("none", "--from", "1", "--to", "2")),
    "schedules next": Row(REFUSED, ("none",)),
    "schedules preview": Row(0, ("--every", "60")),
    "schedules delete": Row(REFUSED, ("none",)),
    "webhooks list": Row(0, ()),
    "webhooks show": Row(REFUSED, ("none",)),
    "webhooks put": Row(0, ("one", "https://shop.example/hooks")),
    "webhooks delete": Row(REFUSED, ("none",)),
    "webhooks test": Row(REFUSED, ("none",)),
    "webhooks deliveries": Row(REFUSED, ("none",)),
    "webhooks dead": Row(REFUSED, ("none",)),
    "webhooks message": Row(REFUSED, ("none", f"msg_{NOBODY}")),
    "webhooks retry": Row(REFUSED, ("none", f"msg_{NOBODY}")),
    "backup": Row(0, ("{file}",)),
    "restore": Row(REFUSED, ("{file}.none",)),
    "export": Row(REFUSED, ("{file}", "--kind", "none")),
    "import": Row(REFUSED, ("{file}.none",)),
}
UNTIL_STOPPED = {"run", "serve"}  # They end when they are told to; tests of the launcher and of nodes see how.
CANNOT_BE = (
    ("tenant", "create", "a/b"),
    ("key", "create", "--tenant", "dev", "--scope", "limit:check"),
    ("key", "create", "--tenant", "dev", "--scope", "limits:check", "--expires-days", "0"),
    ("objects", "list", "--kind", "troubled", "--tenant", "dev", "--limit", "0"),
    ("objects", "list", "--kind", "troubled", "--tenant", "dev", "--after", "nowhere"),
    ("objects", "show", "troubled", "dev", ""),
    ("alarms", "list", "--due-before", "soon"),
    ("alarms", "rearm", *OBJECT, "ring", "--at", "2030-01-31T12:00:00"),
    ("alarms", "dead", "--admin", "here"),
    ("messages", "drop", *OBJECT, "first"),
    ("sessions", "revoke", "ann"),
    ("sessions", "revoke", "ann", "one", "--all"),
    ("workflows", "list", "--limit", "0"),
    ("workflows", "start", "approval", "--input", "{"),
    ("workflows", "start", "approval", "--attr", "region"),
    ("workflows", "start", "approval", "--at", "soon"),
    ("workflows", "start", "approval", "--at", "1", "--delay", "1"),
    ("workflows", "start", "approval", "--delay", "-1"),
    ("workflows", "migrate", "one", "2", "--map", "a"),
    ("operations", "begin", "explode"),
    ("operations", "begin", "terminate"),
    ("operations", "begin", "migrate", "--all"),
    ("operations", "begin", "pause", "--due-before", "soon"),
    ("schedules", "put", "one", "{"),
    ("schedules", "preview"),
    ("schedules", "preview", "--cron", "never"),
    ("schedules", "backfill", "one", "--from", "2", "--to", "1"),
    ("webhooks", "deliveries", "one", "--status", "lost"),
    ("webhooks", "show", "a b"),
    ("webhooks", "list", "--service", "ratelimiter"),
    ("serve", "nothing"),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limiter]:
    """A node with an object of its own."""
    with limiter(tmp_path_factory.mktemp("run") / "data", TENURE_OBJECTS="tests.support.troubled") as running:
        status, _, answer = running.call("POST", "/v1/objects/troubled/one/keep", {"text": "here"})
        assert 200 == status, answer
        yield running


@pytest.fixture
def command(service: Limiter, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Carries a command out in this process, on that node; the exit code."""
    monkeypatch.setenv("TENURE_DATA_DIR", str(service.run.data_dir))
    monkeypatch.setenv("TENURE_PORT", str(service.run.port))
    monkeypatch.setenv("TENURE_ADMIN_PORT", str(service.run.admin_port))

    def run(*words: str) -> int:
        try:
            return main(words)
        except SystemExit as ended:  # Of the parser.
            return int(str(ended.code))

    main(("tenant", "create", "acme"))
    return run


def test_no_command_is_left_out() -> None:
    """A new one gets a row here."""
    assert set(leaves(parser())) - UNTIL_STOPPED == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_done_is_0_and_what_is_not_there_is_1(name: str, command: Command, tmp_path: Path) -> None:
    """On a node that runs; a reason stands on stderr."""
    row = ROWS[name]
    assert row.code == command(*name.split(), *(word.format(file=tmp_path / "file") for word in row.words))


@pytest.mark.parametrize("name", ROWS)
def test_where_nobody_answers_it_is_1(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the store nor the node: one sentence, and no traceback."""
    nobody, nobody_either = free_ports(2)
    monkeypatch.setenv("TENURE_PORT", str(free_row(2)))
    monkeypatch.setenv("TENURE_REDIS_URL", f"redis://127.0.0.1:{nobody}")
    monkeypatch.setenv("TENURE_ADMIN_PORT", str(nobody_either))
    words = (word.format(file=tmp_path / "file") for word in ROWS[name].words)

    assert REFUSED == command(*name.split(), *words)
    told = capsys.readouterr()
    assert "doctor" == name or (1, "tenure: ") == (told.err.count("\n"), told.err[:8])


@pytest.mark.parametrize("name", [*ROWS, *sorted(UNTIL_STOPPED)])
def test_what_cannot_be_said_is_2(name: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is not there, and a setting that cannot be right."""
    words = ROWS[name].words if name in ROWS else ("ratelimiter",) if name == "serve" else ()
    assert WRONG == command(*name.split(), *words, "--no-such-option")
    if name != "serve":  # It becomes another process, which says the same: `test_cli.py`.
        monkeypatch.setenv("TENURE_PORT", "none")
        assert WRONG == command(*name.split(), *words)


@pytest.mark.parametrize("words", CANNOT_BE, ids=" ".join)
def test_a_value_that_cannot_be_right_is_2(words: tuple[str, ...], command: Command) -> None:
    """Whoever finds it: the parser, the command, or the node that is asked."""
    assert WRONG == command(*words)
