"""Reads a YAML file as plain data with the position of every key; it rejects YAML's surprising features.

Features of YAML that a manifest never needs are rejected, so nothing in a file can grow or have another meaning to
another reader: anchors, aliases, merge keys, tags, several documents, deep nesting. Keys are the text as written: a
version with the name `010` or `on` keeps it. A value that YAML 1.1 and YAML 1.2 read differently (`on`, `010`, `1e3`,
`2024-01-01`) becomes an `Ambiguous`, which matches no type, so the check of types asks for quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from turnout.problems import Problem, ProblemsError
from turnout.yaml_text.syntax_errors import describe_syntax_error, split_lines

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 100_000
MAX_PROBLEMS = 100

KeyPath = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])(?:0|[1-9][0-9]{0,17})?\.[0-9]{0,18}")
_WRITE_OUT = "Write the value out. Use `defaults` for values that versions share."
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Texts that YAML 1.1 and YAML 1.2 parse differently, at least one of them not as a string.
_AMBIGUOUS = re.compile(
    r"""(?ix) yes|no|on|off
    | [-+]?[0-9][0-9_]*(:[0-9_]+)*(\.[0-9_]*)?(e[-+]?[0-9]+)?    # 010, 1_000, 12:30, 1e3, longer than we count
    | [-+]?\.[0-9][0-9_]*(e[-+]?[0-9]+)?                         # .5e3
    | [-+]?0[xob][0-9a-f_]+                                      # 0x1F, 0o17, 0b1
    | [-+]?\.(inf|nan)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([t\x20][0-9:.\x20tz+-]*)?   # 2024-01-01, with or without a time
    """
)


def find_forbidden(text: str) -> str:
    """Return the first character of a text that no value may contain, such as `U+001B`; empty if there is none."""
    match = _FORBIDDEN.search(text)
    return f"U+{ord(match[0]):04X}" if match else ""


@dataclass(frozen=True, slots=True)
class Position:
    """A key's position in the file, 1-based."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A value without quotes that YAML 1.1 and 1.2 parse differently."""

    text: str


@dataclass(frozen=True, slots=True)
class YamlSource:
    """One file, read.

    Args:
        source: the file's name, for messages.
        data: its bytes.
        tree: mappings, lists, text, numbers, booleans, `None` and `Ambiguous`; keys are always text.
        positions: key path -> the position of the key (or of the list's item).
        numbers: key path -> a number as written, if that differs from Python's form.
        problems: errors that leave the rest readable: a duplicate key (the first one counts), an anchor.
        unread: key paths whose value is reported in `problems` and is `None` in the tree: aliases.
    """

    source: str
    data: bytes
    tree: Any
    positions: Mapping[KeyPath, Position]
    numbers: Mapping[KeyPath, str]
    problems: tuple[Problem, ...] = ()
    unread: frozenset[KeyPath] = frozenset()

    def problem(self, path: KeyPath, message: str, hint: str = "") -> Problem:
        """Return a problem at `path`, with the position of the key or of its nearest ancestor in the file."""
        return problem_at(self.positions, self.source, path, message, hint)


def problem_at(
    positions: Mapping[KeyPath, Position], source: str, path: KeyPath, message: str, hint: str = ""
) -> Problem:
    """Return a problem at `path` of a file whose keys are at `positions`."""
    at = nearest_position(positions, path)
    return Problem(message, path, source, at.line, at.column, hint)


def nearest_position(positions: Mapping[KeyPath, Position], path: KeyPath) -> Position:
    """Return the position of `path`, or of its nearest ancestor in the file."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(1, 1))


def read_yaml(data: bytes, *, source: str) -> YamlSource:
    """Read one file.

    Raises:
        ProblemsError: the file cannot be checked further; each problem has a line and a column.
    """
    text = _decode(data, source)
    reader = _Reader(source)
    try:
        complete = reader.read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        reader.problems.append(describe_syntax_error(error, text, source))
        complete = False
    if complete and not isinstance(reader.tree, dict):
        what = "is empty" if reader.tree is None else "must be a mapping with keys at its top level"
        reader.report(what, (), Position(1, 1), "Begin with `models:` and `stages:`.")
        complete = False
    if not complete:
        raise ProblemsError(tuple(reader.problems))
    return YamlSource(
        source, data, reader.tree, reader.positions, reader.numbers, tuple(reader.problems), frozenset(reader.unread)
    )


def _decode(data: bytes, source: str) -> str:
    """Return the text after checking that every YAML reader sees the same characters."""

    def refuse(message: str, before: str, hint: str) -> ProblemsError:
        lines = split_lines(before)
        at = Position(len(lines), len(lines[-1]) + 1)
        return ProblemsError((Problem(message, source=source, line=at.line, column=at.column, hint=hint),))

    if len(data) > MAX_BYTES:
        hint = "A manifest names files and does not contain them: check that this is the right file."
        raise refuse(f"is larger than {MAX_BYTES / 1e6:.0f} MB", "", hint)
    if data.startswith(_BYTE_ORDER_MARKS):
        raise refuse("starts with a byte order mark", "", "Save the file as UTF-8 without a byte order mark.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise refuse(f"byte 0x{data[error.start]:02X} is not UTF-8", before, "Save the file as UTF-8.") from None
    if match := _FORBIDDEN.search(text):
        name = "a NUL" if match[0] == "\0" else f"the control character U+{ord(match[0]):04X}"
        raise refuse(f"contains {name}", text[: match.start()], "Delete it.")
    return text


@dataclass(slots=True)
class _Frame:
    """An open mapping or list; `key` is the mapping's key that has no value yet."""

    container: dict[str, Any] | list[Any]
    path: KeyPath
    counts: bool  # False below a duplicate key, where nothing is stored
    key: str | None = None
    key_counts: bool = True


