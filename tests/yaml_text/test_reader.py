"""The strict YAML reader: what it reads, what it rejects, and the places that it reports."""

from __future__ import annotations

import pytest

from tests.builders.work import count_calls
from turnout.problems import ProblemsError
from turnout.yaml_text.reader import MAX_BYTES, Ambiguous, Position, YamlSource, read_yaml, resolve


def read(text: str) -> YamlSource:
    return read_yaml(text.encode(), source="m.yaml")


def reported(data: str | bytes) -> str:
    """Return the problems as they are printed, whether or not the rest could be read."""
    try:
        result = read_yaml(data.encode() if isinstance(data, str) else data, source="m.yaml")
    except ProblemsError as error:
        return str(error)
    return "\n".join(str(problem) for problem in result.problems)


def test_tree_and_positions() -> None:
    result = read("a: {b: 1}\nlist:\n  - x\n  - {y: true}\nnothing:\n")
    assert result.tree == {"a": {"b": 1}, "list": ["x", {"y": True}], "nothing": None}
    assert result.positions == {
        (): Position(1, 1),
        ("a",): Position(1, 1),
        ("a", "b"): Position(1, 5),
        ("list",): Position(2, 1),
        ("list", 0): Position(3, 5),
        ("list", 1): Position(4, 5),
        ("list", 1, "y"): Position(4, 6),
        ("nothing",): Position(5, 1),
    }
    assert result.problems == ()


@pytest.mark.parametrize("key", ["1.0", "1e3", "010", "2024-01-01", "on", "yes", "no", "null", "~", "0x1F", "12:30"])
def test_key_is_the_text_as_written(key: str) -> None:
    assert read(f"{key}: 1\n").tree == {key: 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-5", -5), ("+5", 5), ("0", 0), ("1.0", 1.0), (".5", 0.5), ("5.", 5.0), ("12.50", 12.5),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("v1", "v1"), ("1-2", "1-2"), ("1.2.3", "1.2.3"), (".", "."), ("-", "-"), ("nan", "nan"), ("y", "y"),
        ("models/iris", "models/iris"), ("truely", "truely"), ("2024-01-01 we began", "2024-01-01 we began"),
    ],
)  # fmt: skip
def test_value_that_all_yaml_readers_parse_equally_is_read(text: str, value: object) -> None:
    result = resolve(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "on", "Off", "YES", "no", "010", "0x1F", "0o17", "0b1", "1_000", "12:30", "1e3", "1.5e-3", ".inf", "-.INF",
        ".nan", "2024-01-01", "2024-01-01T10:00:00Z", "9" * 40, "1" * 30 + "e5", "0" + "1" * 63,
    ],
)  # fmt: skip
def test_value_that_yaml_readers_parse_differently_is_ambiguous(text: str) -> None:
    assert resolve(text) == Ambiguous(text)
    assert read(f"a: '{text}'").tree == {"a": text}, "quotes make it text"


