"""Code blocks of a Markdown page, run in a server's project, and their output compared with the page's.

A `text` or `json` block directly after another block is its output. Lines that start a server are replaced by the
tests' server. Values that differ between runs (times, names, the last digits of a float) may differ.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.running_server import RunningServer
from tests.builders.waiting import PATIENCE_S

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b8080\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
STARTS_SERVER = re.compile(r"(?:make|turnout) serve\b")


@dataclass(frozen=True)
class Block:
    """One fenced block, and its output if the page shows it."""

    language: str
    text: str
    output: str | None


def read_blocks(text: str) -> list[Block]:
    return [Block(match[1], match[2], match[4]) for match in BLOCK.finditer(text)]


def run_block(block: Block, server: RunningServer) -> str:
    """Return the block's output when run in the server's project."""
    text = PORT.sub(str(server.port), block.text)
    lines = [line for line in text.splitlines() if not STARTS_SERVER.match(line)]
    at = Block(block.language, "\n".join(lines), block.output)
    printed = run_in(at, server.project, {"TURNOUT_URL": f"http://127.0.0.1:{server.port}"})
    return printed.replace(f":{server.port}", ":8080")


def run_in(block: Block, folder: Path, variables: Mapping[str, str]) -> str:
    """Return the block's output when run in a folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", **variables}
    start = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(
        [*start, block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * PATIENCE_S,  # `turnout build` installs packages
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def assert_same_output(printed: str, on_the_page: str) -> None:
    """Check that an output is the page's, numbers included, except for what differs between runs and machines."""
    (words, numbers), (expected_words, expected) = _stable(printed), _stable(on_the_page)
    assert words == expected_words
    assert numbers == pytest.approx(expected, rel=1e-4), words


def _stable(text: str) -> tuple[str, list[float]]:
    """Return a text without dates, times, digests, lines of captures and widths of columns, and its numbers."""
    text = re.sub(r"\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d)?\b", "DATE", _without_latencies(text))
    text = re.sub(r"\bline \d+(?=, )", "line", text)  # of a capture, to which several workers write
    words, numbers = comparable(text)
    return re.sub(" +", " ", words), numbers


def _without_latencies(text: str) -> str:
    """Return a text in which the columns of tables with times have no numbers."""
    lines, columns = [], set[int]()
    for line in text.splitlines():
        cells = re.split(" {2,}", line.strip())
        timed = {index for index, cell in enumerate(cells) if re.fullmatch(r"P\d\d(?: MS)?", cell)}
        columns = timed or (columns if line.strip() else set())
        is_row = columns and not timed
        lines.append("  ".join("TIME" if is_row and i in columns else cell for i, cell in enumerate(cells)))
    return "\n".join(lines)


def comparable(text: str) -> tuple[str, list[float]]:
    """Return the text with its numbers removed, and the numbers."""
    text = re.sub(r"answered in [0-9.]+ ms", "answered in some ms", text.strip())
    text = re.sub(r"\b[0-9a-f]{12}\b", "digest", text)
    text = re.sub(rf"\b{re.escape(getpass.getuser())}\b *", "ana ", text)
    return NUMBER.sub("#", text), [float(number) for number in NUMBER.findall(text)]
