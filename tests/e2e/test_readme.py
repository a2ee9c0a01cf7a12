"""The README's blocks, run in order in a clone and in a new project, do what the README says.

`sh` and `python` blocks are run; a `json` or `text` block directly after one is its output.
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
from turnout.scaffold.new_project import create_project

ROOT = Path(__file__).resolve().parents[2]
RUN = ("sh", "python")
BLOCKS = read_blocks((ROOT / "README.md").read_text())
RUNNABLE = [block for block in BLOCKS if block.language in RUN]


def name_of(block: Block) -> str:
    return re.sub(r"\W+", "-", block.text.splitlines()[0])[:60]


@pytest.fixture(scope="module", params=["clone", "own project"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the sample project, and one of a project made by `turnout init`."""
    project = tmp_path_factory.mktemp("readme") / "project"
    if request.param == "clone":
        shutil.copytree(ROOT / "models", project / "models")
        shutil.copy(ROOT / "models.yaml", project)
    else:
        create_project(project)
    with running_server(project) as running:
        yield running


@pytest.mark.parametrize("block", RUNNABLE, ids=name_of)
def test_each_block_does_what_the_readme_says(block: Block, server: RunningServer) -> None:
    printed = run_block(block, server)
    if block.output is not None:
        words, numbers = comparable(printed)
        expected_words, expected_numbers = comparable(block.output)
        assert words == expected_words
        assert numbers == pytest.approx(expected_numbers, rel=1e-3, abs=1e-9)


def test_the_page_written_by_init_runs(tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = [block for block in read_blocks((project / "README.md").read_text()) if block.language == "sh"]
    assert len(blocks) >= 5
    with running_server(project) as running:
        printed = "\n".join(run_block(block, running) for block in blocks)
    assert printed.count('"predictions"') == 2
    assert "matches example" in printed
    assert "iris v3 to models.yaml" in printed


def test_the_readme_contains_blocks() -> None:
    languages = [block.language for block in BLOCKS]
    assert languages.count("sh") >= 8
    assert languages.count("python") >= 1
    assert sum(block.output is not None for block in BLOCKS) >= 8
    fences = (ROOT / "README.md").read_text().count("```")
    assert fences == 2 * (len(BLOCKS) + sum(block.output is not None for block in BLOCKS))


def test_the_manifest_in_the_readme_is_the_one_that_init_writes() -> None:
    (block,) = [block for block in BLOCKS if block.language == "yaml"]
    template = (ROOT / "turnout/scaffold/template/models.yaml").read_text()
    shown, written = (
        parse_manifest(text.encode(), path=ROOT / "models.yaml", source="README.md") for text in (block.text, template)
    )
    assert (shown.platform, shown.models, shown.stages) == (written.platform, written.models, written.stages)


def test_first_screen_has_a_picture_and_a_working_curl_command() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:30])
    curl = next(block for block in BLOCKS if block.text.startswith("curl"))
    assert curl.output is not None
    assert curl.text in first_screen
    assert curl.output in first_screen
    assert re.search(r"!\[[^\]]+\]\(\S+\.svg\)", first_screen)


@pytest.mark.parametrize("target", ["serve", "test"])
def test_the_two_make_commands_are_named_and_exist(target: str) -> None:
    assert f"`make {target}`" in (ROOT / "README.md").read_text()
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_links_lead_to_existing_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
