"""Checks the manifest's tree against its JSON Schema; problems are sentences about the file.

The messages for names and paths are in the schema itself, as `patternErrorMessage`, which editors show, too.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout.layout import schema_path
from turnout.wording import did_you_mean, listed, shorten
from turnout.yaml_text.quoting import flow, show
from turnout.yaml_text.reader import Ambiguous, KeyPath

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at a path, before it has a line."""

    path: KeyPath
    message: str
    hint: str = ""


@functools.cache
def manifest_schema() -> Mapping[str, Any]:
    """The manifest's schema, read once."""
    schema: dict[str, Any] = json.loads(schema_path("models").read_bytes())
    return schema


def schema_default(key: str) -> Any:
    """Return the default of a top-level key, or of one of the definitions."""
    schema = manifest_schema()
    return (schema["properties"].get(key) or schema["$defs"][key])["default"]


def check_schema(tree: Any, numbers: Mapping[KeyPath, str]) -> list[Finding]:
    """Yield all violations of the schema; `numbers` contains the spellings of numbers, for messages."""
    findings = (finding for error in _validator().iter_errors(tree) for finding in _findings(error, numbers))
    return list(dict.fromkeys(findings))


def check_signature(tree: Any) -> list[Finding]:
    """Yield all violations of the schema by a separate `signature`."""
    part = _validator().evolve(schema={"$ref": "#/$defs/signature", "$defs": manifest_schema()["$defs"]})
    return list(dict.fromkeys(finding for error in part.iter_errors(tree) for finding in _findings(error, {})))


def check_domain(tree: Any) -> list[str]:
    """Yield all violations of the schema by a separate `domain`, as sentences."""
    part = _validator().evolve(schema=manifest_schema()["properties"]["domain"])
    findings = (finding for error in part.iter_errors(tree) for finding in _findings(error, {}))
    return [f"{'.'.join(map(str, finding.path))}: {finding.message}".removeprefix(": ") for finding in findings]


@functools.cache
def _validator() -> Validator:
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        """JSON Schema's `$` matches only the end; Python's also matches before a final line break."""
        if isinstance(instance, str) and (instance.endswith("\n") or not re.search(pattern, instance)):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    extended: type[Validator] = validators.extend(Draft202012Validator, {"pattern": pattern})  # type: ignore[no-untyped-call]
    return extended(inline_references(manifest_schema(), manifest_schema()["$defs"]))


def inline_references(schema: Any, definitions: Mapping[str, Any], inside: frozenset[str] = frozenset()) -> Any:
    """Return the schema with each `$ref` replaced by its target: looking one up takes longer than most checks.

    Args:
        schema: the schema, or a part of it.
        definitions: the targets of its references.
        inside: the definitions that contain the part; references to them are kept.
    """
    if isinstance(schema, list):
        return [inline_references(part, definitions, inside) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    parts = {
        key: inline_references(part, definitions, inside)
        for key, part in schema.items()
        if key != "$defs" and (key != "$ref" or name in inside)
    }
    if name and name not in inside:
        parts |= inline_references(definitions[name], definitions, inside | {name})
    return {**parts, "$defs": definitions} if "$defs" in schema else parts


def _findings(error: ValidationError, numbers: Mapping[KeyPath, str]) -> Iterable[Finding]:
    """Describe one error of the validator."""
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "anyOf":
        return _alternative(error, schema, numbers)
    path: KeyPath = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        path = (*path, str(error.instance))
    describe = _DESCRIPTIONS.get(str(error.validator))
    if describe is None:  # a keyword of the schema without a description: report the validator's message
        return [Finding(path, error.message)]
    return describe(path, error.instance, schema, numbers.get(path))


def _alternative(
    error: ValidationError, schema: Mapping[str, Any], numbers: Mapping[KeyPath, str]
) -> Iterator[Finding]:
    """Describe a wrong value where a word or a mapping is allowed."""
    word, mapping = schema["anyOf"]
    if isinstance(error.instance, dict):
        for inner in error.context or ():
            if inner.schema_path[0] == 1:
                yield from _findings(inner, numbers)
        return
    if "enum" not in followed(word):
        yield from _number_or_mapping(error, word, mapping, numbers)
        return
    choices = followed(word)["enum"]
    message = f"must be one of {listed(choices)}, or a mapping, got {show(error.instance)}"
    yield Finding(tuple(error.absolute_path), f"{message}{did_you_mean(error.instance, choices)}", _example(mapping))


def _number_or_mapping(
    error: ValidationError, number: Mapping[str, Any], mapping: Mapping[str, Any], numbers: Mapping[KeyPath, str]
) -> Iterator[Finding]:
    """Describe a wrong number where a number or a mapping is allowed."""
    path: KeyPath = tuple(error.absolute_path)
    if isinstance(error.instance, int | float) and not isinstance(error.instance, bool):
        yield from _limits(path, error.instance, number, numbers.get(path))
        return
    message = f"must be a number or a mapping, got {show(error.instance, numbers.get(path))}"
    yield Finding(path, message, _type_hint("number", error.instance, {}, None) or _example(mapping))


def _type(path: KeyPath, value: Any, schema: Mapping[str, Any], written: str | None) -> list[Finding]:
    wanted = schema["type"]
    if isinstance(wanted, list):
        *others, last = (_TYPES[kind] for kind in wanted)
        hint = _type_hint("string", value, schema, written) if isinstance(value, Ambiguous) else ""
        return [Finding(path, f"must be {', '.join(others)} or {last}, got {show(value, written)}", hint)]
    limits = f", {_range(schema)}" if _range(schema) else ""
    message = f"must be {_TYPES[wanted]}{limits}, got {show(value, written)}"
    return [Finding(path, message, _type_hint(wanted, value, schema, written, path))]


UNITS_MB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}
"""MB in a unit, by its first letter: `GB`, `Gi`, `GiB` and `g` mean the same."""


