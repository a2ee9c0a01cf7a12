"""Lines of a process until a deadline, and how the process ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest

from tests.builders.waiting import PATIENCE_S
from turnout.system.job_process import LineReader, close_pipes, exit_text


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], int]]:
    """Return the reading end of a pipe, and the descriptor of its writing end."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as end:
        yield end, writing


def test_lines_are_complete_in_any_chunks(pipe: tuple[IO[bytes], int]) -> None:
    end, writing = pipe
    lines = LineReader(end)
    for part in (b"one\ntw", b"o\n\nunfinished"):
        os.write(writing, part)
    os.close(writing)
    deadline = time.monotonic() + PATIENCE_S
    assert [lines.read_line(deadline) for _ in range(4)] == [b"one", b"two", b"", None]


def test_a_missing_line_is_a_timeout(pipe: tuple[IO[bytes], int]) -> None:
    end, writing = pipe
    lines = LineReader(end)
    os.write(writing, b"begun")
    with pytest.raises(TimeoutError):
        lines.read_line(time.monotonic())
    os.write(writing, b" and ended\n")
    os.close(writing)
    assert lines.read_line(time.monotonic() + PATIENCE_S) == b"begun and ended"


@pytest.mark.parametrize(("code", "text"), [(-9, "SIGKILL"), (-6, "SIGABRT"), (1, "exit code 1"), (0, "exit code 0")])
def test_an_exit_code_in_words(code: int, text: str) -> None:
    assert exit_text(code) == text


def test_pipes_of_a_process_that_read_nothing_are_closed() -> None:
    command = [sys.executable, "-c", ""]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"left in the buffer")
    process.wait()
    close_pipes(process)
    assert process.stdin.closed
    assert process.stdout.closed
