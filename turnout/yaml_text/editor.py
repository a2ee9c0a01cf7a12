"""Edits a YAML file without changing anything else: comments, order, quotes and spacing stay.

An edit changes characters at one place, which the positions of the YAML nodes determine, in the style of the entries
there. Loading and dumping, even with comments kept, would reformat unchanged lines. The result of an edit is read again
and compared with the expected result, so a file with an unforeseen layout is refused rather than damaged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from turnout.problems import ProblemsError, TurnoutError
from turnout.yaml_text.quoting import flow
from turnout.yaml_text.reader import YamlSource, find_forbidden, read_yaml

Path = tuple[str, ...]


class EditError(TurnoutError):
    """The edit cannot be made."""


class YamlEdit:
    """One or more edits of a text that was read; `finish` reads the result once."""

    def __init__(self, read: YamlSource) -> None:
        self._source = read.source
        self._text = read.data.decode()
        self._expected = copy.deepcopy(read.tree)
        self._hints: list[str] = []

    def insert(self, path: Path, key: str, value: Any) -> None:
        """Add `key: value` as the last entry of the mapping at `path`, in the style of the entries there.

        Raises:
            EditError: a name or a value contains a control character.
        """
        _check_characters({key: value})
        node = self._find(path)
        start, end, inserted = (_in_flow if node.flow_style else _in_block)(self._text, node, key, value)
        self._text = self._text[:start] + inserted + self._text[end:]
        self._hints.append(f"Add this by hand below {'.'.join(path)}: `{flow(key)}: {flow(value)}`")
        self._mapping(path)[key] = value

    def set(self, path: Path, key: str, value: Any) -> None:
        """Replace the value of an existing key with `key: value`, or add it as the last entry.

        Raises:
            EditError: as `insert`.
        """
        _check_characters({key: value})
        old = _child(self._find(path), key)
        if old is None:
            self.insert(path, key, value)
            return
        self._text = self._text[: old.start_mark.index] + flow(value) + self._text[_end(old) :]
        self._hints.append(f"Change this by hand at {'.'.join(path)}: `{flow(key)}: {flow(value)}`")
        self._mapping(path)[key] = value

    def remove(self, path: Path, key: str) -> None:
        """Delete an existing entry of the mapping at `path`; it must not be the only one of a mapping in lines.

        Comments above the entry stay; comments on its lines and more deeply indented ones below it are deleted.
        """
        text, node = self._text, self._find(path)
        index = next(number for number, (name, _) in enumerate(node.value) if name.value == key)
        cuts = _flow_cuts(text, node, index) if node.flow_style else [_block_cut(text, node, index)]
        for start, end in sorted(cuts, reverse=True):
            text = text[:start] + text[end:]
        self._text = text
        self._hints.append(f"Delete this by hand: {'.'.join((*path, key))}")
        del self._mapping(path)[key]

    def finish(self) -> YamlSource:
        """Return the edited file after checking that it has the old content with the changes.

        Raises:
            EditError: the layout of the file cannot be edited automatically; the hint shows what to write by hand.
        """
        try:
            made = read_yaml(self._text.encode(), source=self._source)
        except ProblemsError:
            raise self._refusal() from None
        if made.problems or flow(made.tree) != flow(self._expected):  # the order must match, too
            raise self._refusal()
        return made

    def _find(self, path: Path) -> Any:
        """Return the node of an existing mapping at a path."""
        try:
            node = yaml.compose(self._text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:  # an earlier edit broke it
            raise self._refusal() from None
        for name in path:
            node = None if node is None else _child(node, name)
        if node is None:
            raise self._refusal()
        return node

    def _mapping(self, path: Path) -> dict[str, Any]:
        mapping = self._expected
        for name in path:
            mapping = mapping[name]
        made: dict[str, Any] = mapping
        return made

    def _refusal(self) -> EditError:
        return EditError("the layout of the file cannot be edited automatically", ". ".join(self._hints))


def _check_characters(value: Any) -> None:
    """Reject characters that could not be read again: names of files may contain any character."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_characters(key)
            _check_characters(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_characters(inner)
    elif isinstance(value, str) and (match := find_forbidden(value)):
        raise EditError(f"{value!r} holds the control character {match}", "Rename it without the character.")


def insert_entry(text: str, path: Path, key: str, value: Any) -> str:
    """Return the text with one more entry; see `YamlEdit.insert` and `YamlEdit.finish`."""
    return _edit(text, lambda edit: edit.insert(path, key, value))


def set_entry(text: str, path: Path, key: str, value: Any) -> str:
    """Return the text with an entry set; see `YamlEdit.set` and `YamlEdit.finish`."""
    return _edit(text, lambda edit: edit.set(path, key, value))


def remove_entry(text: str, path: Path, key: str) -> str:
    """Return the text without an entry; see `YamlEdit.remove` and `YamlEdit.finish`."""
    return _edit(text, lambda edit: edit.remove(path, key))


def _edit(text: str, change: Callable[[YamlEdit], None]) -> str:
    edit = YamlEdit(read_yaml(text.encode(), source=""))
    change(edit)
    return edit.finish().data.decode()


def _child(node: Any, key: str) -> Any:
    return next((value for name, value in node.value if name.value == key), None)


def _in_flow(text: str, node: Any, key: str, value: Any) -> tuple[int, int, str]:
    """Return the characters to replace and their replacement, in a mapping within braces."""
    entry = f"{flow(key)}: {flow(value)}"
    if not node.value:
        after, close = node.start_mark.index + 1, node.end_mark.index - 1
        return after, close if text[after:close].isspace() else after, entry
    name, last = node.value[-1]
    after, close = last.end_mark.index, node.end_mark.index - 1
    comma = _without_comments(text[after:close]).find(",")
    if text[: name.start_mark.index].rpartition("\n")[2].strip():  # the last line holds several entries
        return (after, after, f", {entry}") if comma < 0 else (after + comma + 1, after + comma + 1, f" {entry},")
    rest = text[after : min(_end_of_line(text, after + max(comma, 0)), close)]
    line = f"{_line_break(text)}{' ' * name.start_mark.column}{entry}"
    return after, after + len(rest), f",{rest}{line}" if comma < 0 else f"{rest}{line},"


def _in_block(text: str, node: Any, key: str, value: Any) -> tuple[int, int, str]:
    """Return the characters to replace and their replacement, in a mapping of indented lines."""
    name, last = node.value[-1]
    lines = _lines(key, value, node.start_mark.column, last)
    before = text[: name.start_mark.index].split("\n")
    if len(node.value) > 1 and not before[-2].strip() and isinstance(value, Mapping):
        lines.insert(0, "")  # entries are separated by empty lines
    after, line_break = _end(last), _line_break(text)
    if text[:after].endswith("\n"):  # a block scalar ends where the next line starts
        return after, after, "".join(f"{line}{line_break}" for line in lines)
    at = _end_of_line(text, after)
    return at, at, "".join(f"{line_break}{line}" for line in lines)


def _lines(key: str, value: Any, indent: int, like: Any) -> list[str]:
    """Return the lines of an entry, each mapping in it formatted like its counterpart in `like`."""
    first = f"{' ' * indent}{flow(key)}:"
    if not isinstance(value, Mapping) or not isinstance(like, yaml.MappingNode) or like.flow_style:
        return [f"{first} {flow(value)}"]
    lines = [first]
    inner = like.value[0][0].start_mark.column
    for name, item in value.items():
        lines += _lines(name, item, max(inner, indent + 1), _child(like, name) or like.value[-1][1])
    return lines


def _flow_cuts(text: str, node: Any, index: int) -> list[tuple[int, int]]:
    """Return the characters to delete for an entry within braces, including one comma."""
    name, value = node.value[index]
    start, end = name.start_mark.index, value.end_mark.index
    if index + 1 < len(node.value):
        return [(start, node.value[index + 1][0].start_mark.index)]
    close = node.end_mark.index - 1
    comma = _without_comments(text[end:close]).find(",")
    if index == 0:
        return [(start, end if comma < 0 else end + comma + 1)]
    before = node.value[index - 1][1].end_mark.index
    if text[:start].rpartition("\n")[2].strip():  # the entry shares its line with the previous one
        return [(before, end)]
    own_line = (text.rindex("\n", 0, start), min(_end_of_line(text, end), close))
    if own_line[1] == close:  # the closing brace follows the remaining text, unless that ends in a comment
        is_comment = "#" in text[before : own_line[0]]
        own_line = (own_line[0] + is_comment, end if comma < 0 else end + comma + 1)
    if comma >= 0:  # the entry ended with a comma, so the previous one does, too
        return [own_line]
    separator = before + _without_comments(text[before:start]).index(",")
    return [(separator, separator + 1), own_line]


def _block_cut(text: str, node: Any, index: int) -> tuple[int, int]:
    """Return the lines to delete for an entry of indented lines, including comments that are more deeply indented."""
    name, value = node.value[index]
    start = text.rfind("\n", 0, name.start_mark.index) + 1
    end = _end(value)
    if not text[:end].endswith("\n"):  # a block scalar ends where the next line starts
        end = _start_of_next_line(text, end)
    while (line := text[end : _start_of_next_line(text, end)]).lstrip(" ").startswith("#"):
        if len(line) - len(line.lstrip(" ")) <= name.start_mark.column:
            break
        end += len(line)
    return start, end


def _end(node: Any) -> int:
    """Return the position of a node's last character: a block mapping's own end mark is just before the next token."""
    while isinstance(node, yaml.MappingNode) and not node.flow_style:
        node = node.value[-1][1]
    index: int = node.end_mark.index
    return index


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return end - 1 if text[:end].endswith("\r") else end


def _start_of_next_line(text: str, index: int) -> int:
    return text.find("\n", index) + 1 or len(text)


def _without_comments(text: str) -> str:
    """Return the text with its comments replaced by blanks, so that positions stay."""
    return re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), text)


def _line_break(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
