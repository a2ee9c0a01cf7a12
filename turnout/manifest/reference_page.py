"""Writes docs/manifest.md, every key of models.yaml: `python -m turnout.manifest.reference_page > docs/manifest.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from turnout.manifest.schema import followed, manifest_schema
from turnout.yaml_text.quoting import flow
from turnout.yaml_text.reader import MAX_BYTES

_INTRODUCTION = f"""\
<!-- Made by `make generated` from schemas/models.schema.json: edit that, not this page. -->

# models.yaml

The one file that you edit. `turnout validate` checks it and reports all problems at once, each with its line. An editor
with a YAML language server checks it as you type if the file begins with
`# yaml-language-server: $schema=schemas/models.schema.json`.

Rules that hold everywhere:

- Only the keys below are allowed.
- Paths of files are relative to the folder of models.yaml, use `/`, and must be below it: no absolute paths, no `..`. A
  link may lead elsewhere.
- A value that YAML 1.1 and 1.2 parse differently (`on`, `010`, `1e3`, `2024-01-01`) must be in quotes if it is a text.
  A version may be called `010`: write `010` as a key, and `"010"` where a stage serves it.
- Anchors, aliases, merge keys, tags, several documents and byte order marks are rejected, and so are files above
  {MAX_BYTES // 1_000_000} MB.
- A stage names every model that has versions under `serve` or `weights`, or has `"*": newest` under `serve`. A graph
  has no versions: every stage serves it, and none names it.
- `weights` add up to 100. A canary serves other versions than its stage, or has `release: true`. A shadow is a version
  that not every stage serves.
- A model called `<name>-route` is not allowed next to one called `<name>`: both would need the same stage variable,
  `<name>Route`.
"""


def render_manifest_reference() -> str:
    """Return the whole page."""
    parts = [_INTRODUCTION]
    parts += [_section(path, schema) for path, schema in _mappings((), manifest_schema())]
    return "\n".join(parts)


def _mappings(
    path: tuple[str, ...], schema: Mapping[str, Any], within: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping with its own keys, and its place; a recursive definition is described once."""
    name = schema.get("$ref", "")
    if name and name in within:
        return
    schema, within = followed(schema), (*within, name)
    if "properties" in schema:
        yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from _mappings((*path, key), value, within)
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _mappings((*path, f"<{path[-1].removesuffix('s')}>"), schema["additionalProperties"], within)
    if "items" in schema:
        yield from _mappings((*path, "<number>"), schema["items"], within)
    for alternative in schema.get("anyOf", ()):
        yield from _mappings(path, alternative, within)


def _section(path: tuple[str, ...], schema: Mapping[str, Any]) -> str:
    title = f"`{'.'.join(path)}`" if path else "The top level"
    lines = [f"## {title}", "", schema["description"], "", "| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in schema["properties"].items():
        definition = followed(value)
        cells = (f"`{key}`", _value(definition), _default(key, definition, schema), definition["description"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    examples = [f"- `{flow(example)}`" for example in schema.get("examples", ())]
    return "\n".join([*lines, "", *(["For example:", "", *examples, ""] if examples else [])])


_KINDS = {
    "object": "mapping",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
}


def _value(schema: Mapping[str, Any]) -> str:
    """Describe the allowed values in a few words."""
    if "anyOf" in schema:
        return " or ".join(_value(followed(alternative)) for alternative in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{flow(choice)}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return f"list: {_value(followed(schema['items']))}"
    if isinstance(schema["type"], list):
        return ", ".join(_KINDS[kind] for kind in schema["type"])
    words = _KINDS[schema["type"]]
    match schema:
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"{words}, above {low}, at most {high}"
        case {"exclusiveMinimum": low, "exclusiveMaximum": high}:
            return f"{words}, above {low}, below {high}"
        case {"minimum": low, "maximum": high}:
            return f"{words}, {low} to {high}" if low < 0 else f"{words}, {low}-{high}"
        case {"minimum": low}:
            return f"{words}, at least {low}"
        case {"exclusiveMinimum": low}:
            return f"{words}, above {low}"
    return str(words)


def _default(key: str, schema: Mapping[str, Any], parent: Mapping[str, Any]) -> str:
    if key in parent.get("required", ()):
        return "required"
    default = schema.get("default", "")
    return f"`{flow(default)}`" if default not in ("", {}, []) else ""


if __name__ == "__main__":
    sys.stdout.write(render_manifest_reference())
