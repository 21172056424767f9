"""The API documents as one page of plain HTML: no script, nothing fetched, readable in a closed network.

It is made from the OpenAPI document and nothing else, so it cannot say anything that the document
does not. Every text from the document is escaped; the one style sheet is named by its hash in the
Content-Security-Policy, so the page needs no exception from it.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } h3 { margin: 2rem 0 .5rem; font-family: monospace }
table { border-collapse: collapse; width: 100%; font-size: .9rem } td, th { text-align: left; vertical-align: top }
td, th { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee } code { font-size: .9em }
.method { display: inline-block; min-width: 4.5rem; color: #0b5394 } .note { color: #555 }
""".strip()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'".encode()
"""What the page needs: its own style sheet and nothing else."""

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


def render_docs(openapi: bytes) -> bytes:
    """The page for an OpenAPI 3.1 document in JSON."""
    document = msgspec.json.decode(openapi)
    info = document.get("info", {})
    title = escape(f"{info.get('title', 'API')} {info.get('version', '')}")
    lines = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p class="note">As a file: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
        "<h2>Routes</h2>",
        *_routes(document),
        "<h2>Schemas</h2>",
        *_schemas(document),
        "</body></html>",
    ]
    return "\n".join(lines).encode()


def _routes(document: dict[str, Any]) -> Iterator[str]:
    for path, operations in sorted(document.get("paths", {}).items()):
        for method in _METHODS:
            if method in operations:
                yield from _operation(method, path, operations[method])


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<h3><span class="method">{method.upper()}</span>{escape(path)}</h3>'
    yield f"<p>{escape(operation.get('description') or operation.get('summary') or '')}</p>"
    yield f'<p class="note">{_credential(operation)}</p><table>'
    for parameter in operation.get("parameters", ()):
        need = "required" if parameter.get("required") else "optional"
        where = f"{parameter.get('in', '')}, {need}"
        yield _row(parameter.get("name", ""), where, _type(parameter.get("schema", {})))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield _row("body", media_type, _type(content.get("schema", {})))
    for status, response in sorted(operation.get("responses", {}).items()):
        contents = response.get("content", {}).values()
        shape = ", ".join(_type(content.get("schema", {})) for content in contents)
        yield _row(status, response.get("description", ""), shape or _type(response))
    yield "</table>"


def _credential(operation: dict[str, Any]) -> str:
    required = operation.get("security") or []
    if not required:
        return "No credential."
    ways = (
        f"{escape(name)}" + (f" with <code>{escape(', '.join(scopes))}</code>" if scopes else "")
        for way in required
        for name, scopes in way.items()
    )
    return "Credential: " + " or ".join(ways) + "."


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p><table>'
        required = schema.get("required", ())
        for field, inner in schema.get("properties", {}).items():
            bounds = ", ".join(f"{key} {json.dumps(value)}" for key, value in inner.items() if key in _BOUNDS)
            note = "; ".join(part for part in (inner.get("description", ""), bounds) if part)
            yield _row(field, "required" if field in required else "optional", _type(inner), note)
        yield "</table>"


_BOUNDS = (
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "enum",
    "const",
    "default",
)


def _type(schema: dict[str, Any]) -> str:
    """The name of a schema as HTML: a link, a list of what it may be, or its type."""
    if (reference := schema.get("$ref")) is not None:
        name = escape(str(reference).rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if (places := schema.get("prefixItems")) is not None:  # One type a place, and nothing behind them.
        return "array of " + ", ".join(_type(place) for place in places)
    if schema.get("type") == "array":
        return "array of " + _type(schema.get("items") or {})
    types = schema.get("type", "")
    return escape(" or ".join(types) if isinstance(types, list) else str(types))


def _row(name: str, kind: str, shape: str, note: str = "") -> str:
    """A row of a table; `shape` is HTML already."""
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{shape}</td><td>{escape(note)}</td></tr>"
    )
