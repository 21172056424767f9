"""What is true of every manifest the chart renders, and that it renders what it rendered before.

To accept a change: `UPDATE_GOLDEN=1 pytest tests/helm`, then read the difference.
"""

import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # the package ships no types
import pytest
from helm_python import lint

Manifest = dict[str, Any]

_KUBERNETES_OLDEST = "1.30"
_KUBERNETES_NEWEST = "1.37"
_CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule"}
_LINT_INFO = 1
_EVERY_ADDRESS = str(IPv4Address(0))


def _of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _node(manifests: list[Manifest]) -> Manifest:
    [node] = [m for m in _of_kind(manifests, "StatefulSet") if m["metadata"]["name"].endswith("-ratelimiter")]
    return node


def _container(manifests: list[Manifest]) -> Manifest:
    [container] = _node(manifests)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Labels and spec of every pod: those of sets, and the test hook."""
    for manifest in manifests:
        if manifest["kind"] == "StatefulSet":
            template = manifest["spec"]["template"]
            yield template["metadata"]["labels"], template["spec"]
        elif manifest["kind"] == "Pod":
            yield manifest["metadata"]["labels"], manifest["spec"]


def _selected(manifests: list[Manifest], selector: Manifest) -> list[Manifest]:
    return [spec for labels, spec in _pods(manifests) if selector.items() <= labels.items()]


def _port_names(pod: Manifest) -> set[str]:
    return {port["name"] for container in pod["containers"] for port in container.get("ports", [])}


def test_lint_is_strictly_clean(chart_path: Path, case_values: Manifest) -> None:
    """`helm lint --strict` finds nothing to warn of."""
    report = lint(chart_path, case_values, strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > _LINT_INFO] == []


def test_golden_file_is_unchanged(case: str, manifest_text: str) -> None:
    """The chart renders, letter for letter, what was last accepted."""
    golden = Path(__file__).parent / "golden" / f"{case}.golden.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(manifest_text)
    assert golden.read_text() == manifest_text


@pytest.mark.parametrize("version", [_KUBERNETES_OLDEST, _KUBERNETES_NEWEST])
def test_manifests_are_valid_kubernetes(manifests: list[Manifest], version: str) -> None:
    """Oldest and newest supported Kubernetes accept every manifest, with no unknown field."""
    for manifest in manifests:
        if manifest["kind"] not in _CUSTOM_KINDS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_oldest_version_is_the_one_the_chart_asks_for(chart_path: Path) -> None:
    """The chart refuses exactly the Kubernetes versions that are not tested."""
    assert f'kubeVersion: ">={_KUBERNETES_OLDEST}.0-0"' in (chart_path / "Chart.yaml").read_text()


def test_node_is_a_stateful_set_of_one_that_can_grow(manifests: list[Manifest]) -> None:
    """One replica now; the fields that never change are those of a set of several."""
    spec = _node(manifests)["spec"]
    assert spec["replicas"] == 1
    assert (spec["podManagementPolicy"], spec["serviceName"]) == ("Parallel", "rel-tenure-ratelimiter-peers")
    assert "volumeClaimTemplates" not in spec


def test_selectors_match_the_labels_of_their_pods(manifests: list[Manifest]) -> None:
    """Every set selects its own pods, and only those; value labels never take a selector's place."""
    for workload in _of_kind(manifests, "StatefulSet"):
        selector = workload["spec"]["selector"]["matchLabels"]
        assert [workload["spec"]["template"]["spec"]] == _selected(manifests, selector)


