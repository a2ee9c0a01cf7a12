from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.wording import printable, printable_json, printable_lines, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (3482, "3.4 KB"),
        (262_144_000, "250.0 MB"),
        (2**31, "2.0 GB"),
        (2**42, "4,096.0 GB"),
    ],
)
def test_sizes_are_shown_in_the_fitting_unit(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "x"),
        ("größe ☃", "größe ☃"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\t", "a\\nb\\t"),
        ("\u202eabc", "\\u202eabc"),
        ("\x9b\udc80", "\\x9b\\udc80"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_means_the_same(value: object) -> None:
    for indent in (None, 2, "\t"):
        escaped = printable_json(json.dumps(value, indent=indent, ensure_ascii=False))
        assert json.loads(escaped) == value
        assert all(line.isprintable() for line in escaped.split("\n"))
