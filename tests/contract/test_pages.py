"""Files, headings and arrows between rooms that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.test_imports import INSIDE, ROOMS, arrows

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
MAPPED = ("docs/architecture.md", "CONTRIBUTING.md", "docs/decisions/*.md")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub generates for a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_rooms(name: str) -> set[str]:
    """The rooms that a node of a map represents: a top-level folder with all its rooms, or one room of the gateway."""
    result = {
        room for room in ROOMS if room in {f"turnout.{name}", name} or room.startswith((f"turnout.{name}.", f"{name}."))
    }
    return result or {room for room in ROOMS if room.startswith("turnout.gateway.") and room.endswith(f".{name}")}


@every_page
def test_links_lead_to_an_existing_file_and_heading(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?![a-z]+:|\.\./blob/)([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "page", [page for pattern in MAPPED for page in sorted(ROOT.glob(pattern))], ids=lambda page: page.name
)
def test_paths_in_pages_exist(page: Path) -> None:
    tops = "turnout|model_lambdas|router_lambda|infra|tests|schemas|docs|scripts|benchmarks|soak"
    paths = re.findall(rf"(?<![\w./-])((?:{tops})/[\w./-]*\w/?)", prose(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_arrows_in_the_maps_are_imports() -> None:
    blocks = re.findall(r"```mermaid\nflowchart.*?```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    drawn = [pair for block in blocks for pair in re.findall(r"^ *(\w+)(?:\[[^\]]*\])? --> (\w+)", block, re.MULTILINE)]
    assert len(drawn) > 30
    real = arrows()
    wrong = [
        f"{importer} --> {imported}"
        for importer, imported in drawn
        if not any(real[room] & named_rooms(imported) for room in named_rooms(importer))
    ]
    assert wrong == []
    names = {name for pair in drawn for name in pair}
    missing = {room for room in ROOMS if not any(room in named_rooms(name) for name in names)}
    assert missing - {"turnout", "turnout.system", "soak"} == set()
    assert set(INSIDE.values()) <= set(ROOMS)
