"""Definitions: what may be written, what is said about the rest, and that everything wrong is said at once."""

import json
from typing import Any

import jsonschema
import pytest

from services.workflows.definition import DefinitionError, define, language_schema, problems_of, read_json, read_yaml
from services.workflows.program import Http, Map, Parallel, Pass, Secret, Sleep, Wait
from tests.support.launching import ROOT

ONBOARDING = ROOT / "examples" / "onboarding" / "onboarding.yaml"
SCHEMA = ROOT / "docs" / "reference" / "workflow-definition.schema.json"

SMALL = """
workflow: small
start: a
steps:
  a: { task: work, next: b }
  b: { succeed: "{% $result %}" }
"""


def found(text: str) -> list[tuple[str, str]]:
    return [(problem.at, problem.message) for problem in problems_of(read_yaml(text))]


def with_step(step: str, more: str = "") -> str:
    return f"workflow: w\nstart: a\nsteps:\n  a: {step}\n  z: {{ succeed: 1 }}\n{more}"


def test_the_onboarding_example_is_valid_as_written() -> None:
    """The worked example of the documentation has no problem, and a step of every kind that it shows."""
    program = define(read_yaml(ONBOARDING.read_text()))

    assert ("property_onboarding", 3, 13) == (program.name, program.version, len(program.root.steps))
    assert isinstance(program.root.steps["verification"].kind, Parallel)
    assert "expired" == (program.deadline and program.deadline.next)


def test_the_published_schema_is_the_language() -> None:
    """docs/reference/workflow-definition.schema.json is made of the code; `language_schema` makes it anew."""
    assert json.loads(SCHEMA.read_text()) == language_schema()
    jsonschema.Draft202012Validator.check_schema(language_schema())


@pytest.mark.parametrize("text", [SMALL, ONBOARDING.read_text()], ids=["small", "onboarding"])
def test_what_is_valid_is_valid_by_the_schema(text: str) -> None:
    """An editor that knows the schema agrees."""
    jsonschema.validate(read_yaml(text).tree, language_schema())


@pytest.mark.parametrize(
    "step",
    [
        "{ task: t }",
        "{ task: t, next: z, end: true }",
        "{ task: t, sleep: 1s, next: z }",
        "{ nothing: 1, next: z }",
        "{ task: t, next: z, retry: [ { interval: 1s } ] }",
        "{ http: { GET: x, POST: y }, next: z }",
        "{ wait: { assign: {} }, next: z }",
        "{ sleep: soon, next: z }",
        "{ map: { items: [], tolerate: 101% }, each: {}, next: z }",
        "{ task: t, next: z, max_visits: 0 }",
    ],
)
def test_what_has_a_wrong_form_is_invalid_by_the_schema_too(step: str) -> None:
    """The form is said once, so both refuse the same."""
    text = with_step(step)

    assert found(text)
    assert not jsonschema.Draft202012Validator(language_schema()).is_valid(read_yaml(text).tree)


def test_a_definition_says_how_long_its_runs_are_kept() -> None:
    """Thirty days if it says nothing, and not less than a minute."""
    text = "workflow: w\nstart: a\nsteps: { a: { pass: 1, end: true } }"
    assert 90 * 86_400_000 == define(read_yaml(f"retention: P90D\n{text}")).kept_ms
    assert 30 * 86_400_000 == define(read_yaml(text)).kept_ms
    assert [("/retention", "Here stands a duration of at least 60s")] == list(found(f"retention: 59s\n{text}"))
    assert ["/retention"] == [at for at, _ in found(f"retention: soon\n{text}")]


def test_every_problem_is_told_with_its_place() -> None:
    """The first does not hide the others, neither of its own step nor of another or deeper one."""
    text = """
workflow: w
strat: a
start: nowhere
steps:
  a:
    task: 7
    retry: [ { errors: ["*", timeout], interval: soon }, { errors: [http] } ]
    next: gone
  b:
    parallel:
      join: { count: 3 }
      branches:
        one: { start: x, steps: { x: { sleep: 1s, end: true } } }
        two: { start: y, steps: { y: { succeed: "{% $missing %}" }, unused: { fail: { error: e } } } }
    end: true
  c: { succeed: "{% 1 + %}" }
"""
    assert {
        ("/strat", "A definition has no 'strat'; did you mean 'start'?"),
        ("/start", "There is no step 'nowhere' in this block"),
        ("/steps/a/task", "Here stands text or an expression, not a number"),
        ("/steps/a/retry/0/interval", "'soon' is no duration such as 90s, 1h30m or P10D"),
        ("/steps/a/retry/0/errors/0", "* stands alone: it is every error"),
        ("/steps/a/retry/0/errors/0", "* stands in the last one: those behind it could never act"),
        ("/steps/a/next", "There is no step 'gone' in this block"),
        ("/steps/b/parallel/join/count", "3 of 2 branches can never succeed"),
        ("/steps/b/parallel/branches/two/steps/y/succeed", "$missing is assigned nowhere that this can read"),
        ("/steps/b/parallel/branches/two/steps/unused", "No way leads to the step 'unused'"),
        ("/steps/c/succeed", "Unexpected end of expression (at character 3 of '1 +')"),
    } == set(found(text))


