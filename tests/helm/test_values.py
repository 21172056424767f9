"""What the chart refuses, and what a value does.

A refusal names the place in the values, or says in one sentence which key to set.
"""

from collections.abc import Callable
from typing import Any

import pytest
from helm_python import Chart, HelmRenderError, HelmValuesError

Values = dict[str, Any]
Render = Callable[[Values], dict[str, str]]
LoadYaml = Callable[[str], list[dict[str, Any]]]

_NODE = "tenure/templates/statefulset.yaml"
_NOTES = "tenure/templates/NOTES.txt"
_STORE: Values = {"redis": {"existingSecret": "store"}}
_RATELIMITER = "/components/ratelimiter"


def _at(path: str, value: object) -> Values:
    """Values with `value` at a path such as /node/logLevel, and a store."""
    *parents, last = path.strip("/").split("/")
    nested: object = {last: value}
    for parent in reversed(parents):
        nested = {parent: nested}
    assert isinstance(nested, dict)
    return {**_STORE, **nested, **({"redis": {**_STORE["redis"], **nested["redis"]}} if "redis" in nested else {})}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{_RATELIMITER}/replicas", "1"),
        (f"{_RATELIMITER}/replicas", -1),
        (f"{_RATELIMITER}/resources/limits/memory", True),
        (f"{_RATELIMITER}/service/type", "ExternalName"),
        (f"{_RATELIMITER}/service/port", 70_000),
        (f"{_RATELIMITER}/pdb/maxUnavailable", "50%"),
        (f"{_RATELIMITER}/extraEnv/LEVEL", 3),
        (f"{_RATELIMITER}/podAnnotations/note", True),
        ("/redis/url", "http://store:6379"),
        ("/redis/existingSecret", "Not_A_Name"),
        ("/redis/existingSecretKey", ""),
        ("/devValkey/persistence/size", "lots"),
        ("/image/tag", 1.0),
        ("/image/digest", "sha256:short"),
        ("/image/pullPolicy", "Sometimes"),
        ("/runAsUser", 0),
        ("/node/leaseTtlMs", 10),
        ("/node/logLevel", "loud"),
        ("/node/shutdown/drainSeconds", 24),
        ("/node/shutdown/finishSeconds", 14),
        ("/node/shutdown/telemetrySeconds", 4),
        ("/telemetry/otlp/sampleRatio", 1.5),
        ("/telemetry/otlp/endpoint", "collector:4318"),
        ("/telemetry/otlp/resourceAttributes/team", "a,b=c"),
        ("/telemetry/serviceMonitor/interval", "often"),
        ("/networkPolicy/adminFrom", "monitoring"),
        ("/commonLabels/team", 7),
    ],
)
def test_bad_value_is_refused_at_its_path(render: Render, path: str, value: object) -> None:
    """A value of the wrong type or out of range is refused, and the message names where it stands."""
    with pytest.raises(HelmValuesError) as refusal:
        render(_at(path, value))
    assert f"at '{path}'" in str(refusal.value)


@pytest.mark.parametrize(
    "path",
    [
        "/replicaCount",
        "/redis/urll",
        "/devValkey/password",
        "/image/registry",
        "/node/shutdown/seconds",
        "/components/session",
        f"{_RATELIMITER}/autoscaling",
        f"{_RATELIMITER}/service/targetPort",
        f"{_RATELIMITER}/pdb/minAvailable",
        f"{_RATELIMITER}/resources/request",
        "/telemetry/otlp/url",
        "/networkPolicy/ingress",
    ],
)
def test_unknown_key_is_refused(render: Render, path: str) -> None:
    """A key that the chart does not know is refused at every level, so that no misspelling passes."""
    with pytest.raises(HelmValuesError) as refusal:
        render(_at(path, {}))
    parent, _, key = path.rpartition("/")
    assert f"at '{parent}'" in str(refusal.value)
    assert f"'{key}'" in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            _at(f"{_RATELIMITER}/replicas", 2),
            "components.ratelimiter.replicas is 2: this release runs one node per store",
        ),
        (_at("/components/sessions/replicas", 1), "components.sessions.replicas needs sessionKeys.existingSecret"),
        (_at("/components/workflows/replicas", 1), "components.workflows.replicas needs workflowKeys.existingSecret"),
        (
            _at("/components/sessions/extraEnv/TENURE_SESSION_KEYS", "0:x"),
            "extraEnv.TENURE_SESSION_KEYS: the chart sets",
        ),
        ({}, "No store is given: set redis.existingSecret"),
        (
            {**_STORE, "devValkey": {"enabled": True}},
            "More than one store is given (redis.existingSecret, devValkey.enabled)",
        ),
        (_at("/redis/url", "redis://store"), "More than one store is given (redis.existingSecret, redis.url)"),
        (_at("/telemetry/serviceMonitor/enabled", True), "needs networkPolicy.adminFrom"),
        (_at(f"{_RATELIMITER}/extraEnv/TENURE_PORT", "1"), "extraEnv.TENURE_PORT: the chart sets this variable itself"),
        (_at(f"{_RATELIMITER}/extraEnv/TENURE_REDIS_URL", "x"), "extraEnv.TENURE_REDIS_URL: the chart sets"),
    ],
)
def test_values_that_cannot_work_are_refused_in_one_sentence(render: Render, values: Values, message: str) -> None:
    """What is well formed but cannot work fails before anything is installed, and says what to set."""
    with pytest.raises(HelmRenderError) as refusal:
        render(values)
    assert message in str(refusal.value)


