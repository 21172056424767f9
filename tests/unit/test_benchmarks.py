"""What the benchmarks say is computed right, and what they install is pinned."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import limiters, turn
from benchmarks.load import sample
from benchmarks.peers import packages
from benchmarks.peers.packages import PINS, MissingError
from benchmarks.sides import Aim, Sample, Side, alternate, median, percentile, report
from benchmarks.tally import Tally
from shared.testing.kit import Kit, run_with_kit


def test_sides_alternate_and_take_turns_in_beginning() -> None:
    """No side is always measured right after the same other one has warmed or tired the machine."""
    measured: list[str] = []

    def side(name: str) -> Side:
        def measure() -> Sample:
            measured.append(name)
            return Sample(len(measured), 0)

        return Side(name, measure)

    samples = alternate([side("a"), side("b"), side("c")], rounds=3)

    assert list("abcbcacab") == measured
    assert [1, 6, 8] == [rate for rate, _, _ in samples["a"]]


def test_medians_are_taken_of_each_figure() -> None:
    """The round of the median rate need not be that of the median cost."""
    assert Sample(2, 20, 5) == median([Sample(1, 20, 9), Sample(2, 10, 5), Sample(9, 30, 1)])


@pytest.mark.parametrize(
    ("rate", "verdict"), [(39, "3.90"), (40, "4.00"), (50, "5.00")], ids=["missed", "held", "reached"]
)
def test_a_report_says_whether_an_aim_is_held(rate: float, verdict: str) -> None:
    """Below the least it is missed, from the aim on it is reached."""
    said = {"3.90": "missed", "4.00": "held", "5.00": "held, and the aim reached"}[verdict]
    lines = report({"ours": [Sample(rate, 1)], "theirs": [Sample(10, 2)]}, "ours", [Aim("theirs", 4, 5)])

    assert 3 == len(lines)
    assert f"ours / theirs: {verdict} (at least 4, aim 5): {said}" == lines[-1]


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 50), (0.99, 99), (1, 100)])
def test_a_percentile_is_one_of_the_figures(share: float, expected: int) -> None:
    """The nearest rank, never a value between two."""
    assert expected == percentile(range(1, 101), share)


def test_a_server_that_answers_nothing_is_a_sample_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its round counts with a rate of 0, and nothing is divided by it."""
    times = iter([1.0, 3.0])
    monkeypatch.setattr("benchmarks.load.load", lambda port, script, seconds: 0.0)
    monkeypatch.setattr("benchmarks.load.cpu_s", lambda pid: next(times))

    assert Sample(0, 2e6, 0) == sample(1, tmp_path / "script.lua", 4, server=2)


@pytest.mark.parametrize("name", ["node", "npm"])
def test_a_missing_program_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the Debian package that has it."""
    monkeypatch.setattr(packages, "SCRATCH", tmp_path)
    monkeypatch.setattr("shutil.which", lambda wanted: None if wanted == name else _node_that_says("v20.1.0", tmp_path))

    with pytest.raises(MissingError, match=rf"^{name} is needed \(Debian: \w+\)$"):
        packages.node_packages()


def test_an_old_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the version that it has."""
    monkeypatch.setattr("shutil.which", lambda _: _node_that_says("v18.19.0", tmp_path))

    with pytest.raises(MissingError, match=r"^node 20 or newer is needed, and this is v18\.19\.0$"):
        packages.node()


def test_workerd_for_another_machine_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the machine."""
    monkeypatch.setattr(packages, "node_packages", lambda: tmp_path)
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    monkeypatch.setattr("platform.machine", lambda: "vax")

    with pytest.raises(MissingError, match=r"^workerd is not built for Plan9 on vax$"):
        packages.workerd()


@pytest.mark.parametrize("script", [turn, limiters], ids=["turn", "limiters"])
def test_a_benchmark_without_wrk_says_so(
    script: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 1 before it starts anything."""
    monkeypatch.setattr("sys.argv", ["benchmark"])
    monkeypatch.setattr("benchmarks.load.shutil.which", lambda _: None)

    assert 1 == script.main()  # type: ignore[attr-defined]  # A module, given as a parameter.
    assert "wrk is needed (Debian: wrk)\n" == capsys.readouterr().err


def test_packages_are_installed_once_for_the_same_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again once the pins have changed; what half an installation left is gone."""
    monkeypatch.setattr(packages, "PINS", tmp_path / "pins")
    (tmp_path / "pins").mkdir()
    folder, runs = tmp_path / "installed", tmp_path / "runs"

    def install(pins: str) -> str:
        (tmp_path / "pins" / "lock").write_text(pins)
        packages._installed(folder, ("lock",), ["sh", "-c", f"ls >> {runs}; touch leftover"])
        return (folder / "lock").read_text()

    assert ["one", "one", "two"] == [install("one"), install("one"), install("two")]
    assert ["lock", "lock"] == runs.read_text().split()


def test_the_peers_of_node_are_pinned_to_the_byte() -> None:
    """Exact versions and their digests, and no word about where they come from."""
    wanted = json.loads((PINS / "package.json").read_text())["dependencies"]
    lock = json.loads((PINS / "package-lock.json").read_text())["packages"]
    packages_locked = {path.removeprefix("node_modules/"): entry for path, entry in lock.items() if path}

    assert wanted == {name: packages_locked[name]["version"] for name in wanted}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages_locked.values())
    assert not [path for path, entry in packages_locked.items() if "resolved" in entry]


def test_the_peers_of_python_are_pinned_to_the_byte() -> None:
    """Every requirement of the lock has a version and a hash, the one that is asked for among them."""
    lock = (PINS / "requirements.lock").read_text()
    pins = re.findall(r"^([\w-]+==\S+).*\\\n(?:    --hash=.*\n)+", lock, re.MULTILINE)
    wanted = [line for line in (PINS / "requirements.in").read_text().splitlines() if not line.startswith("#")]

    assert len(re.findall(r"^\S", lock, re.MULTILINE)) == len(pins)
    assert set(wanted) <= set(pins)


def test_the_object_of_the_benchmarks_adds_up() -> None:
    """And what it has answered is there after the death of its node."""

    async def scenario(kit: Kit) -> None:
        tally = kit.at(Tally, "bench", "one")
        assert [2, 5] == [await tally.add(2), await tally.add(3)]
        await kit.kill()
        await kit.advance(15_000)
        assert await tally.add(1) == 6

    run_with_kit(scenario, kinds=[Tally])


def _node_that_says(version: str, folder: Path) -> str:
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o700)
    return str(program)