def _is_in_mb(path: KeyPath) -> bool:
    return str(path[-1]).endswith("_mb")


def _megabytes(number: str, unit: str) -> str:
    """Return `2048` for 2 and GB; empty if it is not a unit of memory or the amount is not an integer."""
    match = re.fullmatch(r"([kmgt])(i?b?)", unit.lower())
    amount = float(number) * UNITS_MB[match[1]] if match else 0.0
    return str(int(amount)) if amount and amount == int(amount) else ""


def _type_hint(wanted: str, value: Any, schema: Mapping[str, Any], written: str | None, path: KeyPath = ()) -> str:
    if wanted == "string":
        text = value.text if isinstance(value, Ambiguous) else written or json.dumps(value)
        return f'Write it in quotes: "{text}".' if not isinstance(value, dict | list | None) else ""
    if wanted in {"integer", "number"} and isinstance(value, str):
        number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(%|[A-Za-z]{1,3})?", value)
        megabytes = _megabytes(number[1], number[2] or "") if number and path and _is_in_mb(path) else ""
        if megabytes:
            return f"Write it in MB, without the unit: {megabytes}."
        quoted = "without its unit" if number and number[2] else "without quotes"
        return f"Write it {quoted}: {number[1]}." if number else ""
    if wanted in {"integer", "number"} and isinstance(value, Ambiguous):
        return "Write the number in plain digits."
    if wanted == "boolean" and isinstance(value, Ambiguous | str):
        return "Write true or false, without quotes."
    return _example(schema) if wanted in {"object", "array"} else ""


def _example(schema: Mapping[str, Any]) -> str:
    return f"For example: {flow(schema['examples'][0])}" if "examples" in schema else ""


def _limits(path: KeyPath, value: Any, schema: Mapping[str, Any], written: str | None) -> list[Finding]:
    return [Finding(path, f"must be {_range(schema)}, got {show(value, written)}")]