def test_problems_stand_in_the_order_of_the_text_with_their_lines() -> None:
    """YAML has lines; what is missing has that of what it is missing from."""
    problems = problems_of(read_yaml(with_step("{ task: t, nxt: z }")))

    assert [(4, "/steps/a/nxt"), (4, "/steps/a"), (5, "/steps/z")] == [(p.line, p.at) for p in problems]


MEANINGS = {
    "a target that is not there": ("{ task: t, next: y }", "/steps/a/next", "There is no step 'y'"),
    "a catch to nowhere": (
        "{ task: t, catch: [ { errors: [e], next: y } ], next: z }",
        "/steps/a/catch/0/next",
        "There is no step 'y'",
    ),
    "a default without a choice": ("{ task: t, default: z, next: z }", "/steps/a/default", "A default needs a choice"),
    "a step of two kinds": ("{ task: t, sleep: 1s, next: z }", "/steps/a", "this is task and sleep"),
    "a step of no kind": ("{ next: z }", "/steps/a", "this has none of them"),
    "no way on": ("{ task: t }", "/steps/a", "exactly one of next, end, choice; here is none"),
    "two ways on": ("{ task: t, end: true, next: z }", "/steps/a", "exactly one of next, end, choice; here is both"),
    "a heartbeat that is too slow": (
        "{ task: t, timeout: 1m, heartbeat: 60s, next: z }",
        "/steps/a/heartbeat",
        "not shorter than the timeout",
    ),
    "a reserved variable": (
        "{ task: t, assign_vars: { result: 1 }, next: z }",
        "/steps/a/assign_vars/result",
        "has a meaning of its own",
    ),
    "a function as a variable": (
        "{ task: t, assign_vars: { count: 1 }, next: z }",
        "/steps/a/assign_vars/count",
        "is a function of JSONata",
    ),
    "an item outside a map": ("{ task: '{% $item %}', next: z }", "/steps/a/task", "$item is assigned nowhere"),
    "a function that is not there": ("{ pass: '{% $fo(1) %}', next: z }", "/steps/a/pass", "$fo is assigned nowhere"),
    "eval": ("{ pass: \"{% $eval('1') %}\", next: z }", "/steps/a/pass", "$eval is not offered"),
    "a wait that is none": (
        "{ wait: { forbid_same_user_as: [z] }, next: z }",
        "/steps/a/wait/forbid_same_user_as/0",
        "'z' is no wait",
    ),
    "a credential in the text": (
        "{ http: { GET: 'https://x/', headers: { Authorization: Bearer abc } }, next: z }",
        "/steps/a/http/headers/Authorization",
        "A credential is a reference",
    ),
    "a credential from an expression": (
        "{ http: { GET: 'https://x/', headers: { X-Api-Key: '{% $input.key %}' } }, next: z }",
        "/steps/a/http/headers/X-Api-Key",
        "A credential is a reference",
    ),
    "a credential in an address": (
        "{ http: { GET: 'https://u:p@x/' }, next: z }",
        "/steps/a/http/GET",
        "A credential is a reference in a header",
    ),
    "an address of another kind": ("{ http: { GET: 'file:///x' }, next: z }", "/steps/a/http/GET", "begins with http"),
    "a pivot that gives up": ("{ task: t, pivot: true, next: z }", "/steps/a", "A pivot retries without end"),
    "a pivot that fails": (
        "{ task: t, pivot: true, on_exhausted: fail, retry: [ { errors: ['*'], attempts: unlimited } ], next: z }",
        "/steps/a/on_exhausted",
        "it cannot fail here",
    ),
    "a pivot in a branch": (
        "{ parallel: { branches: { b: { start: c, steps: { c: { pass: 1, pivot: true, end: true } } } } }, next: z }",
        "/steps/a/parallel/branches/b/steps/c/pivot",
        "not of a branch",
    ),
    "a variable of the block around": (
        "{ parallel: { branches: { b: { start: c, steps: { c: { pass: 1, assign_vars: { v: 1 }, end: true } } } } }, assign_vars: { v: 2 }, next: z }",
        "/steps/a/parallel/branches/b/steps/c/assign_vars/v",
        "belongs to a block around this one",
    ),
    "a block without an end": (
        "{ map: { items: [] }, each: { start: c, steps: { c: { pass: 1, next: c } } }, next: z }",
        "/steps/a/each/steps",
        "No step ends this block",
    ),
    "a month": ("{ sleep: P1M, next: z }", "/steps/a/sleep", "no duration"),
    "a century": ("{ sleep: P36500D, next: z }", "/steps/a/sleep", "longer than ten years"),
    "a moment without a zone": (
        "{ sleep_until: '2026-03-01T09:00:00', next: z }",
        "/steps/a/sleep_until",
        "Here stands a moment",
    ),
    "a flag that is text": (
        "{ http: { GET: 'http://x', callback: yes }, next: z }",
        "/steps/a/http/callback",
        "true or false",
    ),
    "a number out of bounds": ("{ task: t, max_visits: 0, next: z }", "/steps/a/max_visits", "from 1 to 10000, not 0"),
    "a number with a fraction": ("{ task: t, max_visits: 1.5, next: z }", "/steps/a/max_visits", "a whole number"),
    "a word that is not known": (
        "{ task: t, on_exhausted: explode, next: z }",
        "/steps/a/on_exhausted",
        "not one of stall, fail",
    ),
    "a list that is none": ("{ task: t, retry: 1, next: z }", "/steps/a/retry", "Here stands a list, not a number"),
    "a mapping that is none": ("{ task: t, assign_vars: 1, next: z }", "/steps/a/assign_vars", "Here stands a mapping"),
    "a step that is none": ("text", "/steps/a", "Here stands a step, not text"),
    "an empty list": ("{ task: t, retry: [ { errors: [] } ], next: z }", "/steps/a/retry/0/errors", "1 to 20 items"),
    "a condition that is none": (
        "{ choice: [ { when: 'yes', next: z } ] }",
        "/steps/a/choice/0/when",
        "Here stands an expression",
    ),
    "a span that is none": (
        "{ sleep: 5, next: z }",
        "/steps/a/sleep",
        "Here stands a duration such as 90s or P10D, or",
    ),
}


