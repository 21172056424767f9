"""Definitions: a page of YAML or JSON in, a program out, or every problem that it has, each with its place.

    problems = problems_of(read_yaml(text))     what an editor or `validate` shows
    program = define(read_yaml(text))           what a run is started from

Nothing here waits or keeps anything. The form of the language is in grammar.py, its meaning in
docs/reference/workflow-definitions.md, and what a program is made of in program.py.
"""

from typing import Any

from services.workflows.checks import check_meaning
from services.workflows.compiling import compile_program
from services.workflows.grammar import DEFINITION, language_schema
from services.workflows.problems import DefinitionError, Place, Problem, Problems
from services.workflows.program import Program
from services.workflows.reading import Source, read_json, read_yaml

__all__ = ["DefinitionError", "Problem", "Source", "define", "language_schema", "problems_of", "read_json", "read_yaml"]


def problems_of(source: Source) -> tuple[Problem, ...]:
    """Everything that is wrong with the definition; nothing if it can be run."""
    return tuple(_checked(source))


def define(source: Source, *, version: int = 1) -> Program:
    """The program of the definition. `version` counts where it names none.

    Raises:
        DefinitionError: it has problems; all of them are in the error.
    """
    _checked(source).raise_if_any()
    return compile_program(source.tree, version=version)


def _checked(source: Source) -> Problems:
    problems = source.problems
    tree: Any = source.tree
    if tree is None and problems:
        return problems  # Nothing could be read, and why has been told.
    DEFINITION.check(tree, Place(), problems)
    if isinstance(tree, dict):
        check_meaning(tree, problems)
    return problems
