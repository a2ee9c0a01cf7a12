"""docs/canary.md does what it says: its blocks are run in order, on a server of the sample project."""

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
PAGE = (ROOT / "docs" / "canary.md").read_text()
BLOCKS = read_blocks(PAGE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copy(ROOT / "models.yaml", project)
    with running_server(project) as running:
        yield running


@pytest.mark.parametrize("number", [at for at, block in enumerate(BLOCKS) if block.language == "sh"])
def test_a_block_does_what_the_page_says(number: int, server: RunningServer) -> None:
    block = BLOCKS[number]
    printed = run_block(block, server)
    assert block.output is not None
    assert words_of(printed) == words_of(block.output)


def words_of(text: str) -> str:
    """The text without its numbers, and however wide its columns are."""
    return re.sub(" +", " ", comparable(text)[0])


def test_the_blocks_were_found() -> None:
    assert sum(block.language == "sh" for block in BLOCKS) >= 3


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"])
def test_a_manifest_on_the_page_is_right(block: Block) -> None:
    text = (ROOT / "models.yaml").read_text()
    head = text[: text.index("stages:")]
    assert parse_manifest(f"{head}{block.text}".encode(), path=ROOT / "models.yaml", source="docs/canary.md").stages
