"""The README's blocks do what the README says: each is run, in order, and what it prints is compared.

A `sh` or `python` block is run; a `json` or `text` block right behind one is what it prints. The server of the tests
stands in for the lines that start one. What differs from run to run (times, the last digits of a float) may differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.running_server import PATIENCE_S, RunningServer, running_server
from turnout.manifest import parse_manifest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b8080\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
STARTS_SERVER = re.compile(r"(?:make|turnout) serve\b")
RUN = ("sh", "python")


@dataclass(frozen=True)
class Block:
    """One fenced block, and what it prints where the README says so."""

    language: str
    text: str
    output: str | None


def read_blocks(text: str) -> list[Block]:
    return [Block(found[1], found[2], found[4]) for found in BLOCK.finditer(text)]


BLOCKS = read_blocks((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copy(ROOT / "models.yaml", project)
    with running_server(project) as running:
        yield running


def run_block(block: Block, server: RunningServer) -> str:
    """What the block prints, run in the server's project."""
    text = PORT.sub(str(server.port), block.text)
    lines = [line for line in text.splitlines() if not STARTS_SERVER.match(line)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1"}
    start = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    # `turnout invoke` asks port 8080 unless it is told.
    lines = [
        f"{line} --url http://127.0.0.1:{server.port}" if line.startswith("turnout invoke") else line for line in lines
    ]
    script = "\n".join(lines)
    done = subprocess.run(
        [*start, script],
        cwd=server.project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def comparable(text: str) -> tuple[str, list[float]]:
    """The text with its numbers taken out, and the numbers."""
    text = re.sub(r"answered in [0-9.]+ ms", "answered in some ms", text.strip())
    text = re.sub(r"\b[0-9a-f]{12}\b", "digest", text)
    return NUMBER.sub("#", text), [float(number) for number in NUMBER.findall(text)]


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language in RUN],
    ids=lambda block: re.sub(r"\W+", "-", block.text.splitlines()[0])[:60],
)
def test_a_block_does_what_the_readme_says(block: Block, server: RunningServer) -> None:
    printed = run_block(block, server)
    if block.output is not None:
        words, numbers = comparable(printed)
        expected_words, expected_numbers = comparable(block.output)
        assert words == expected_words
        assert numbers == pytest.approx(expected_numbers, rel=1e-3, abs=1e-9)


def test_the_blocks_were_found() -> None:
    languages = [block.language for block in BLOCKS]
    assert languages.count("sh") >= 8
    assert languages.count("python") >= 1
    assert sum(block.output is not None for block in BLOCKS) >= 8
    fences = (ROOT / "README.md").read_text().count("```")
    assert fences == 2 * (len(BLOCKS) + sum(block.output is not None for block in BLOCKS))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"])
def test_a_manifest_in_the_readme_is_right(block: Block) -> None:
    assert parse_manifest(block.text.encode(), path=ROOT / "models.yaml", source="README.md").models


def test_a_working_curl_stands_in_the_first_screen() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:30])
    curl = next(block for block in BLOCKS if block.text.startswith("curl"))
    assert curl.output is not None
    assert curl.text in first_screen
    assert curl.output in first_screen


@pytest.mark.parametrize("target", ["serve", "test"])
def test_the_two_commands_are_told_and_made(target: str) -> None:
    assert f"`make {target}`" in (ROOT / "README.md").read_text()
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
