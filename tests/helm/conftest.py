"""Renders the chart in the test process, without a cluster and without a `helm` on the machine.

The cases are the files `golden/*.values.yaml`; what is true of every chart is asserted for each.
"""

from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

_ROOT = Path(__file__).parents[2]
_CASES = sorted(
    path.name.removesuffix(".values.yaml") for path in (Path(__file__).parent / "golden").glob("*.values.yaml")
)


class _StrictLoader(yaml.SafeLoader):
    """Reads YAML and refuses a key that comes twice, as Kubernetes' server-side apply does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
        return super().construct_mapping(node, deep=deep)


@pytest.fixture(scope="session")
def root() -> Path:
    """The directory of the repository."""
    return _ROOT


@pytest.fixture(scope="session")
def chart_path(root: Path) -> Path:
    """The directory of the chart."""
    return root / "helm" / "tenure"


@pytest.fixture(scope="session")
def chart(chart_path: Path) -> Iterator[Chart]:
    """The chart, loaded once."""
    with Chart.load(chart_path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def load_yaml() -> Callable[[str], list[dict[str, Any]]]:
    """Reads a stream of YAML documents strictly and leaves out the empty ones."""

    def load(text: str) -> list[dict[str, Any]]:
        return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document]

    return load


@pytest.fixture(scope="session")
def render(chart: Chart) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Renders values as release `rel` in namespace `prod`: the text of every template by its path."""

    def rendered(values: dict[str, Any]) -> dict[str, str]:
        return chart.render(values, name="rel", namespace="prod")

    return rendered


@pytest.fixture(scope="session", params=_CASES)
def case(request: pytest.FixtureRequest) -> str:
    """The name of a case."""
    return str(request.param)


@pytest.fixture(scope="session")
def case_values(case: str) -> dict[str, Any]:
    """The values of the case."""
    values: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "golden" / f"{case}.values.yaml").read_text())
    return values


@pytest.fixture(scope="session")
def manifest_text(render: Callable[[dict[str, Any]], dict[str, str]], case_values: dict[str, Any]) -> str:
    """The case's manifests as one text, in the order of the templates' paths; without the notes."""
    files = sorted(render(case_values).items())
    return "".join(
        f"# {path}\n{text.strip()}\n---\n" for path, text in files if text.strip() and not path.endswith(".txt")
    )


@pytest.fixture(scope="session")
def manifests(manifest_text: str, load_yaml: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The case's manifests."""
    return load_yaml(manifest_text)
