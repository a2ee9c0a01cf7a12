"""Describes YAML syntax errors in words about the file, not about the parser."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from turnout.problems import Problem

_INDENTATION = "Indent all keys of a mapping to the same column, and their values further to the right."
_QUOTES = "Quote text that contains `: ` or begins with one of `@ % ` & * ! | > { [ ] } , # ? -`."

_SPACE = "A key ends in `: `, with a space."
_MIDDLE = "Check for a missing or extra comma or quote. Inside single quotes, write a quote twice."

# libyaml's wording -> whether to point to where the construct started, the message, and the remedy.
_SENTENCES: Mapping[str, tuple[bool, str, str]] = {
    "found unexpected end of stream": (True, "the quote that begins here is not closed", "Close it."),
    "could not find expected ':'": (True, "a `:` is missing after this key", "Write `key: value`."),
    "did not find expected ',' or '}'": (True, "the `{` here is not closed, or a comma is missing in it", ""),
    "did not find expected ',' or ']'": (True, "the `[` here is not closed, or a comma is missing in it", ""),
    "mapping values are not allowed in this context": (
        False,
        "a `:` is not allowed here",
        f"{_SPACE} {_INDENTATION} {_QUOTES}",
    ),
    "did not find expected <document start>": (False, "this does not follow from the lines above it", _SPACE),
    "found unexpected ':'": (False, "a value is missing after this `:`, or a space", ""),
    "mapping keys are not allowed in this context": (False, "a text cannot begin with `? `", _QUOTES),
    "did not find expected alphabetic or numeric character": (
        True,
        "text that begins with `*` or `&` is an alias or an anchor in YAML",
        'Put it in quotes: `"*": newest`.',
    ),
    "did not find expected comment or line break": (
        True,
        "`|` and `>` begin a text of several lines, which starts on the next line",
        _QUOTES,
    ),
    "did not find expected key": (False, "this does not fit the lines above it", _INDENTATION),
    "did not find expected '-' indicator": (False, "this does not fit the list above it", _INDENTATION),
    "did not find expected node content": (False, "a value is missing before this", ""),
    "found character that cannot start any token": (False, "a text cannot begin with this character", _QUOTES),
    "found unknown escape character": (
        False,
        "unknown escape: a backslash inside double quotes begins an escape",
        "Use single quotes, or write the backslash twice.",
    ),
    "did not find expected hexdecimal number": (
        False,
        "incomplete escape: a backslash inside double quotes begins an escape",
        "Use single quotes, or write the backslash twice.",
    ),
    "block sequence entries are not allowed in this context": (False, "a list cannot begin here", _QUOTES),
}


def describe_syntax_error(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """Return a sentence with a line and a column of the file."""
    lines = split_lines(text)
    at, began = error.problem_mark, error.context_mark
    from_start, message, hint = _SENTENCES.get(error.problem or "", (False, f"is not YAML: {error.problem}", ""))
    position = began if from_start and began is not None else at or began
    line, column = (position.line, position.column) if position is not None else (0, 0)
    if line >= len(lines) or (line == len(lines) - 1 and not lines[line] and line):
        line = max(len(lines) - 2, 0) if not lines[-1] else len(lines) - 1
        column = len(lines[line])
    if hint is _INDENTATION and lines[line][:column].strip():
        message, hint = "this does not fit the text before it on this line", _MIDDLE
    if "\t" in _indentation(lines[line]) and not from_start:
        column = lines[line].index("\t")
        message, hint = "a tab cannot indent", "Use spaces."
    return Problem(message, (), source, line + 1, column + 1, hint)


def split_lines(text: str) -> list[str]:
    """Return the lines as YAML counts them, one more than there are line breaks."""
    return re.split(r"\r\n|\r|\n", text)


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
