"""Output of the commands: results on standard output, everything else on standard error.

All text of a command is written here and nowhere else: text from a model, a file or a server may contain escape
sequences, and none reaches the terminal. Rich is imported only when a table or a progress bar is drawn.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from turnout.wording import printable, printable_json, printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from turnout.problems import Problem, ProblemsError

WIDEST = 100_000
"""Width of a table without a terminal, large enough that nothing wraps in a pipe."""

NARROW = 14
"""Width of a cell that is not worth folding: a digest, a size, a name."""

BOLD, NOT_BOLD = "\x1b[1m", "\x1b[0m"


class CommandError(Exception):
    """A command cannot do what was requested; the message is a sentence, optionally with a remedy on its own line.

    Args:
        message: what is wrong.
        hint: the remedy.
        code: the exit code, 2 for bad input, 1 for an operation that failed.
    """

    def __init__(self, message: str, hint: str = "", *, code: int = 2) -> None:
        super().__init__(f"{message}\n    {hint}" if hint else message)
        self.code = code


def sentence_of(message: str) -> str:
    """Return a message with a full stop at its end."""
    return message if message.endswith((".", "?")) else f"{message}."


def say(text: str = "") -> None:
    """Print one result, of one line or more, to standard output."""
    sys.stdout.write(f"{printable_lines(text)}\n")


def notify(text: str) -> None:
    """Print one message or error to standard error, after the results that precede it."""
    sys.stdout.flush()
    with suppress(BrokenPipeError):  # stderr is closed; the exit code still reports the result
        sys.stderr.write(f"{printable_lines(text)}\n")
        sys.stderr.flush()


def say_json(value: Any) -> None:
    """Print one JSON value, indented, in its original order."""
    sys.stdout.write(f"{printable_json(json.dumps(value, indent=2, ensure_ascii=False))}\n")


def say_body(body: bytes) -> None:
    """Print a server's answer without changing its meaning: JSON stays JSON, anything else is escaped."""
    text = body.decode(errors="backslashreplace")
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        text = printable_lines(text)
    else:
        text = printable_json(text)
    sys.stdout.write(text)
    if sys.stdout.isatty() and not text.endswith("\n"):
        sys.stdout.write("\n")


def print_problems(error: ProblemsError) -> None:
    """Print every problem of the user's files, then their number."""
    for problem in error.problems:
        notify(problem_text(problem))
    notify(f"turnout: {counted(len(error.problems), 'problem')} found.")


def problem_text(problem: Problem) -> str:
    """Return a problem on one line and its hint on the next; a name with a line break cannot forge a line."""
    line = printable(str(replace(problem, hint="")))
    return f"{line}\n    {problem.hint}" if problem.hint else line


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return `1 model`, `2 models`, `1,200 routes`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def is_plain(stream: TextIO) -> bool:
    """Whether the stream gets neither color nor wrapping: a pipe, a file, `NO_COLOR`, or a dumb terminal."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()


def console_of(stream: TextIO) -> Console:
    """Return a rich console that never interprets its texts as markup."""
    from rich.console import Console

    plain = is_plain(stream)
    return Console(
        file=stream,
        color_system=None if plain else "auto",
        force_terminal=False if plain else None,
        width=None if stream.isatty() else WIDEST,
        markup=False,
        highlight=False,
        emoji=False,
    )


def say_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), spare: bool = False
) -> None:
    """Print a table to standard output: columns two spaces apart, no lines, folded only if a terminal is too narrow.

    Args:
        headers: the columns' names.
        rows: one text per column; control characters are escaped.
        right: the names of the columns with numbers.
        spare: whether the last column is left out if a terminal is too narrow for all of them.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    available = console_of(sys.stdout).width if sys.stdout.isatty() else WIDEST
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    if spare and sum(widths) + 2 * len(widths) > available:
        headers, cells, widths = headers[:-1], [row[:-1] for row in cells], widths[:-1]
    words = [max(map(len, pieces_of(column))) for column in zip(headers, *cells, strict=True)]
    parts_of_words = [max(map(len, parts_of(column))) for column in zip(headers, *cells, strict=True)]
    gap = gap_of([min(width, max(part, NARROW)) for width, part in zip(widths, parts_of_words, strict=True)], available)
    widths = fitted(widths, words, available + (2 - gap) * (len(widths) - 1), parts_of_words)
    bold = not is_plain(sys.stdout)
    for number, row in enumerate((headers, *cells)):
        folded = [fold(cell, width) for cell, width in zip(row, widths, strict=True)]
        for at in range(max(map(len, folded))):
            parts = [lines[at] if at < len(lines) else "" for lines in folded]
            padded = [
                part.rjust(width) if header in right else part.ljust(width)
                for part, width, header in zip(parts, widths, headers, strict=True)
            ]
            line = (" " * gap).join(padded).rstrip()
            sys.stdout.write(f"{BOLD}{line}{NOT_BOLD}\n" if bold and not number else f"{line}\n")


