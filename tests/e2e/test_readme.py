"""The README's blocks do what the README says: each is run, in order, and what it prints is compared.

A `sh` or `python` block is run; a `json` or `text` block right behind one is what it prints.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.markdown import Block, comparable, read_blocks, run_block
from tests.builders.running_server import RunningServer, running_server
from turnout.manifest.parser import parse_manifest

ROOT = Path(__file__).resolve().parents[2]
RUN = ("sh", "python")
BLOCKS = read_blocks((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copy(ROOT / "models.yaml", project)
    with running_server(project) as running:
        yield running


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