class _Reader:
    """Builds the tree from events, iteratively, so that no nesting can exhaust the stack."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree: Any = None
        self.positions: dict[KeyPath, Position] = {}
        self.numbers: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self.unread: set[KeyPath] = set()
        self._frames: list[_Frame] = []

    def report(self, message: str, path: KeyPath, at: Position, hint: str = "") -> None:
        """Add one problem."""
        self.problems.append(Problem(message, path, self.source, at.line, at.column, hint))

    def read(self, events: Iterable[Any]) -> bool:
        """Read the only document, and return whether all of it could be read."""
        documents = nodes = 0
        for event in events:
            match event:
                case yaml.NodeEvent():
                    nodes += 1
                    if self._is_too_much(event, nodes) or not self._node(event):
                        return False
                case yaml.CollectionEndEvent():
                    self._frames.pop()
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self.report(
                            "contains several documents", (), _position(event), "Delete `---` and what follows."
                        )
                        return False
        return True

    def _is_too_much(self, event: Any, nodes: int) -> bool:
        """Return whether to stop because of size, and report a problem if so."""
        if len(self._frames) > MAX_DEPTH:
            self.report(f"is nested more than {MAX_DEPTH} levels deep", (), _position(event))
        elif nodes > MAX_NODES:
            self.report(f"contains more than {MAX_NODES:,} keys and values", (), _position(event))
        elif len(self.problems) >= MAX_PROBLEMS:
            self.report(f"contains more than {MAX_PROBLEMS} problems: the rest is not checked", (), _position(event))
        else:
            return False
        return True

    def _node(self, event: Any) -> bool:
        """Process one scalar, or the start of a mapping or list; return False if reading cannot continue."""
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            return self._key(event, frame)
        path = self._next_path(event, frame)
        counts = frame is None or (frame.counts and frame.key_counts)
        self._refuse_extras(event, path)
        value = self._value(event, path)
        if frame is None:
            self.tree = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.key is not None:
            if counts:
                frame.container[frame.key] = value
            frame.key = None
        if isinstance(value, dict | list):
            self._frames.append(_Frame(value, path, counts))
        return True

    def _next_path(self, event: Any, frame: _Frame | None) -> KeyPath:
        """Return the key path of the value that starts here."""
        if frame is None:
            self.positions[()] = _position(event)
            return ()
        if isinstance(frame.container, dict):
            return (*frame.path, str(frame.key))
        path = (*frame.path, len(frame.container))
        if frame.counts:
            self.positions[path] = _position(event)
        return path

    def _key(self, event: Any, frame: _Frame) -> bool:
        """Process one key of a mapping."""
        at = _position(event)
        if not isinstance(event, yaml.ScalarEvent):
            hint = "Quote text that begins with `{`, `[` or `*`."
            self.report("a key must be text", frame.path, at, hint)
            return False
        frame.key, frame.key_counts = event.value, True
        path = (*frame.path, frame.key)
        if not event.value.isprintable():
            odd = next(char for char in event.value if not char.isprintable())
            frame.key, frame.key_counts = ascii(event.value), False
            self.report(f"a key contains the character U+{ord(odd):04X}", frame.path, at, "Delete it.")
            return True
        self._refuse_extras(event, path)
        if event.value == "<<" and event.implicit[0]:
            frame.key_counts = False
            self.report("merge keys are not supported", path, at, _WRITE_OUT)
        elif frame.key in frame.container:
            frame.key_counts = False
            first = self.positions.get(path)
            where = f", first defined on line {first.line}" if first else ""
            self.report(f"duplicate key{where}", path, at, "Delete one of the two.")
        elif frame.counts:
            self.positions[path] = at
        return True

    def _refuse_extras(self, event: Any, path: KeyPath) -> None:
        """Report anchors, tags, and forbidden characters from escapes."""
        at = _position(event)
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self.report(f"anchors and aliases are not supported (`{sign}{event.anchor}`)", path, at, _WRITE_OUT)
        if getattr(event, "tag", None) is not None:
            tag = event.tag.encode("unicode_escape").decode()[:60]
            self.report(f"tags are not supported (`{tag}`)", path, at, "Delete the tag. Quotes make a value text.")
        if getattr(event, "style", None) == '"' and (forbidden := find_forbidden(event.value)):
            self.report(f"contains the control character {forbidden}", path, at, "Delete the escape.")

    def _value(self, event: Any, path: KeyPath) -> Any:
        """Return the value that starts here; a mapping or list is still empty."""
        match event:
            case yaml.MappingStartEvent():
                return {}
            case yaml.SequenceStartEvent():
                return []
            case yaml.ScalarEvent():
                value = event.value if not event.implicit[0] else resolve(event.value)
                if isinstance(value, int | float) and str(value) != event.value:
                    self.numbers[path] = event.value
                return value
        self.unread.add(path)  # an alias
        return None


def resolve(text: str) -> Any:
    """Return the meaning of a value without quotes: nothing, a boolean, a number, text, or `Ambiguous`."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0].isalpha() and len(text) > 3:
        return text  # most values, and none of the forms below
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return Ambiguous(text) if _AMBIGUOUS.fullmatch(text) else text


def _position(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)
