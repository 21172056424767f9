"""Every definition of every tenant, for look-ups that cannot wait. Versions never change, so what was found stays true.

The book follows the documents of kind "definition", one for each version, named `name/version`. A body that this
release cannot read is not in the book: runs that were started from it keep it themselves.
"""

from typing import Final

import msgspec

from shared.errors import NotFoundError
from shared.objects.config import Document, Documents, read_document

DEFINITION: Final = "definition"


class UnknownDefinitionError(NotFoundError):
    """The tenant has no definition of that name, or not that version of it."""

    code = "definition.unknown"

    def __init__(self, name: str, version: int | None = None) -> None:
        super().__init__(f"definition {name!r}" if version is None else f"version {version} of the definition {name!r}")


class DefinitionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a document: the definition as JSON text, and as its author wrote it."""

    text: str
    source: str
    media_type: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a definition."""

    name: str
    version: int
    text: str
    source: str
    media_type: str
    changed_ms: int


decode_definition = msgspec.json.Decoder(DefinitionRecord).decode


class DefinitionBook:
    """What definitions there are, by tenant and name."""

    def __init__(self, documents: Documents) -> None:
        self._versions: dict[tuple[str, str], dict[int, Definition]] = {}
        documents.subscribe(DEFINITION, self._changed)

    def definition(self, tenant: str, name: str, version: int | None = None) -> Definition:
        """That version, or the newest: the one with the highest number.

        Raises:
            UnknownDefinitionError: there is none.
        """
        versions = self._versions.get((tenant, name))
        if not versions:
            raise UnknownDefinitionError(name)
        found = versions.get(max(versions) if version is None else version)
        if found is None:
            raise UnknownDefinitionError(name, version)
        return found

    def versions(self, tenant: str, name: str) -> list[int]:
        """The numbers of its versions, newest first; none where there is no such definition."""
        return sorted(self._versions.get((tenant, name), ()), reverse=True)

    def names(self, tenant: str) -> list[str]:
        """The names of the tenant's definitions, sorted."""
        return sorted(name for owner, name in self._versions if owner == tenant)

    def _changed(self, tenant: str, document_name: str, document: Document | None) -> None:
        name, _, number = document_name.rpartition("/")
        if not number.isdigit():
            return
        versions = self._versions.setdefault((tenant, name), {})
        record = None if document is None else read_document(document, decode_definition)
        if document is not None and record is not None:
            versions[int(number)] = Definition(
                name=name,
                version=int(number),
                text=record.text,
                source=record.source,
                media_type=record.media_type,
                changed_ms=document.changed_ms,
            )
        elif document is None:
            versions.pop(int(number), None)
        if not versions:
            del self._versions[tenant, name]


def document_name(name: str, version: int) -> str:
    """The name of the document of a version."""
    return f"{name}/{version}"
