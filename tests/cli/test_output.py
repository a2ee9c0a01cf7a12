"""The output of the commands: tables that nothing truncates, no color where it is not wanted, no control characters."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.cli.output import (
    counted,
    fitted,
    fold,
    gap_of,
    is_plain,
    parts_of,
    passing_remark,
    pieces_of,
    progress,
    say_section,
    say_table,
)

TABLE = """
from turnout.cli.output import say_section, say_table
say_section("Title")
say_table(("NAME", "TEXT"), [("a", "word " * 40)])
"""


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("number", "plural", "text"),
    [
        (0, "", "0 routes"),
        (1, "", "1 route"),
        (2, "", "2 routes"),
        (1200, "", "1,200 routes"),
        (2, "routen", "2 routen"),
    ],
)
def test_counted_agrees_with_its_number(number: int, plural: str, text: str) -> None:
    assert counted(number, "route", plural) == text


def test_a_table_in_a_pipe_is_not_truncated_wrapped_or_colored(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    say_table(("NAME", "SIZE"), [("a", "1"), (long, "22")], right=("SIZE",))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["NAME", "SIZE"], ["a", "1"], [long, "22"]]
    assert lines[1].endswith(" 1")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("widths", "words", "available", "expected"),
    [
        ([5, 12, 90], [5, 12, 8], 80, [5, 12, 59]),
        ([40, 60], [10, 30], 62, [30, 30]),
        ([15, 2], [15, 2], 80, [15, 2]),
        ([60, 60], [50, 20], 62, [40, 20]),
        ([], [], 80, []),
    ],
)
def test_the_widest_columns_shrink_first(
    widths: list[int], words: list[int], available: int, expected: list[int]
) -> None:
    assert fitted(widths, words, available) == expected


def test_names_at_80_columns_are_split_between_their_parts() -> None:
    names = [f"turnout-stage_credit-default-probabilities_{version}" for version in ("anotherverylongname1", "v1")]
    rows = [(name, "arm64", "1,024 MB", "15 s", "-", name.partition("_")[2]) for name in names]
    headers = ("FUNCTION", "ARCHITECTURE", "MEMORY", "TIMEOUT", "WARM", "PACKAGE")
    cells = list(zip(headers, *rows, strict=True))
    words, parts = ([max(map(len, cut(column))) for column in cells] for cut in (pieces_of, parts_of))
    least = [min(max(map(len, column)), max(part, 14)) for column, part in zip(cells, parts, strict=True)]
    assert gap_of(least, 80) == 1  # with two spaces between columns the longest part would be split
    widths = fitted([max(map(len, column)) for column in cells], words, 80 + len(headers) - 1, parts)
    assert sum(widths) + len(headers) - 1 <= 80
    for name in names:
        assert all(line[-1] in "-_" for line in fold(name, widths[0])[:-1])


@pytest.mark.parametrize(("least", "available", "gap"), [([10, 10], 22, 2), ([10, 10], 21, 1), ([10, 10], 20, 2)])
def test_columns_move_together_if_that_keeps_words_whole(least: list[int], available: int, gap: int) -> None:
    assert gap_of(least, available) == gap


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("/models/iris/v1/inference", 14, ["/models/iris/", "v1/inference"]),
        ("/models/{model}/{version}/inference", 12, ["/models/", "{model}/", "{version}/", "inference"]),
        ("shop-local_general_router", 12, ["shop-local_", "general_", "router"]),
        ("one two three", 7, ["one two", "three"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("short", 9, ["short"]),
        ("", 3, [""]),
    ],
)
def test_cells_are_folded_between_words(text: str, width: int, lines: list[str]) -> None:
    assert fold(text, width) == lines


@given(st.text(), st.integers(1, 30))
def test_folding_loses_nothing_but_spaces(text: str, width: int) -> None:
    lines = fold(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize(("columns", "header"), [("40", "NAME  BAR"), ("20", "NAME")])
def test_an_optional_column_is_left_out_without_space_for_it(
    columns: str, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    say_table(("NAME", "BAR"), [("name", "#" * 20)], spare=True)
    assert terminal.getvalue().splitlines()[0] == header


def test_a_table_treats_markup_and_control_characters_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("NAME",), [("[bold]x[/bold]",), (":smile:",), ("\x1b[31m",)])
    assert capsys.readouterr().out == "NAME\n[bold]x[/bold]\n:smile:\n\\x1b[31m\n"


def test_a_table_without_rows_shows_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"


@pytest.mark.parametrize(
    ("variables", "plain"),
    [({}, False), ({"NO_COLOR": "1"}, True), ({"NO_COLOR": ""}, False), ({"TERM": "dumb"}, True)],
)
def test_a_terminal_gets_plain_text_if_color_is_turned_off(
    variables: dict[str, str], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_plain(Terminal()) is plain
    assert is_plain(io.StringIO())


def test_a_section_is_bold_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_section("Stages")
    assert capsys.readouterr().out == "\nStages\n"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    say_section("Stages")
    assert terminal.getvalue() == "\n\x1b[1mStages\x1b[0m\n"


def test_a_temporary_message_is_shown_on_terminals_only_and_erased(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with passing_remark("reading"):
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with passing_remark("reading"):
        assert terminal.getvalue() == "reading"
    assert terminal.getvalue() == "reading\r       \r"


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("copying", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("copying", 10) as advance:
        advance(10)
    assert "copying" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def on_terminal(variables: dict[str, str]) -> str:
    """Return what TABLE prints on a terminal with 80 columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **variables}
    subprocess.run([sys.executable, "-c", TABLE], stdout=follower, env=environment, check=True)
    os.close(follower)
    text = b""
    while chunk := read_or_end(leader):
        text += chunk
    os.close(leader)
    return text.decode().replace("\r\n", "\n")


def read_or_end(handle: int) -> bytes:
    """Return what a terminal yields; empty at its end, which Linux reports as an error."""
    try:
        return os.read(handle, 65536)
    except OSError:
        return b""


def test_a_narrow_terminal_wraps_inside_the_column_and_loses_no_word() -> None:
    text = on_terminal({"NO_COLOR": "1"})
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("word") == 40


def test_a_terminal_gets_bold_headers() -> None:
    assert "\x1b[1mNAME" in on_terminal({"NO_COLOR": ""})
