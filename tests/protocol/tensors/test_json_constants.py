"""JSON with unquoted NaN and infinities, as tritonclient writes it."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.tensors.json_constants import SPELLED, read_with_constants

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text() | st.sampled_from(["NaN", '"']),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def spelled(document: Any) -> Any:
    """Return the document with comparable texts, because NaN does not equal itself."""
    if isinstance(document, float) and not math.isfinite(document):
        return ("word", repr(document))
    if isinstance(document, list):
        return [spelled(entry) for entry in document]
    return {key: spelled(entry) for key, entry in document.items()} if isinstance(document, dict) else document


@given(DOCUMENTS)
def test_json_written_by_python_is_read_unchanged(document: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only).encode(errors="replace")
        assert spelled(read_with_constants(text)) == spelled(json.loads(text))


def test_words_in_strings_and_keys_are_unchanged() -> None:
    text = b'{"NaN": ["Infinity", "\\"NaN", "a\\\\", NaN, -Infinity], "x": Infinity}'
    read = read_with_constants(text)
    assert read["NaN"][:3] == ["Infinity", '"NaN', "a\\"]
    assert math.isnan(read["NaN"][3])
    assert (read["NaN"][4], read["x"]) == (-math.inf, math.inf)


def test_words_can_be_read_as_strings() -> None:
    assert read_with_constants(b"[NaN, -Infinity, 1]", SPELLED) == ["NaN", "-Infinity", 1]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"[NaN, -Infinity, nan]", 17),
        (b"[NaN, Infinity", 14),
        (b"[+Infinity, NaN]", 1),
        (b'[NaN, "abc', 6),
        (b'[NaN, "abc\\', 6),
        (b"NaN NaN", 4),
        (b"[1, 2", 5),
    ],
)
def test_other_syntax_errors_are_reported_with_their_place(text: bytes, position: int) -> None:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        read_with_constants(text)
    assert abs(caught.value.pos - position) <= 5


def test_an_unterminated_string_is_scanned_once() -> None:
    """A million escaped quotes: if each were tried again, this would take hours."""
    with pytest.raises(orjson.JSONDecodeError):
        read_with_constants(b'[NaN, "' + b'\\"' * 1_000_000)
