"""The manifest's schema as the validator gets it."""

from __future__ import annotations

from turnout.manifest.schema import inline_references


def test_references_are_replaced_except_recursive_ones() -> None:
    tree = {"properties": {"child": {"$ref": "#/$defs/tree"}, "leaf": {"$ref": "#/$defs/leaf"}}}
    leaf = {"type": "string", "description": "A leaf."}
    schema = {"$defs": {"tree": tree, "leaf": leaf}, "items": [{"description": "Any.", "$ref": "#/$defs/tree"}]}
    assert inline_references(schema, schema["$defs"]) == {
        "items": [{"description": "Any.", "properties": {"child": {"$ref": "#/$defs/tree"}, "leaf": leaf}}],
        "$defs": schema["$defs"],
    }
