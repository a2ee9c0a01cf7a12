"""Makes hypothesis strategies from an OpenAPI document's schemas: values that match, and values that nearly match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

ANY_JSON: Strategy = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class SchemaValues:
    """Makes strategies of one document's schemas.

    Args:
        schemas: `components.schemas` of the document.
        is_strict: whether all values match; otherwise any part may be anything, or be missing.
    """

    def __init__(self, schemas: Mapping[str, Any], *, is_strict: bool) -> None:
        self._schemas = schemas
        self._is_strict = is_strict

    def values(self, schema: Mapping[str, Any]) -> Strategy:
        """Return values of one schema."""
        fitting = self._fitting(schema)
        if self._is_strict:
            return fitting
        return st.integers(0, 9).flatmap(lambda drawn: ANY_JSON if drawn == 0 else fitting)

    def _fitting(self, schema: Mapping[str, Any]) -> Strategy:
        if "$ref" in schema:
            return self.values(self._schemas[str(schema["$ref"]).rpartition("/")[2]])
        if "enum" in schema:
            return st.sampled_from(list(schema["enum"]))
        for key in ("oneOf", "anyOf", "allOf"):
            if key in schema:
                return st.one_of(*(self.values(option) for option in schema[key]))
        kind = schema.get("type")
        if kind == "object":
            return self._objects(schema)
        if kind == "array":
            return self._arrays(schema)
        return self._simple().get(str(kind), ANY_JSON)

    def _simple(self) -> Mapping[str, Strategy]:
        odd = not self._is_strict
        return {
            "string": st.text(max_size=20),
            "integer": st.integers(0, 4) | st.integers(),
            "number": st.integers(-3, 3) | st.floats(allow_nan=odd, allow_infinity=odd),
            "boolean": st.booleans(),
        }

    def _arrays(self, schema: Mapping[str, Any]) -> Strategy:
        shortest = int(schema.get("minItems", 0))
        most = min(int(schema.get("maxItems", shortest + 5)), shortest + 5)
        return st.lists(
            self.values(schema.get("items", {})), min_size=shortest if self._is_strict else 0, max_size=most
        )

    def _objects(self, schema: Mapping[str, Any]) -> Strategy:
        properties = schema.get("properties")
        if not properties:
            return st.dictionaries(st.text(max_size=8), ANY_JSON, max_size=3)
        required = set(schema.get("required", ())) if self._is_strict else set()
        made = {name: self.values(schema) for name, schema in properties.items()}
        return st.fixed_dictionaries(
            {name: strategy for name, strategy in made.items() if name in required},
            optional={name: strategy for name, strategy in made.items() if name not in required},
        )
