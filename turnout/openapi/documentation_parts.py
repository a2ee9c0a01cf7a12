"""Counts the documentation parts that API Gateway makes of a document, where an import keeps them.

`pulumi up` imports with `ignore=documentation` and keeps none. An import by hand makes one of every entity with a
`description` or a `summary`, and fails in the middle past 2,000.
Source: API Gateway Developer Guide, "Representation of API documentation" and "Quotas".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_PARTS = 2000
"""Of one API."""


def count_documentation_parts(document: Mapping[str, Any]) -> int:
    """Return how many entities of an OpenAPI document have documentation of their own."""
    return sum("description" in entity or "summary" in entity for entity in _entities(document))


def _entities(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Locations of a documentation part: the API, models, authorizers, methods, parameters, bodies, responses."""
    yield document["info"]
    components = document.get("components", {})
    yield from components.get("schemas", {}).values()
    yield from components.get("securitySchemes", {}).values()
    yield from document.get("tags", [])
    for methods in document["paths"].values():
        for operation in methods.values():
            yield operation
            yield from operation.get("parameters", [])
            yield operation.get("requestBody", {})
            for response in operation.get("responses", {}).values():
                yield response
                yield from response.get("headers", {}).values()
