"""The alerts: promtool takes them, each fires on what it is for and on nothing less, and they ask for metrics that there are."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.telemetry import catalogue
from shared.telemetry.metrics import Metrics
from shared.telemetry.series import Family
from tests.support.programs import require_program

CASES = Path(__file__).parent / "workflows.rules-test.yaml"
_SERIES = re.compile(r"(tenure_\w+?)(?:_bucket|_count)?(?:\{([^}]*)\})?[\[)]")
_LABEL = re.compile(r'(\w+)=~?"([^"]*)"')


@pytest.fixture(scope="session")
def rules_path(chart_path: Path) -> Path:
    """The rules of the chart."""
    return chart_path / "rules" / "workflows.yaml"


@pytest.fixture(scope="session")
def alerts(rules_path: Path) -> list[dict[str, Any]]:
    """The alerts."""
    (group,) = yaml.safe_load(rules_path.read_text())["groups"]
    alerts: list[dict[str, Any]] = group["rules"]
    return alerts


def _promtool(*arguments: str | Path) -> str:
    said = subprocess.run([require_program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def test_prometheus_takes_the_rules(rules_path: Path) -> None:
    """With all that its linter has to say."""
    assert "8 rules found" in _promtool("check", "rules", "--lint=all", "--lint-fatal", rules_path)


def test_each_alert_fires_on_what_it_is_for(rules_path: Path, tmp_path: Path) -> None:
    """And none of them on a quiet day."""
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.read_text().replace("RULES", str(rules_path)))
    _promtool("test", "rules", cases)


def test_each_alert_has_a_case_of_either_kind(alerts: list[dict[str, Any]]) -> None:
    """One in which it fires, and one in which it does not."""
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    names = [alert["alert"] for alert in alerts]
    for fires in (False, True):
        assert sorted(names) == sorted({case["alertname"] for case in cases if ("exp_alerts" in case) is fires})


def test_the_rules_ask_for_metrics_that_there_are(alerts: list[dict[str, Any]]) -> None:
    """By their names, and by values that their labels have."""
    shown = Metrics().render_prometheus().decode()
    labels_of = {one.name.replace(".", "_"): one.labels for one in vars(catalogue).values() if isinstance(one, Family)}
    for alert in alerts:
        asked = _SERIES.findall(alert["expr"])
        assert asked, alert["alert"]
        for name, labels in asked:
            assert f"# TYPE {name} " in shown, alert["alert"]
            for label, values in _LABEL.findall(labels):
                known = labels_of[max((one for one in labels_of if name.startswith(one)), key=len)]
                assert set(values.split("|")) <= set(known[label] or ()), alert["alert"]


def test_each_alert_is_explained(alerts: list[dict[str, Any]], root: Path) -> None:
    """With what to do."""
    page = (root / "docs/reference/alerts.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [alert["alert"] for alert in alerts]


def test_the_chart_installs_the_rules_as_they_are(rules_path: Path, manifests: list[dict[str, Any]], case: str) -> None:
    """Where it is asked to."""
    found = [one["spec"] for one in manifests if one["kind"] == "PrometheusRule"]
    assert found == ([yaml.safe_load(rules_path.read_text())] if case == "everything" else [])