def pieces_of(texts: Iterable[str]) -> list[str]:
    """Split the texts after each slash and space, where a line may end."""
    return [piece for text in texts for piece in re.findall(r"[^/\s]*[/\s]+|[^/\s]+", text)] or [""]


def parts_of(texts: Iterable[str]) -> list[str]:
    """Split the texts also after `_`, `-`, `.` and `:`, where a line ends rather than inside a word."""
    return [part for piece in pieces_of(texts) for part in re.findall(r"[^-_.:]*[-_.:]+|[^-_.:]+", piece)] or [""]


def gap_of(least: Sequence[int], available: int) -> int:
    """Return the spaces between columns: 2, or 1 if only that keeps words whole."""
    gaps = len(least) - 1
    return 1 if sum(least) + gaps <= available < sum(least) + 2 * gaps else 2


def fitted(widths: Sequence[int], words: Sequence[int], available: int, parts: Sequence[int] = ()) -> list[int]:
    """Return the columns' widths on a terminal: the widest shrink first, down to their longest word, then further.

    Args:
        widths: widths of the columns' longest texts.
        words: widths of their longest words.
        available: columns of the terminal.
        parts: widths of the longest parts of words, as `parts_of` splits them.
    """
    fitting = list(widths)
    words_whole, parts_whole = ([max(length, NARROW) for length in lengths] for lengths in (words, parts or words))
    for least in (words_whole, parts_whole, [NARROW] * len(fitting), [1] * len(fitting)):
        while sum(fitting) + 2 * (len(fitting) - 1) > available:
            column = max(range(len(fitting)), key=lambda at: fitting[at] if fitting[at] > least[at] else 0)
            if fitting[column] <= least[column]:
                break
            fitting[column] -= 1
    return fitting


def fold(text: str, width: int) -> list[str]:
    """Return the text in lines that fit.

    It is split after slashes and spaces, longer words after `_`, `-`, `.`, or else anywhere.
    """
    if len(text) <= width:
        return [text]
    lines = [""]
    for piece in pieces_of([text]):
        parts = [piece]
        if len(piece.rstrip()) > width:
            parts = [word[at : at + width] for word in parts_of([piece]) for at in range(0, len(word), width)]
        for part in parts:
            if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return [line.rstrip() for line in lines]


def say_section(title: str) -> None:
    """Print a heading, with an empty line before it."""
    text = printable(title)
    sys.stdout.write(f"\n{text if is_plain(sys.stdout) else f'{BOLD}{text}{NOT_BOLD}'}\n")


@contextmanager
def passing_remark(text: str) -> Iterator[None]:
    """Show a line on standard error during an operation and erase it afterwards; only on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(printable(text))
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(f"\r{' ' * len(printable(text))}\r")
        sys.stderr.flush()


@contextmanager
def changing_remark() -> Iterator[Callable[[str], None]]:
    """Show an updated line on standard error and erase it afterwards; only on a terminal.

    Yields:
        A function to call with each text.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    length = 0

    def change(text: str) -> None:
        nonlocal length
        line = printable(text)
        sys.stderr.write(f"\r{line}{' ' * (length - len(line))}")
        sys.stderr.flush()
        length = len(line)

    try:
        yield change
    finally:
        sys.stderr.write(f"\r{' ' * length}\r")
        sys.stderr.flush()


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error during a long operation; only on a terminal.

    Args:
        title: the operation.
        total: total number of bytes.

    Yields:
        A function to call with the number of bytes just processed.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_of(sys.stderr), transient=True) as bar:
        task = bar.add_task(printable(title), total=total)
        yield lambda done: bar.advance(task, done)