def test_every_documented_value_passes_the_schema(chart: Chart) -> None:
    """values.yaml itself is valid, so the schema knows every key it documents."""
    chart.validate_schema(_STORE)


def test_grace_period_is_the_sum_of_the_shutdown_phases(render: Render, load_yaml: LoadYaml) -> None:
    """Kubernetes waits as long as draining, finishing, telemetry and the margin take together."""

    def grace(values: Values) -> object:
        node, *_ = load_yaml(render(values)[_NODE])
        return node["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

    assert grace(_STORE) == 25 + 15 + 5 + 15
    assert grace(_at("/node/shutdown/drainSeconds", 100)) == 100 + 15 + 5 + 15


def test_node_can_be_stopped_by_replicas_0(render: Render, load_yaml: LoadYaml) -> None:
    """Zero replicas stops the limiter and keeps everything else."""
    node, *_ = load_yaml(render(_at(f"{_RATELIMITER}/replicas", 0))[_NODE])
    assert node["spec"]["replicas"] == 0


def test_what_nobody_uses_can_be_left_out(render: Render, load_yaml: LoadYaml) -> None:
    """Zero replicas of the workflow service, and the limiter is as it was."""
    limiter, _, workflows = load_yaml(render(_at("/components/workflows/replicas", 0))[_NODE])
    assert (1, 0) == (limiter["spec"]["replicas"], workflows["spec"]["replicas"])


@pytest.mark.parametrize(("component", "of", "port"), [("sessions", "session", 7103), ("workflows", "workflow", 7102)])
def test_a_service_reads_its_keys_from_the_secret(
    render: Render, load_yaml: LoadYaml, component: str, of: str, port: int
) -> None:
    """And nobody else is given them."""
    values = {**_at(f"/components/{component}/replicas", 1), f"{of}Keys": {"existingSecret": "kept"}}
    with_keys = {
        node["metadata"]["name"]: variable["valueFrom"]["secretKeyRef"]
        for node in load_yaml(render(values)[_NODE])
        for variable in node["spec"]["template"]["spec"]["containers"][0]["env"]
        if variable["name"] == f"TENURE_{of.upper()}_KEYS"
    }
    assert {f"rel-tenure-{component}": {"name": "kept", "key": f"{of}-keys"}} == with_keys
    assert f"http://rel-tenure-{component}.prod:{port}" in render(values)[_NOTES]


def test_only_what_runs_is_tested(render: Render, load_yaml: LoadYaml) -> None:
    """`helm test` asks no service that has no node."""
    tests = load_yaml(render(_at("/components/workflows/replicas", 0))["tenure/templates/tests/connection.yaml"])
    assert ["rel-tenure-ratelimiter-test"] == [pod["metadata"]["name"] for pod in tests]


def test_changed_store_url_restarts_the_node(render: Render, load_yaml: LoadYaml) -> None:
    """A pod does not notice a new Secret; the annotation makes a new pod of a new URL."""

    def annotations(url: str) -> object:
        node, *_ = load_yaml(render({"redis": {"url": url}})[_NODE])
        return node["spec"]["template"]["metadata"]["annotations"]

    assert annotations("redis://one") != annotations("redis://two")


def test_names_stay_within_what_kubernetes_allows(chart: Chart, load_yaml: LoadYaml) -> None:
    """A set's name is at most 52 characters long (its pods' labels add 11), a Service's at most 63."""
    rendered = chart.render({"devValkey": {"enabled": True}}, name="r" * 53, namespace="prod")
    node, *_ = load_yaml(rendered[_NODE])
    assert len(node["metadata"]["name"]) <= 52
    assert len(node["spec"]["serviceName"]) <= 63


def test_release_named_by_a_number_keeps_text_in_its_labels(chart: Chart, load_yaml: LoadYaml) -> None:
    """Labels are text, also where YAML would read a number."""
    node, *_ = load_yaml(chart.render(_STORE, name="2026", namespace="1")[_NODE])
    assert node["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "2026"


def test_notes_say_how_to_go_on_and_warn(render: Render) -> None:
    """The notes name the address and the limit of one node, and warn of what is not for production."""
    plain = render(_STORE)[_NOTES]
    assert "http://rel-tenure-ratelimiter.prod:7101" in plain
    assert "http://rel-tenure-workflows.prod:7102" in plain
    assert "Never scale a StatefulSet above one replica" in plain
    assert "WARNING" not in plain
    risky = {"devValkey": {"enabled": True}, "networkPolicy": {"enabled": False}}
    assert render(risky)[_NOTES].count("WARNING") == 2
    assert render({"redis": {"url": "redis://store"}})[_NOTES].count("WARNING") == 1
