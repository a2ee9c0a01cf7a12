"""The misbehaving project, with built packages."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.builders.isolated_project import share_packages, write_misbehaving
from turnout.gateway.editions.isolated import prepare_codes
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.plan.planner import make_plan
from turnout.project.project import load_project


@pytest.fixture(scope="session")
def code_of(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, FunctionCode]:
    """Return the code of each model's first version by the model's name, and of every other function by its own
    name.
    """
    folder = write_misbehaving(tmp_path_factory.mktemp("misbehaving"))
    share_packages(folder, tmp_path_factory)
    project = load_project(folder / "models.yaml")
    return {
        code.function.model if code.function.version == "v1" else code.function.name: code
        for code in prepare_codes(project, make_plan(project.manifest, project.artifacts, enforce=False))
    }
