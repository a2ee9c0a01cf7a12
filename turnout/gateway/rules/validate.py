"""API Gateway's request validators: required parameters and the body's model.

A body is checked only if its content type has a model (a missing one counts as `application/json`); an empty body is
checked as `{}`. As on AWS, `minItems` and `maxItems` of an imported model are not enforced: the functions do that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from turnout.gateway.rules.errors import INVALID_BODY, GatewayError, missing_parameters

_NOT_ENFORCED = frozenset({"minItems", "maxItems"})


class BodySchema(Protocol):
    """A compiled JSON Schema."""

    def is_valid(self, instance: Any) -> bool:
        """Whether the value is valid."""
        ...


@dataclass(frozen=True, slots=True)
class Validator:
    """The requirements of one operation.

    Args:
        headers: required names, lower case -> as written in the document.
        path: required path parameters.
        query: required query parameters.
        models: content type, lower case -> the body's model.
    """

    headers: Mapping[str, str]
    path: tuple[str, ...]
    query: tuple[str, ...]
    models: Mapping[str, BodySchema]

    def check(
        self,
        headers: Mapping[str, str],
        path: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        content_type: str | None,
        body: bytes,
    ) -> GatewayError | None:
        """Return the error of one request; `headers` by lower-case name."""
        missing = (
            *(spelled for name, spelled in self.headers.items() if not headers.get(name)),
            *(name for name in self.path if not (path or {}).get(name)),
            *(name for name in self.query if not (query or {}).get(name)),
        )
        if missing:
            return missing_parameters(missing)
        model = self.models.get((content_type or "application/json").split(";", 1)[0].strip().lower())
        if model is None:
            return None
        try:
            value = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError:
            return INVALID_BODY
        return None if model.is_valid(value) else INVALID_BODY


def validator_of(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Validator | None:
    """Return the validator named by an operation, or else by the whole document; None if nothing is validated.

    Raises:
        KeyError: the document has no validator with this name.
    """
    extension = "x-amazon-apigateway-request-validator"
    name = operation.get(extension, document.get(extension))
    if name is None:
        return None
    wanted = document.get(f"{extension}s", {})[name]
    required: dict[str, list[str]] = {"header": [], "path": [], "query": []}
    if wanted.get("validateRequestParameters"):
        for parameter in operation.get("parameters", ()):
            definition = _resolve(document, parameter)
            if definition.get("required") and definition.get("in") in required:
                required[definition["in"]].append(definition["name"])
    models = _models(document, operation) if wanted.get("validateRequestBody") else {}
    if not models and not any(required.values()):
        return None
    return Validator(
        {name.lower(): name for name in sorted(required["header"])},
        tuple(sorted(required["path"])),
        tuple(sorted(required["query"])),
        models,
    )


def _models(document: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, BodySchema]:
    # Only documents that use it pay for the import.
    from jsonschema import Draft4Validator

    body = _resolve(document, operation.get("requestBody", {}))
    components = _without(document.get("components", {}), _NOT_ENFORCED)
    return {
        # With the whole of `components` next to the schema, `#/components/schemas/x` resolves.
        content_type.lower(): Draft4Validator(
            {"allOf": [_without(media["schema"], _NOT_ENFORCED)], "components": components}
        )
        for content_type, media in body.get("content", {}).items()
        if "schema" in media
    }


def _resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the target of `{"$ref": "#/components/parameters/x"}`, or the node itself."""
    reference = node.get("$ref")
    if reference is None:
        return node
    value: Any = document
    for key in reference.removeprefix("#/").split("/"):
        value = value[key.replace("~1", "/").replace("~0", "~")]
    return value  # type: ignore[no-any-return]


def _without(node: Any, names: frozenset[str]) -> Any:
    """Return a schema without some keywords.

    A property with such a name stays, because its schema is not a keyword's value.
    """
    if isinstance(node, Mapping):
        return {
            key: {name: _without(schema, names) for name, schema in value.items()}
            if key == "properties" and isinstance(value, Mapping)
            else _without(value, names)
            for key, value in node.items()
            if key not in names
        }
    return [_without(value, names) for value in node] if isinstance(node, list) else node
