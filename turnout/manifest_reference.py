"""docs/manifest.md: every key of models.yaml. `python -m turnout.manifest_reference > docs/manifest.md` writes it.

Comes in: the manifest's schema. Goes out: Markdown. Called by `make generated` and by the test that the page is up to
date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from turnout.manifest_schema import manifest_schema
from turnout.wording import flow
from turnout.yaml_source import MAX_BYTES

_INTRODUCTION = f"""\
<!-- Made by `make generated` from schemas/models.schema.json: edit that, not this page. -->

# models.yaml

The one file that you edit. `turnout validate` checks it and tells all problems at once, each with its line; an editor
with a YAML language server checks it as you type when the file begins with
`# yaml-language-server: $schema=schemas/models.schema.json`.

Rules that hold everywhere:

- Every key is one of those below; anything else is refused.
- Files are named relative to the folder of models.yaml, with `/`, and lie below it: no absolute paths, no `..`. A link
  may lead elsewhere.
- A value that YAML readers take for different things (`on`, `010`, `1e3`, `2024-01-01`) stands in quotes where text is
  meant. A version may be called `010`: it is a text as a key, and `"010"` where it is served.
- Anchors, aliases, merge keys, tags, several documents and byte order marks are refused, and files above
  {MAX_BYTES // 1_000_000} MB.
- A stage names every model under `serve` or `weights`, or has `"*": newest` under `serve`.
- `weights` add up to 100. A canary serves something else than its stage does, or has `release: true`. A shadow is not
  what every stage serves anyway.
- A model called `<name>-route` cannot stand beside one called `<name>`: both would need the same stage variable,
  `<name>Route`.
"""


def render_manifest_reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    parts += [_section(path, schema) for path, schema in _mappings((), manifest_schema())]
    return "\n".join(parts)


def _mappings(path: tuple[str, ...], schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every mapping that has keys of its own, with where it stands."""
    schema = _resolved(schema)
    if "properties" in schema:
        yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from _mappings((*path, key), value)
    if isinstance(schema.get("additionalProperties"), Mapping):
        name = f"<{path[-1].removesuffix('s')}>"
        yield from _mappings((*path, name), schema["additionalProperties"])


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its reference followed."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = manifest_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return found


def _section(path: tuple[str, ...], schema: Mapping[str, Any]) -> str:
    title = f"`{'.'.join(path)}`" if path else "The top level"
    lines = [f"## {title}", "", schema["description"], "", "| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in schema["properties"].items():
        row = _resolved(value)
        cells = (f"`{key}`", _value(row), _default(key, row, schema), row["description"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    examples = [f"- `{flow(example)}`" for example in schema.get("examples", ())]
    return "\n".join([*lines, "", *(["For example:", "", *examples, ""] if examples else [])])


def _value(schema: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    kind = {"object": "mapping", "string": "text", "integer": "whole number", "boolean": "`true`, `false`"}
    words = kind.get(schema["type"], schema["type"])
    match schema:
        case {"minimum": low, "maximum": high}:
            return f"{words}, {low}-{high}"
        case {"minimum": low}:
            return f"{words}, at least {low}"
        case {"exclusiveMinimum": low}:
            return f"{words}, above {low}"
    return str(words)


def _default(key: str, schema: Mapping[str, Any], parent: Mapping[str, Any]) -> str:
    if key in parent.get("required", ()):
        return "required"
    default = schema.get("default", "")
    return f"`{flow(default)}`" if default not in ("", {}) else ""


if __name__ == "__main__":
    sys.stdout.write(render_manifest_reference())
