"""Edits of models.yaml that touch nothing but what they change: comments, order, quotes and spacing stay.

Comes in: the file's text. Goes out: the new text, which is a right manifest again. Called by `turnout add`.

An edit inserts characters at one place, which the marks of the YAML nodes tell, in the style of the entry before it.
Loading and dumping, even with comments kept, would lay out anew lines that nobody asked to change. What an edit made is
read again and compared with what it should have made, so a file that is laid out in a way not foreseen here is refused
rather than spoilt.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from turnout.manifest import Manifest, parse_manifest
from turnout.problems import ProblemsError
from turnout.references import REST
from turnout.wording import flow
from turnout.yaml_source import read_yaml


class EditError(Exception):
    """The edit cannot be made; the message is a sentence, `hint` the remedy or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def add_version(text: str, model: str, version: str, fields: Mapping[str, Any], *, source: str = "models.yaml") -> str:
    """The manifest with one more version, the newest of its model.

    A model that is not there is made, and every stage that does not serve `"*": newest` then serves it: a stage that
    leaves a model out is not right. `serving_changes` tells what that means.

    Args:
        text: the manifest.
        model: the model's name.
        version: the version's name.
        fields: what stands in the version: `artifact`, `sha256` and so on, in this order.
        source: the file's name, for messages.

    Raises:
        EditError: the version is there already, or the file is laid out in a way that cannot be edited.
        ProblemsError: the manifest is not right, or would not be with this version.
    """
    manifest = parse_manifest(text.encode(), path=Path(source), source=source)
    versions = {row.name: [v.name for v in row.versions] for row in manifest.models}
    if version in versions.get(model, ()):
        raise EditError(f"{model} has a version {version} already", "A version is immutable: give it a new name.")
    if model in versions:
        text = insert_entry(text, ("models", model, "versions"), version, dict(fields))
    else:
        text = insert_entry(text, ("models",), model, {"versions": {version: dict(fields)}})
        for stage, body in read_yaml(text.encode(), source=source).tree["stages"].items():
            if "serve" not in body:
                text = insert_entry(text, ("stages", stage), "serve", {model: version})
            elif REST not in body["serve"]:
                text = insert_entry(text, ("stages", stage, "serve"), model, version)
    parse_manifest(text.encode(), path=Path(source), source=source)
    return text


def serving_changes(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """What the stages serve now and did not before, a phrase each: `dev serves iris v3, and served v2`."""
    changes = []
    for stage in after.stages:
        old = next((row.serve for row in before.stages if row.name == stage.name), {})
        for model, version in stage.serve.items():
            if old.get(model) != version:
                was = f", and served {old[model]}" if model in old else ""
                changes.append(f"{stage.name} serves {model} {version}{was}")
    return tuple(changes)


def insert_entry(text: str, path: tuple[str, ...], key: str, value: Any) -> str:
    """The text with `key: value` as the last entry of the mapping at `path`, in the style of the entries there.

    Raises:
        EditError: the file is laid out in a way that cannot be edited; the hint says what to write by hand.
    """
    before = read_yaml(text.encode(), source="").tree
    node = _find(yaml.compose(text, Loader=yaml.SafeLoader), path)
    start, end, inserted = (_in_flow if node.flow_style else _in_block)(text, node, key, value)
    edited = text[:start] + inserted + text[end:]
    expected = copy.deepcopy(before)
    mapping = expected
    for name in path:
        mapping = mapping[name]
    mapping[key] = value
    try:
        made = read_yaml(edited.encode(), source="")
        is_right = not made.problems and flow(made.tree) == flow(expected)  # the order counts, too
    except ProblemsError:
        is_right = False
    if not is_right:
        hint = f"Add this by hand below {'.'.join(path)}: `{flow(key)}: {flow(value)}`"
        raise EditError("the file is laid out in a way that cannot be edited", hint)
    return edited


def _find(node: Any, path: tuple[str, ...]) -> Any:
    """The mapping's node at a path that is there."""
    for name in path:
        node = _child(node, name)
    return node


def _child(node: Any, key: str) -> Any:
    return next((value for name, value in node.value if name.value == key), None)


def _in_flow(text: str, node: Any, key: str, value: Any) -> tuple[int, int, str]:
    """What to put for which characters, in a mapping within braces."""
    entry = f"{flow(key)}: {flow(value)}"
    if not node.value:
        after, close = node.start_mark.index + 1, node.end_mark.index - 1
        return after, close if text[after:close].isspace() else after, entry
    name, last = node.value[-1]
    after, close = last.end_mark.index, node.end_mark.index - 1
    gap = re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), text[after:close])
    comma = gap.find(",")
    if text[: name.start_mark.index].rpartition("\n")[2].strip():  # several entries on the last one's line
        return (after, after, f", {entry}") if comma < 0 else (after + comma + 1, after + comma + 1, f" {entry},")
    rest = text[after : min(_end_of_line(text, after + max(comma, 0)), close)]
    line = f"{_line_break(text)}{' ' * name.start_mark.column}{entry}"
    return after, after + len(rest), f",{rest}{line}" if comma < 0 else f"{rest}{line},"


def _in_block(text: str, node: Any, key: str, value: Any) -> tuple[int, int, str]:
    """What to put for which characters, in a mapping of indented lines."""
    name, last = node.value[-1]
    lines = _lines(key, value, node.start_mark.column, last)
    before = text[: name.start_mark.index].split("\n")
    if len(node.value) > 1 and not before[-2].strip() and isinstance(value, Mapping):
        lines.insert(0, "")  # the entries are parted by empty lines
    after, line_break = _end(last), _line_break(text)
    if text[:after].endswith("\n"):  # a block of text ends where the next line begins
        return after, after, "".join(f"{line}{line_break}" for line in lines)
    at = _end_of_line(text, after)
    return at, at, "".join(f"{line_break}{line}" for line in lines)


def _lines(key: str, value: Any, indent: int, like: Any) -> list[str]:
    """An entry, each mapping in it laid out as its counterpart in `like`."""
    first = f"{' ' * indent}{flow(key)}:"
    if not isinstance(value, Mapping) or not isinstance(like, yaml.MappingNode) or like.flow_style:
        return [f"{first} {flow(value)}"]
    lines = [first]
    inner = like.value[0][0].start_mark.column
    for name, item in value.items():
        lines += _lines(name, item, max(inner, indent + 1), _child(like, name) or like.value[-1][1])
    return lines


def _end(node: Any) -> int:
    """Where a node's last character is: a block mapping's own mark stands only before the next token."""
    while isinstance(node, yaml.MappingNode) and not node.flow_style:
        node = node.value[-1][1]
    index: int = node.end_mark.index
    return index


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return end - 1 if text[:end].endswith("\r") else end


def _line_break(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