def test_numbers_that_are_not_our_own_keep_their_spelling() -> None:
    assert read("a: 1.50\nb: 1.5\nc: +7\n").numbers == {("a",): "1.50", ("c",): "+7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yaml:1:1: is empty"),
        ("# only a comment\n", "m.yaml:1:1: is empty"),
        ("---\n", "m.yaml:1:1: is empty"),
        ("- a\n", "m.yaml:1:1: must be a mapping with keys at its top level"),
        ("word\n", "m.yaml:1:1: must be a mapping"),
        ("a:\n\tb: 1\n", "m.yaml:2:1: a tab cannot indent\n    Use spaces."),
        ("a: 1\n\tb: 2\n", "m.yaml:2:1: a tab cannot indent"),
        ("a: 1\nb: 2\na: 3\n", "m.yaml:3:1: a: duplicate key, first defined on line 1"),
        ("a: {b: 1, b: 2}\n", "m.yaml:1:11: a.b: duplicate key, first defined on line 1"),
        ("a: &x 1\n", "m.yaml:1:4: a: anchors and aliases are not supported (`&x`)"),
        ("a: *x\n", "m.yaml:1:4: a: anchors and aliases are not supported (`*x`)"),
        ("&x a: 1\n", "m.yaml:1:1: a: anchors and aliases are not supported (`&x`)"),
        ("a: {<<: {b: 1}}\n", "m.yaml:1:5: a.<<: merge keys are not supported"),
        ("a: !!str 1\n", "m.yaml:1:4: a: tags are not supported (`tag:yaml.org,2002:str`)"),
        ("a: !!python/object/apply:os.system [ls]\n", "m.yaml:1:4: a: tags are not supported"),
        ("a: 1\n---\nb: 1\n", "m.yaml:2:1: contains several documents"),
        ("? [a]\n: 1\n", "m.yaml:1:3: a key must be text"),
        ("{{ x }}: 1\n", "m.yaml:1:1: a key must be text"),
        ("a: {b: {c: 1\n", "m.yaml:1:8: the `{` here is not closed"),
        ("a: [1, 2\nb: 1\n", "m.yaml:1:4: the `[` here is not closed"),
        ("a: 'b\nc: d\n", "m.yaml:1:4: the quote that begins here is not closed"),
        ("a: b: c\n", "m.yaml:1:5: a `:` is not allowed here"),
        ("a:\n  b: 1\n c: 2\n", "m.yaml:3:2: this does not fit the lines above it"),
        ("a: @x\n", "m.yaml:1:4: a text cannot begin with this character"),
        ('a: "\\q"\n', "m.yaml:1:5: unknown escape: a backslash inside double quotes begins an escape"),
        ("a: 1\nb\n", "m.yaml:2:1: a `:` is missing after this key"),
        ("a: }\n", "m.yaml:1:4: a value is missing before this"),
        (
            "a: {*: newest}\n",
            "m.yaml:1:5: text that begins with `*` or `&` is an alias or an anchor in YAML\n    Put it in",
        ),
        ("a: {b:}\n", "m.yaml:1:6: a value is missing after this `:`, or a space"),
        ("a: 'it's'\n", "m.yaml:1:8: this does not fit the text before it on this line\n    Check for a missing"),
        ("a: {b: 1}}\n", "m.yaml:1:10: this does not fit the text before it on this line"),
        ("a:b # x\nc: 1\n", "m.yaml:2:1: this does not follow from the lines above it\n    A key ends in `: `"),
        ("a: | text\n", "m.yaml:1:4: `|` and `>` begin a text of several lines, which starts on the next line"),
        ("a: ? b\n", "m.yaml:1:4: a text cannot begin with `? `"),
        ('a: "\\x"\n', "m.yaml:1:7: incomplete escape: a backslash inside double quotes begins an escape"),
        ("%YAML 9.9\n---\na: 1\n", "m.yaml:1:1: is not YAML"),
        ("a: é\0\n", "m.yaml:1:5: contains a NUL"),
        ("a: \x07\n", "m.yaml:1:4: contains the control character U+0007"),
        ("a: \u2028\n", "m.yaml:1:4: contains the control character U+2028"),
        ('a: "\\x07"\n', "m.yaml:1:4: a: contains the control character U+0007"),
        ('"v1\\n": 1\n', "m.yaml:1:1: a key contains the character U+000A"),
        ("a\u00a0b: 1\n", "m.yaml:1:1: a key contains the character U+00A0"),
        ("a: " + "[" * 30 + "]" * 30, "m.yaml:1:24: is nested more than 20 levels deep"),
        ("{a: " * 30, "m.yaml:1:82: is nested more than 20 levels deep"),
    ],
)
def test_invalid_text_is_rejected_with_its_place(text: str, expected: str) -> None:
    assert reported(text).startswith(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: caf\xe9\n", "m.yaml:2:7: byte 0xE9 is not UTF-8"),
        (b"\xef\xbb\xbfa: 1\n", "m.yaml:1:1: starts with a byte order mark"),
        (b"\xff\xfea\x00", "m.yaml:1:1: starts with a byte order mark"),
        (b"\xfe\xff\x00a", "m.yaml:1:1: starts with a byte order mark"),
    ],
)
def test_bytes_that_are_not_plain_utf8_are_rejected(data: bytes, expected: str) -> None:
    assert reported(data).startswith(expected)


def test_several_problems_are_reported_together_and_the_first_of_two_keys_counts() -> None:
    result = read("a: 1\na: {b: 2}\nc: &x 3\n<<: {d: 4}\n")
    assert result.tree == {"a": 1, "c": 3}
    assert [problem.line for problem in result.problems] == [2, 3, 4]
    assert ("a", "b") not in result.positions


@pytest.mark.parametrize(
    "data",
    [
        b"a: 1\n" * 2_000_000,
        b"[" * 10_000_000,
        b"[" * MAX_BYTES,
        b"{a: " * (MAX_BYTES // 4),
        b"- " * (MAX_BYTES // 2),
        b"{" + b"a," * 490_000 + b"}",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" * 20_000,
        b"{" + b",".join(b"k%d" % number for number in range(110_000)) + b"}",
    ],
    ids=["10 MB", "10 MB of brackets", "brackets", "braces", "dashes", "one key", "aliases", "many keys"],
)
def test_bomb_is_rejected_quickly(data: bytes) -> None:
    def refuse() -> None:
        with pytest.raises(ProblemsError):
            read_yaml(data, source="m.yaml")

    # 110,000 keys take 16 calls each; everything else is rejected after a few thousand.
    assert count_calls(refuse) < 2_500_000


def test_windows_line_endings_keep_their_line_numbers() -> None:
    assert read("a: 1\r\nb:\r\n  c: 2\r\n").positions["b", "c"] == Position(3, 3)
