"""The sample manifest's plan and document, as they were last reviewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.render import render_golden

REMEDY = "look at what changed, then regenerate: .venv/bin/python -m tests.golden"


@pytest.fixture(scope="module")
def rendered(root: Path) -> dict[str, bytes]:
    return render_golden(root)


def test_golden_files_match_the_sample_manifest(root: Path, rendered: dict[str, bytes]) -> None:
    kept = {path.name: path.read_bytes() for path in (root / "tests" / "golden").glob("*.json")}
    assert set(kept) == set(rendered), REMEDY
    for name, data in rendered.items():
        assert kept[name] == data, f"{name}: {REMEDY}"


def test_golden_files_contain_no_machine_path(root: Path, rendered: dict[str, bytes]) -> None:
    assert [name for name, data in rendered.items() if str(root).encode() in data] == []
