"""The committed OpenAPI documents as those read them who make clients and checks of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.launching import ROOT

DOCUMENTS = sorted((ROOT / "docs/openapi").glob("*.json"))


def alternatives(schema: Any) -> Iterator[list[Any]]:
    """Every list of schemas of which exactly one is to fit."""
    members = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for member in members:
        yield from alternatives(member)
    if isinstance(schema, dict) and isinstance(schema.get("oneOf"), list):
        yield schema["oneOf"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_call_is_described_to_its_callers(path: Any) -> None:
    """In words of the API: what a module or an exception is called is of no use to them."""
    said = {
        f"{method.upper()} {route}": operation.get("description", "")
        for route, operations in json.loads(path.read_text())["paths"].items()
        for method, operation in operations.items()
    }
    inner = ("services.", "shared.", "Raises:", "Error:")
    assert len(said) > 10
    assert [] == [call for call, words in said.items() if not words or any(word in words for word in inner)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_no_value_fits_two_alternatives_at_once(path: Any) -> None:
    """One that anything fits beside others makes every value wrong; as do two that are the same."""
    found = list(alternatives(json.loads(path.read_text())))
    assert found
    assert not [one for one in found if {} in one]
    assert not [one for one in found if len({json.dumps(schema) for schema in one}) < len(one)]
