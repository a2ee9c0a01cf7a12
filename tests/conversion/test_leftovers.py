"""What a killed conversion leaves in `.turnout` is not part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.helper_project import write_helper_project
from tests.builders.leftovers import write_leftover
from turnout.cli.__main__ import main
from turnout.conversion.scratch import scratch_folder
from turnout.gateway.editions.rebuild import find_files
from turnout.project.project import load_project

TRANSFORM = """\
import helper

FILES = [".turnout", "converting-killed", "out"]


def preprocess(inputs):
    return inputs
"""


def test_a_leftover_is_neither_validated_nor_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One transform is next to models.yaml, so everything that it imports or names belongs to the project."""
    project = write_helper_project(tmp_path)
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("models/echo/v1/transform.py", "transform.py"))
    (project / "transform.py").write_text(TRANSFORM)
    (project / "helper.py").write_text("")
    loaded = load_project(manifest)
    watched = find_files(manifest, None, loaded.manifest.versions)
    assert main(["validate", "-m", str(project)]) == 0
    says = capsys.readouterr()
    folder = write_leftover(project)
    again = load_project(manifest)
    assert again.transforms == loaded.transforms
    assert find_files(manifest, None, again.manifest.versions) == watched
    assert not [path for path in watched if ".turnout" in path.parts]
    assert main(["validate", "-m", str(project)]) == 0
    assert capsys.readouterr() == says
    with scratch_folder(folder.parent):
        assert not folder.exists()
