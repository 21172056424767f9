"""`TENURE_OBJECTS`: modules are imported once and hosted whole, or the start ends with one sentence."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from services.ratelimiter.limiter import Limiter
from shared.errors import ConfigurationError
from shared.runtime.objects import load_objects
from shared.settings import NodeSettings, read_settings

KIND = """
    from shared.objects.handler import DurableObject

    class {cls}(DurableObject):
        kind = "{kind}"
"""
MISSING = "ModuleNotFoundError: No module named 'own_missing'."


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the import path; what a test imports from it is forgotten."""
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(modules: Path, name: str, *parts: str) -> None:
    """Make a module of `parts`."""
    (modules / f"{name}.py").write_text('"""Objects."""\n' + "".join(dedent(part) for part in parts))


def test_every_kind_of_every_module_is_found_once(modules: Path) -> None:
    """Those defined there, under any number of names; bases and what is only imported are left out."""
    write(
        modules,
        "own_first",
        KIND.format(cls="_Base", kind="base"),
        KIND.format(cls="Cart", kind="cart"),
        "Basket = Cart\n",
    )
    write(modules, "own_second", KIND.format(cls="Room", kind="room"), "from own_first import Cart\n")
    found = load_objects("own_first, own_second,own_first", own=[Limiter])

    assert ["cart", "room"] == [kind.name for kind in found]
    assert ["own_first.Cart", "own_second.Room"] == [f"{kind.cls.__module__}.{kind.cls.__name__}" for kind in found]


@pytest.mark.parametrize("nothing", ["", " ", ","])
def test_without_modules_there_is_nothing(nothing: str) -> None:
    """The setting is empty unless somebody sets it."""
    assert [] == load_objects(nothing, own=[Limiter])
    assert "" == NodeSettings().objects
    assert "a.b,c" == read_settings(NodeSettings, {"TENURE_OBJECTS": "a.b,c"}).objects


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "TENURE_OBJECTS names own_bad, which defines no DurableObject."),
        (
            "raise ValueError('no\\nway')\n",
            "TENURE_OBJECTS names own_bad, which cannot be imported: ValueError: no way.",
        ),
        (
            "import own_missing\n",
            f"TENURE_OBJECTS names own_bad, which cannot be imported: {MISSING}",
        ),
        (
            KIND.format(cls="Mine", kind="limiter"),
            "own_bad.Mine has the kind 'limiter', which is that of services.ratelimiter.limiter.Limiter.",
        ),
        (
            KIND.format(cls="One", kind="same") + KIND.format(cls="Two", kind="same"),
            "own_bad.Two has the kind 'same', which is that of own_bad.One.",
        ),
    ],
)
def test_what_cannot_be_hosted_stops_the_start(source: str, sentence: str, modules: Path) -> None:
    """One sentence that names the module, and the class where there is one."""
    write(modules, "own_bad", source)
    with pytest.raises(ConfigurationError) as raised:
        load_objects("own_bad", own=[Limiter])

    assert sentence == str(raised.value)


@pytest.mark.parametrize("name", ["own_nowhere", "own..nowhere", ".own", "./own.py"])
def test_a_name_that_is_no_module_stops_the_start(name: str) -> None:
    """Misspelt or a path: it is named, and the reason is Python's own."""
    with pytest.raises(ConfigurationError) as raised:
        load_objects(name, own=[])

    assert str(raised.value).startswith(f"TENURE_OBJECTS names {name}, which cannot be imported: ")
    assert "\n" not in str(raised.value)


def test_a_kind_of_the_service_cannot_be_registered_again() -> None:
    """Its own module names a kind that is hosted already."""
    with pytest.raises(ConfigurationError) as raised:
        load_objects("services.ratelimiter.limiter", own=[Limiter])

    sentence = "TENURE_OBJECTS names services.ratelimiter.limiter, whose Limiter the service hosts by itself."
    assert sentence == str(raised.value)
