"""Counts the documentation parts that an import makes from a document.

`pulumi up` imports with `ignore=documentation` and makes none. A manual import makes one for every entity with a
`description` or a `summary`, and fails halfway after 2,000. Source: API Gateway Developer Guide, "Representation of API
documentation" and "Quotas".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_PARTS = 2000
"""The largest number of documentation parts of an API."""


def count_documentation_parts(document: Mapping[str, Any]) -> int:
    """Return how many entities of an OpenAPI document have their own documentation."""
    return sum("description" in entity or "summary" in entity for entity in _entities(document))


def _entities(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the locations of documentation parts.

    They are the API, models, authorizers, methods, parameters, bodies, responses.
    """
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
