"""The Dockerfile and the chart say the same things about the image."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helm_python import Chart

from services.ratelimiter.settings import RatelimiterSettings
from services.sessions.settings import SessionsSettings
from services.workflows.settings import WorkflowsSettings
from shared.settings import NodeSettings, read_settings

_NODE = "tenure/templates/statefulset.yaml"


@pytest.fixture(scope="session")
def dockerfile(root: Path) -> str:
    """The text of the Dockerfile, continued lines joined."""
    return (root / "Dockerfile").read_text().replace("\\\n", " ")


@pytest.fixture(scope="session")
def pods(
    render: Callable[..., dict[str, str]], load_yaml: Callable[[str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The pods of the nodes, as the chart renders them: the limiter's first."""
    nodes = load_yaml(render({"redis": {"existingSecret": "store"}})[_NODE])
    return [dict(node["spec"]["template"]["spec"]) for node in nodes]


@pytest.fixture(scope="session")
def pod(pods: list[dict[str, Any]]) -> dict[str, Any]:
    """The limiter's pod."""
    return pods[0]


def test_image_runs_as_the_chart_s_numeric_user(dockerfile: str, pod: dict[str, Any]) -> None:
    """`runAsNonRoot` can only be checked against a number, and both name the same one."""
    context = pod["securityContext"]
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == [f"{context['runAsUser']}:{context['runAsGroup']}"]


def test_image_exposes_the_ports_of_the_chart(dockerfile: str, pods: list[dict[str, Any]]) -> None:
    """Public and admin port of every service, and no other."""
    [exposed] = re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)
    assert exposed.split() == sorted(
        str(port["containerPort"]) for pod in pods for port in pod["containers"][0]["ports"]
    )


def test_image_starts_the_limiter_by_default(dockerfile: str, pod: dict[str, Any]) -> None:
    """The chart's arguments go to the image's entry point, which is the command line of the project."""
    assert 'ENTRYPOINT ["tenure"]' in dockerfile
    assert 'CMD ["serve", "ratelimiter"]' in dockerfile
    assert pod["containers"][0]["args"] == ["serve", "ratelimiter"]


def test_each_service_is_served_where_its_settings_say(pods: list[dict[str, Any]]) -> None:
    """The ports of the chart are the defaults of the services."""
    served = {
        pod["containers"][0]["args"][1]: tuple(port["containerPort"] for port in pod["containers"][0]["ports"])
        for pod in pods
    }
    defaults = {"ratelimiter": RatelimiterSettings(), "sessions": SessionsSettings(), "workflows": WorkflowsSettings()}
    assert {name: (settings.port, settings.admin_port) for name, settings in defaults.items()} == served


def test_image_takes_its_base_and_pinned_dependencies(dockerfile: str) -> None:
    """Both stages stand on ARG BASE; packages come from the lock file alone, checked by hash."""
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${BASE}", "${BASE}"]
    [install] = re.findall(r"pip install (.+?)&&", dockerfile)
    assert "--require-hashes" in install.split()
    assert "--no-deps" not in install.split(), "a package missing from the lock must fail the build, not the start"
    assert install.strip().endswith("/requirements.lock")


def test_chart_installs_the_version_of_the_project(root: Path, chart: Chart) -> None:
    """Without an image tag the chart takes the image of the release it belongs to."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert chart.metadata["appVersion"] == project["version"]


def test_settings_accept_the_environment_of_the_chart(pod: dict[str, Any]) -> None:
    """The node stops at a TENURE_ name or value that it does not know, so the chart sets none."""
    environ = {variable["name"]: variable.get("value", "redis://store") for variable in pod["containers"][0]["env"]}
    settings = read_settings(NodeSettings, environ)
    assert (settings.port, settings.admin_port, settings.redis_url) == (7101, 7201, "redis://store")
