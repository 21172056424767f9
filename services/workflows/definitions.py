"""Definitions as the API keeps and shows them: versions that never change, refused with everything that is wrong."""

import msgspec

from services.workflows.book import DEFINITION, Definition, DefinitionBook, DefinitionRecord, document_name
from services.workflows.bounds import DEFINITIONS_MAX
from services.workflows.definition import problems_of, read_json, read_yaml
from services.workflows.problems import DefinitionError, Problem
from services.workflows.reading import Source
from shared.errors import ConflictError, InvalidInputError
from shared.http.body import YAML
from shared.objects.config import Documents, VersionMismatchError
from shared.objects.errors import TooLargeError


class DefinitionExistsError(ConflictError):
    """There is this version of the definition, and it is another one. A version never changes."""

    code = "definition.exists"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"Version {version} of {name!r} exists with another content; put this as another version.")


def read_definition(body: bytes, media_type: bytes) -> tuple[Source, str]:
    """The body as a definition, and as text. What cannot be read is among its problems.

    Raises:
        InvalidInputError: it is not UTF-8.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("The body is not UTF-8", "$") from error
    return (read_yaml(text) if media_type.startswith(YAML) else read_json(text)), text


def checked(body: bytes, media_type: bytes) -> tuple[Source, str, str]:
    """The definition, its text, and the same as JSON.

    Raises:
        DefinitionError: it cannot be run; it has everything that is wrong.
    """
    source, text = read_definition(body, media_type)
    _refuse(problems_of(source))
    as_json = msgspec.json.encode(source.tree).decode()
    _refuse(problems_of(read_json(as_json)))  # JSON takes more room than YAML, and a run keeps it as JSON.
    return source, text, as_json


class Definitions:
    """The definitions of all tenants, as the API shows and changes them."""

    def __init__(self, documents: Documents, book: DefinitionBook) -> None:
        self._documents = documents
        self._book = book

    async def put(
        self, tenant: str, name: str, version: int, body: bytes, media_type: bytes
    ) -> tuple[Definition, bool]:
        """Keep the definition as this version; whether it is new. The same content once more changes nothing.

        Raises:
            DefinitionError: it cannot be run, or is named otherwise.
            DefinitionExistsError: this version is there, with another content.
            TooLargeError: the tenant has 1,000 versions of definitions.
        """
        source, text, as_json = checked(body, media_type)
        _refuse(_misnamed(source, name, version))
        if version in self._book.versions(tenant, name):
            return _same(self._book.definition(tenant, name, version), as_json), False
        if len(self._documents.list(DEFINITION, tenant)) >= DEFINITIONS_MAX:
            what = "The number of the tenant's versions of definitions"
            raise TooLargeError(what, size=DEFINITIONS_MAX + 1, size_max=DEFINITIONS_MAX)
        kind = (media_type.partition(b";")[0].strip() or b"application/json").decode("ascii", "replace")
        record = DefinitionRecord(text=as_json, source=text, media_type=kind)
        stored = document_name(name, version)
        try:
            await self._documents.put(DEFINITION, tenant, stored, msgspec.json.encode(record), expected=0)
        except VersionMismatchError:  # Somebody else was faster.
            await self._documents.poll()
            return _same(self._book.definition(tenant, name, version), as_json), False
        return self._book.definition(tenant, name, version), True

    async def delete(self, tenant: str, name: str, version: int) -> None:
        """Forget the version. Runs of it keep it themselves.

        Raises:
            UnknownDefinitionError: there is none.
        """
        self._book.definition(tenant, name, version)
        await self._documents.delete(DEFINITION, tenant, document_name(name, version), expected=None)


def _same(kept: Definition, as_json: str) -> Definition:
    """What is kept, if it says the same.

    Raises:
        DefinitionExistsError: it does not.
    """
    if kept.text != as_json:
        raise DefinitionExistsError(kept.name, kept.version)
    return kept


def _misnamed(source: Source, name: str, version: int) -> tuple[Problem, ...]:
    """Where the definition names itself otherwise than its address does."""
    found = []
    if source.tree["workflow"] != name:
        found.append(Problem(at="/workflow", message=f"The address names the definition {name!r}"))
    if source.tree.get("version", version) != version:
        found.append(Problem(at="/version", message=f"The address names version {version}"))
    return tuple(found)


def _refuse(problems: tuple[Problem, ...]) -> None:
    if problems:
        raise DefinitionError(problems)
