"""Edits of YAML text change only the intended characters."""

from __future__ import annotations

import difflib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.yaml_text.editor import EditError, insert_entry, remove_entry, set_entry
from turnout.yaml_text.quoting import flow
from turnout.yaml_text.reader import read_yaml


def test_layout_that_cannot_be_edited_is_rejected_with_the_text_to_write() -> None:
    text = "a: {b: }\n"
    with pytest.raises(EditError) as caught:
        insert_entry(text, ("a",), "d", {"e": 1})
    assert caught.value.hint == "Add this by hand below a: `d: {e: 1}`"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s: {a: 1, b: 2}\n", "s: {a: 1, b: 3}\n"),
        ("s: {a: 1, b:   'x'  # note\n  }\n", "s: {a: 1, b:   3  # note\n  }\n"),
        ("s:\n  a: 1\n  b: {c: 1}  # note\n  d: 4", "s:\n  a: 1\n  b: 3  # note\n  d: 4"),
        ("s:\r\n  b: 2 # x\r\n", "s:\r\n  b: 3 # x\r\n"),
        ("s:\n  a: 1\n", "s:\n  a: 1\n  b: 3\n"),
    ],
)
def test_value_is_set_in_place_or_added(before: str, after: str) -> None:
    assert set_entry(before, ("s",), "b", 3) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s: {a: 1, b: 2}\n", "s: {a: 1}\n"),
        ("s: {b: 2, a: 1}\n", "s: {a: 1}\n"),
        ("s: { b: 2 }\n", "s: {  }\n"),
        ("s: {b: 2,}\n", "s: {}\n"),
        ("s: {a: 1, b: 2,}\n", "s: {a: 1,}\n"),
        ("s: {a: 1, b: {c: [1, 2]}, d: 3}\n", "s: {a: 1, d: 3}\n"),
        ("s: {\n  a: 1,  # x, y\n  b: 2  # z\n}\n", "s: {\n  a: 1  # x, y\n}\n"),
        ("s: {\n  a: 1,  # x, y\n  b: 2,  # z\n}\n", "s: {\n  a: 1,  # x, y\n}\n"),
        ("s: {\n  a: 1,\n  b: 2}\n", "s: {\n  a: 1}\n"),
        ("s: {\n  a: 1,\n  b: 2,}\n", "s: {\n  a: 1,}\n"),
        ("s:\n  a: 1\n  b: 2  # z\n  c: 3\n", "s:\n  a: 1\n  c: 3\n"),
        ("s:\n  a: 1\n  b: 2", "s:\n  a: 1\n"),
        (
            "s:\n  a: 1\n  # above\n  b:  # one\n    c: 1\n    # d: 2\n  # beside\n  e: 1\n",
            "s:\n  a: 1\n  # above\n  # beside\n  e: 1\n",
        ),
        ("s:\n  b: |\n    two\n    lines\n  a: 1\n", "s:\n  a: 1\n"),
        ("s:\r\n  a: 1\r\n  b: {c: 1}\r\nt: 1\r\n", "s:\r\n  a: 1\r\nt: 1\r\n"),
    ],
)
def test_entry_is_removed_and_nothing_else(before: str, after: str) -> None:
    assert remove_entry(before, ("s",), "b") == after


def test_only_entry_of_a_block_mapping_is_not_removed() -> None:
    with pytest.raises(EditError) as caught:
        remove_entry("s:\n  b: 2\n", ("s",), "b")
    assert caught.value.hint == "Delete this by hand: s.b"


