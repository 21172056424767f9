"""The committed API documents say what each call is for."""

import json
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, relative

DOCUMENTS = sorted((ROOT / "docs/openapi").glob("*.json"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_call_is_described_to_its_callers(document: Path) -> None:
    """In words of the API: what a module or an exception is called is of no use to them."""
    paths = json.loads(document.read_text())["paths"]
    said = {
        f"{method.upper()} {path}": operation.get("description", "")
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    inner = ("services.", "shared.", "Raises:", "Error:")
    assert len(said) > 10
    assert [] == [call for call, words in said.items() if not words or any(word in words for word in inner)]
