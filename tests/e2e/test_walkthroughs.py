"""The pages that walk a reader through something do what they say: their blocks are run, in the project that they make.

A `sh` or `python` block is run; a `text` block right behind one is what it prints. A `console` block shows what a test
cannot run: an account of AWS, Pulumi's engine, minutes of traffic, a command that is killed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.builders.markdown import Block, comparable, read_blocks, run_block, run_in
from tests.builders.running_server import running_server
from turnout.manifest.parser import parse_manifest
from turnout.scaffold.new_project import create_project

ROOT = Path(__file__).resolve().parents[2]
SERVE_OPTIONS: dict[str, tuple[str, ...]] = {
    "canary": (),
    "replay": ("--capture", "capture.jsonl"),
    "deploying": (),
    "production": ("--services", "token"),
    "control-plane": (),
    "browsers": ("--watch",),
    "consumers": ("--watch",),
    "callers": ("--watch",),
    "domains": ("--watch",),
}
"""The options with which each page starts its server."""

WITHOUT_SERVER = ("company", "prices", "pull-requests")
"""Pages whose commands need no server."""

MANIFESTS = ("browsers", "callers", "canary", "consumers", "domains", "graphs", "routing")
"""Pages whose first YAML block has stages, and models unless the project of `turnout init` has them."""


def blocks_of(page: str) -> list[Block]:
    return read_blocks((ROOT / "docs" / f"{page}.md").read_text())


def words_of(text: str) -> str:
    """The text without its numbers, and however wide its columns are."""
    return re.sub(" +", " ", comparable(text)[0])


@pytest.mark.parametrize("page", SERVE_OPTIONS)
def test_blocks_do_what_the_page_says(page: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = [block for block in blocks_of(page) if block.language in {"sh", "python"}]
    assert len(blocks) >= 2
    with running_server(project, *SERVE_OPTIONS[page], cwd=project) as server:
        for block in blocks:
            printed = run_block(block, server)
            if block.output is not None:
                assert words_of(printed) == words_of(block.output)


@pytest.mark.parametrize("page", WITHOUT_SERVER)
def test_blocks_without_a_server_do_what_the_page_says(page: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = [block for block in blocks_of(page) if block.language == "sh"]
    assert blocks
    for block in blocks:
        printed = run_in(block, project, {})
        if block.output is not None:
            assert words_of(printed) == words_of(block.output)


@pytest.mark.parametrize("page", MANIFESTS)
def test_manifest_on_the_page_is_right(page: str) -> None:
    block = next(block for block in blocks_of(page) if block.language == "yaml")
    text = block.text
    if not re.search("^models:", text, re.MULTILINE):
        template = (ROOT / "turnout/scaffold/template/models.yaml").read_text()
        text = template[: template.index("stages:")] + text
    if "platform:" not in text:
        text = f"platform: turnout\n{text}"
    assert parse_manifest(text.encode(), path=ROOT / "models.yaml", source=f"docs/{page}.md").stages