names = st.from_regex(r"[a-z][a-z0-9]{0,3}", fullmatch=True)
trees = st.recursive(
    st.sampled_from(["x", 1, 1.5, True, "on", "a b", "c: d", "# e", ""]),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def render(tree: dict[str, object], draw: st.DrawFn, indent: int = 0) -> str:
    """Return a tree as YAML in a random layout."""
    step = draw(st.integers(1, 4))
    lines = []
    for key, value in tree.items():
        head = f"{' ' * indent}{key}:"
        comment = draw(st.sampled_from(["", "  # note", "   # {a: b, c}"]))
        if isinstance(value, dict) and draw(st.booleans()):
            lines.append(f"{head}{comment}\n{render(value, draw, indent + step)}")
        else:
            lines.append(f"{head} {flow_of(value, draw, indent + step)}{comment}\n")
        lines.append(draw(st.sampled_from(["", "", "\n", f"{' ' * indent}# between\n"])))
    return "".join(lines)


def flow_of(value: object, draw: st.DrawFn, indent: int) -> str:
    """Return a value in flow style, on one line or several."""
    if not isinstance(value, dict):
        return flow(value)
    gap = draw(st.sampled_from(["", " ", f"\n{' ' * indent}", f" # c, d}}\n{' ' * indent}"]))
    inside = f",{gap or ' '}".join(f"{key}: {flow_of(item, draw, indent + 1)}" for key, item in value.items())
    return "{" + gap + inside + draw(st.sampled_from(["", ",", gap])) + "}"


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, tuple[str, ...]]:
    """A document, and the path of one of its mappings."""
    tree = draw(st.dictionaries(names, trees, min_size=1, max_size=3))
    path: tuple[str, ...] = ()
    inside: object = tree
    while isinstance(inside, dict) and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(inside)))
        if not isinstance(inside[key], dict):
            break
        path, inside = (*path, key), inside[key]
    return render(tree, draw), path


@given(documents(), trees)
def test_entry_is_added_to_any_mapping_and_every_other_character_stays(
    document: tuple[str, tuple[str, ...]], value: object
) -> None:
    text, path = document
    expected = read_yaml(text.encode(), source="").tree
    inside = expected
    for key in path:
        inside = inside[key]
    inside["new-key"] = value
    after = insert_entry(text, path, "new-key", value)
    assert read_yaml(after.encode(), source="").tree == expected
    kept = difflib.SequenceMatcher(None, text, after, autojunk=False)
    assert all(kind in {"equal", "insert"} for kind, *_ in kept.get_opcodes())


@given(documents(), st.sampled_from(["x", 2, "on", "a b"]), st.data())
def test_any_plain_value_is_set_and_every_other_character_stays(
    document: tuple[str, tuple[str, ...]], value: object, data: st.DataObject
) -> None:
    text, path = document
    expected = read_yaml(text.encode(), source="").tree
    inside = inside_of(expected, path)
    key = data.draw(st.sampled_from(sorted(inside)))
    old = inside[key]
    inside[key] = value
    after = set_entry(text, path, key, value)
    assert read_yaml(after.encode(), source="").tree == expected
    if not isinstance(old, dict):
        before = shared(text, after)
        behind = shared(text[before:][::-1], after[before:][::-1])
        assert before + behind >= len(text) - len(flow(old))


def test_brace_behind_a_removed_entry_does_not_become_part_of_a_comment() -> None:
    text = "a: { # c, d}\n b: x, # c, d}\n a: x}\nb: x\n"

    assert remove_entry(text, ("a",), "a") == "a: { # c, d}\n b: x # c, d}\n}\nb: x\n"


@given(documents(), st.data())
def test_any_entry_is_removed_and_every_other_character_stays(
    document: tuple[str, tuple[str, ...]], data: st.DataObject
) -> None:
    text, path = document
    expected = read_yaml(text.encode(), source="").tree
    inside = inside_of(expected, path)
    key = data.draw(st.sampled_from(sorted(inside)))
    if len(inside) == 1:
        return
    del inside[key]
    after = remove_entry(text, path, key)
    assert read_yaml(after.encode(), source="").tree == expected
    kept = difflib.SequenceMatcher(None, text, after, autojunk=False)
    assert all(kind in {"equal", "delete"} for kind, *_ in kept.get_opcodes())


def inside_of(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def shared(first: str, second: str) -> int:
    """Return the length of two texts' common prefix."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


@pytest.mark.parametrize("entry", [("a\x1b[31m", 1), ("v2", {"artifact": "m\x1b[31m.onnx"}), ("v2", ["\x07"])])
def test_a_control_character_is_named_and_not_mistaken_for_layout(entry: tuple[str, Any]) -> None:
    for edit in (insert_entry, set_entry):
        with pytest.raises(EditError) as caught:
            edit("models:\n  a: {v2: 1}\n", ("models", "a"), *entry)
        assert "holds the control character U+00" in caught.value.message
        assert "Rename" in caught.value.hint