@pytest.mark.parametrize(("step", "at", "message"), MEANINGS.values(), ids=MEANINGS.keys())
def test_a_problem_is_told(step: str, at: str, message: str) -> None:
    """Its place is exact, and its message says what would be right."""
    assert any(at == place and message in told for place, told in found(with_step(step))), found(with_step(step))


TEXTS = {
    "an alias": ("a: &x [1]\nb: *x", "Aliases are not taken: *x (line 2)"),
    "an anchor": ("a: &x 1", "Anchors are not taken: &x (line 1)"),
    "a tag": (
        "a: !!python/object:os.system 1",
        "Tags are not taken: tag:yaml.org,2002:python/object:os.system (line 1)",
    ),
    "a key that stands twice": ("a: 1\na: 2", "The key 'a' stands twice"),
    "two documents": ("a: 1\n---\nb: 2", "The text has more than one document (line 2)"),
    "depth": ("a: " + "[" * 40 + "]" * 40, "Lists and mappings are nested more than 32 deep (line 1)"),
    "a key that is a list": ("? [a]\n: 1", "A key is text, no list and no mapping (line 1)"),
    "no yaml": ("a: [1", "This is no YAML: did not find expected ',' or ']' (line 2)"),
    "a control character": ("a: \x01", "This is no YAML: control characters are not allowed (line 1)"),
    "size": ("#" * 70_000, "A definition has at most 65536 bytes; this has 70000"),
    "nothing": ("", "Here stands a definition, not nothing"),
    "a list": ("[]", "Here stands a definition, not a list"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS.keys())
def test_yaml_is_only_what_json_could_say(text: str, message: str) -> None:
    """What grows, names types or is ambiguous is refused, without a crash."""
    assert message in [told for _, told in found(text)]


JSON_TEXTS = {
    "no json": ("{", "This is no JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
    "a key that stands twice": ('{"a": {"b": 1, "b": 2}}', "The key 'b' stands twice in one object"),
    "depth": ("[" * 40 + "]" * 40, "Arrays and objects are nested more than 32 deep"),
    "infinity": ('{"a": Infinity}', "This is no JSON that can be read: Infinity is no number of JSON"),
    "size": (" " * 70_000, "A definition has at most 65536 bytes; this has 70000"),
}


@pytest.mark.parametrize(("text", "message"), JSON_TEXTS.values(), ids=JSON_TEXTS.keys())
def test_json_is_read_strictly(text: str, message: str) -> None:
    """The same rules hold for it."""
    assert message in [problem.message for problem in problems_of(read_json(text))]


def test_depth_without_end_is_a_problem_and_no_crash() -> None:
    """Neither parser is led by the depth of the text into its own."""
    for read in (read_json, read_yaml):
        assert problems_of(read("[" * 60_000))


def test_json_and_yaml_are_one_language() -> None:
    """The same tree gives the same program."""
    tree = read_yaml(ONBOARDING.read_text()).tree

    assert define(read_json(json.dumps(tree))) == define(read_yaml(ONBOARDING.read_text()))


def test_scalars_are_those_of_yaml_1_2() -> None:
    """`no` is a word and 12:30 no number of seconds."""
    text = "[no, on, 12:30, 010, 1e2, true, ~, .5, '1', -3, 2026-01-01, 0x1f]"

    assert ["no", "on", "12:30", 10, 100.0, True, None, 0.5, "1", -3, "2026-01-01", "0x1f"] == read_yaml(text).tree


def test_an_invalid_definition_makes_no_program() -> None:
    """The error carries all problems and says the first."""
    with pytest.raises(DefinitionError, match="and 1 more") as caught:
        define(read_yaml("workflow: w"))

    assert 2 == len(caught.value.problems)


def test_problems_are_told_up_to_a_bound() -> None:
    """A text in another language is not answered with a book."""
    keys = "\n".join(f"k{number}: 1" for number in range(500))

    assert 200 == len(found(keys))


def test_too_many_steps_or_blocks_are_a_problem() -> None:
    """What a run's state could not hold is refused before a run is."""
    steps = "".join(f"  s{number}: {{ pass: 1, next: s{number + 1} }}\n" for number in range(500))
    text = f"workflow: w\nstart: s0\nsteps:\n{steps}  s500: {{ succeed: 1 }}\n"
    block: dict[str, Any] = {"start": "s", "steps": {"s": {"succeed": 1}}}
    for _ in range(6):
        block = {"start": "s", "steps": {"s": {"map": {"items": []}, "each": block, "end": True}}}

    assert ("", "A definition has at most 500 steps, with those of its branches; this has 501") in found(text)
    told = [problem.message for problem in problems_of(read_json(json.dumps({"workflow": "w", **block})))]
    assert ["Blocks stand at most 5 deep inside one another"] == told


def test_what_was_written_is_what_the_program_says() -> None:
    """Durations are milliseconds, defaults are those of the Amazon States Language, and secrets stay references."""
    program = define(
        read_yaml("""
workflow: w
start: a
steps:
  a:
    http: { POST: "https://x.example/", headers: { Authorization: { secret: registry, prefix: "Bearer " } } }
    retry: [ { errors: [http.5xx] }, { errors: ["*"], interval: 500ms, rate: 1.5, max_delay: 1m, attempts: unlimited, jitter: full } ]
    next: b
  b: { sleep: PT1M30S, next: c }
  c: { sleep_until: "2026-03-01T09:00:00+01:00", next: d }
  d: { map: { items: [1, 2], concurrency: 1, tolerate: 50% }, each: { start: e, steps: { e: { pass: 1, end: true } } }, next: f }
  f: { wait: { signal: go }, remind: { every: 1d, max: 2, do: { http: { GET: "https://x.example/" } } }, next: g }
  g: { choice: [ { when: "{% true %}", next: h } ] }
  h: { parallel: { join: any, branches: { l: { start: m, steps: { m: { fail: { error: e } } } } } }, end: true }
""")
    )
    a, b, c, d, f, g, h = (program.root.steps[name] for name in "abcdfgh")

    assert isinstance(a.kind, Http)
    assert {"Authorization": Secret(secret="registry", prefix="Bearer ")} == a.kind.headers
    assert (1_000, 2.0, None, 3, False) == (
        a.retry[0].interval_ms,
        a.retry[0].rate,
        a.retry[0].max_delay_ms,
        a.retry[0].retries_max,
        a.retry[0].full_jitter,
    )
    assert (500, 60_000, None) == (a.retry[1].interval_ms, a.retry[1].max_delay_ms, a.retry[1].retries_max)
    assert 30_000 == a.timeout
    assert (Sleep(span=90_000), Sleep(until=1_772_352_000_000)) == (b.kind, c.kind)
    assert isinstance(d.kind, Map)
    assert (1, 50) == (d.kind.concurrency, d.kind.tolerate_percent)
    assert isinstance(f.kind, Wait)
    assert f.kind.remind
    assert (86_400_000, 2) == (f.kind.remind.every_ms, f.kind.remind.times)
    assert Pass() == g.kind
    assert isinstance(h.kind, Parallel)
    assert (1, None) == (h.kind.need, h.next)