def _range(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f"{low} to {high}" if low < 0 else f"{low}-{high}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"above {low} and at most {high}"
        case {"exclusiveMinimum": low, "exclusiveMaximum": high}:
            return f"above {low} and below {high}"
        case {"minimum": low}:
            return f"at least {low}"
        case {"exclusiveMinimum": low}:
            return f"above {low}"
    return ""


def _enum(path: KeyPath, value: Any, schema: Mapping[str, Any], written: str | None) -> list[Finding]:
    choices = [flow(choice) for choice in schema["enum"]]
    wanted = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if isinstance(value, Ambiguous) and value.text in schema["enum"]:
        return [Finding(path, f"must be {wanted}, got {show(value)}", f'Write it in quotes: "{value.text}".')]
    return [Finding(path, f"must be {wanted}, got {show(value, written)}{did_you_mean(value, choices)}")]


def _pattern(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    return [Finding(path, f"{schema['patternErrorMessage']}, got {show(value, None)}", _name_hint(value, schema))]


def _name_hint(value: str, schema: Mapping[str, Any]) -> str:
    """Return the nearest valid name, if there is an obvious one."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", value).lower())
    candidate = "-".join(words)
    if len(candidate) <= schema.get("maxLength", 0) and re.search(schema["pattern"], candidate):
        return f"Did you mean `{candidate}`?"
    return ""


def _too_long(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    return [Finding(path, f"must be at most {schema['maxLength']} characters, got {len(value)}")]


def _empty(path: KeyPath, _: Any, schema: Mapping[str, Any], __: str | None) -> list[Finding]:
    return [Finding(path, "must not be empty", _example(schema))]


def _too_many_items(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    return [Finding(path, f"must have at most {schema['maxItems']} entries, got {len(value)}")]


def _too_many(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    """Describe several exclusive keys, of which only one is allowed."""
    known = schema["properties"]
    return [] if any(key not in known for key in value) else [_one_of_keys(path, value, known, schema)]


def _one_of(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    """Describe alternatives that differ only in the key that each one requires."""
    if not isinstance(value, dict):
        return []  # its type is reported already
    return [_one_of_keys(path, value, [choice["required"][0] for choice in schema["oneOf"]], schema)]


def _one_of_keys(path: KeyPath, value: Any, keys: Iterable[str], schema: Mapping[str, Any]) -> Finding:
    *others, last = keys
    given = [key for key in (*others, last) if key in value]
    if not given:
        return Finding(path, f"one of {', '.join(others)} and {last} is required", _example(schema))
    got = "both" if len(others) == 1 else listed(given)
    return Finding(path, f"must have one of {', '.join(others)} and {last}, got {got}", schema["description"])


def _dependent(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    """Describe keys that are only valid next to another one."""
    return [
        Finding((*path, key), f"requires `{needed}`", schema["properties"][needed].get("description", ""))
        for key, (needed,) in schema["dependentRequired"].items()
        if key in value and needed not in value
    ]


def _not_unique(path: KeyPath, value: Any, _: Mapping[str, Any], __: str | None) -> list[Finding]:
    return [
        Finding((*path, index), f"duplicate item {show(item)}")
        for index, item in enumerate(value)
        if item in value[:index]
    ]


def _missing(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    return [
        Finding(path, f"`{key}` is missing", followed(schema["properties"][key]).get("description", ""))
        for key in schema["required"]
        if key not in value
    ]


def followed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with its reference resolved."""
    if "$ref" not in schema:
        return schema
    definition: Mapping[str, Any] = manifest_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return definition


def _unknown(path: KeyPath, value: Any, schema: Mapping[str, Any], _: str | None) -> list[Finding]:
    known = list(schema["properties"])
    findings = []
    for key in value:
        if key not in known:
            suggestion = did_you_mean(key, (name for name in known if name not in value))
            message = f"unknown key `{shorten(key)}`{suggestion}"
            findings.append(Finding((*path, key), message, f"Known keys: {', '.join(known)}."))
    return findings


_DESCRIPTIONS: Mapping[str, Callable[[KeyPath, Any, Mapping[str, Any], str | None], list[Finding]]] = {
    "type": _type,
    "minimum": _limits,
    "maximum": _limits,
    "exclusiveMinimum": _limits,
    "exclusiveMaximum": _limits,
    "enum": _enum,
    "pattern": _pattern,
    "maxLength": _too_long,
    "minProperties": _empty,
    "maxProperties": _too_many,
    "minItems": _empty,
    "maxItems": _too_many_items,
    "uniqueItems": _not_unique,
    "oneOf": _one_of,
    "dependentRequired": _dependent,
    "required": _missing,
    "additionalProperties": _unknown,
}
"""Keyword of the schema -> the description of its error."""