def test_services_lead_to_a_named_port_of_one_workload(manifests: list[Manifest]) -> None:
    """Every Service selects the pods of one workload, and each target port is a port of theirs."""
    for service in _of_kind(manifests, "Service"):
        [pod] = _selected(manifests, service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= _port_names(pod)


def test_admin_port_is_on_a_service_of_its_own(manifests: list[Manifest]) -> None:
    """The Service that may become a load balancer never carries the admin port."""
    services = {s["metadata"]["name"]: s["spec"] for s in _of_kind(manifests, "Service")}
    assert [p["name"] for p in services["rel-tenure-ratelimiter"]["ports"]] == ["public"]
    assert [p["name"] for p in services["rel-tenure-ratelimiter-admin"]["ports"]] == ["admin"]
    assert services["rel-tenure-ratelimiter-admin"]["type"] == "ClusterIP"


def test_probes_ask_the_admin_port_by_name(manifests: list[Manifest]) -> None:
    """Liveness and start-up ask whether the process lives, readiness whether it may serve."""
    container = _container(manifests)
    asked = {
        name: tuple(container[f"{name}Probe"]["httpGet"].values()) for name in ("startup", "liveness", "readiness")
    }
    live = ("/health/live", "admin")
    assert asked == {"startup": live, "liveness": live, "readiness": ("/health/ready", "admin")}
    assert {p["name"]: p["containerPort"] for p in container["ports"]} == {"public": 7101, "admin": 7201}


def test_environment_names_are_unique_and_agree_with_the_ports(manifests: list[Manifest]) -> None:
    """No variable is set twice, and the node listens where the probes and Services look for it."""
    names = [variable["name"] for variable in _container(manifests)["env"]]
    assert len(names) == len(set(names))
    env = {variable["name"]: variable.get("value") for variable in _container(manifests)["env"]}
    assert (env["TENURE_HOST"], env["TENURE_PORT"]) == (_EVERY_ADDRESS, "7101")
    assert (env["TENURE_ADMIN_HOST"], env["TENURE_ADMIN_PORT"]) == (_EVERY_ADDRESS, "7201")


def test_variables_that_refer_to_others_follow_them(manifests: list[Manifest]) -> None:
    """Kubernetes expands $(NAME) only where NAME stands earlier in the list."""
    seen: set[str] = set()
    for variable in _container(manifests)["env"]:
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= seen
        seen.add(variable["name"])


def test_store_url_comes_from_a_secret_that_exists(manifests: list[Manifest]) -> None:
    """The Secret is the operator's, or rendered here with the very key that the node reads."""
    [reference] = [
        v["valueFrom"]["secretKeyRef"] for v in _container(manifests)["env"] if v["name"] == "TENURE_REDIS_URL"
    ]
    made = {secret["metadata"]["name"]: secret["stringData"] for secret in _of_kind(manifests, "Secret")}
    assert reference["name"] == "store" if not made else reference["key"] in made[reference["name"]]


def test_no_service_links_reach_the_environment(manifests: list[Manifest]) -> None:
    """A Service named tenure would otherwise set TENURE_PORT=tcp://... in every pod, and the node would not start."""
    assert all(pod["enableServiceLinks"] is False for _, pod in _pods(manifests))


def test_pods_meet_the_restricted_standard(manifests: list[Manifest]) -> None:
    """Every pod meets the restricted Pod Security Standard, with a read-only root and no API token."""
    for _, pod in _pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))
        for container in pod["containers"]:
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_every_mount_has_its_volume(manifests: list[Manifest]) -> None:
    """What a container mounts is a volume of the pod, and the node's own directory lies in one of them."""
    node = _node(manifests)["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in _container(manifests)["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in node["volumes"]}
    [directory] = [v["value"] for v in _container(manifests)["env"] if v["name"] == "TENURE_DATA_DIR"]
    assert Path(directory).parent == Path(mounts["tmp"])


def test_every_container_states_its_resources(manifests: list[Manifest]) -> None:
    """Requests for both, a limit for memory."""
    for _, pod in _pods(manifests):
        for container in pod["containers"]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_disruption_budget_selects_the_node(manifests: list[Manifest]) -> None:
    """Where there is a budget it selects the pods of one node and spares pods that do not answer."""
    nodes = {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in _of_kind(manifests, "StatefulSet")}
    for budget in _of_kind(manifests, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [nodes[budget["metadata"]["name"]]] == _selected(manifests, selector)
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_network_policies_name_ports_of_the_pods_they_select(manifests: list[Manifest]) -> None:
    """Each policy selects one workload, and a named port that it opens is a port of that workload."""
    for policy in _of_kind(manifests, "NetworkPolicy"):
        [pod] = _selected(manifests, policy["spec"]["podSelector"]["matchLabels"])
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= _port_names(pod)


def test_admin_port_is_closed_unless_somebody_is_named(case: str, manifests: list[Manifest]) -> None:
    """No policy opens the admin port to everybody."""
    [policy] = [m for m in _of_kind(manifests, "NetworkPolicy") if m["metadata"]["name"].endswith("-ratelimiter")]
    rules = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == "admin"]
    assert [bool(rule["from"]) for rule in rules] == ([True] if case == "everything" else [])


def test_service_monitor_finds_the_admin_service_alone(manifests: list[Manifest]) -> None:
    """Prometheus scrapes /metrics on the admin port, once."""
    for monitor in _of_kind(manifests, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [s for s in _of_kind(manifests, "Service") if selector.items() <= s["metadata"]["labels"].items()]
        assert [service["metadata"]["name"] for service in found] == [f"{monitor['metadata']['name']}-admin"]
        [endpoint] = monitor["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["path"]) == (found[0]["spec"]["ports"][0]["name"], "/metrics")
