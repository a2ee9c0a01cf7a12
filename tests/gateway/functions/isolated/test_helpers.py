"""Helpers with the same name next to two versions' transforms, each in its own process."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.builders.helper_project import write_helper_project
from tests.builders.isolated_project import call_named, play, share_packages
from turnout.gateway.editions.isolated import prepare_codes
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.plan.planner import make_plan
from turnout.project.project import load_project


def test_versions_use_their_own_helpers(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_helper_project(tmp_path)
    share_packages(folder, tmp_path_factory)
    project = load_project(folder / "models.yaml")
    codes = prepare_codes(project, make_plan(project.manifest, project.artifacts, enforce=False))

    async def scenario(functions: IsolatedFunctions) -> None:
        for version, factor in (("v1", 10), ("v2", 100), ("v1", 10)):
            invocation = await call_named(functions, f"turnout-local_echo_{version}", 1)
            assert invocation.answer is not None, invocation
            assert orjson.loads(invocation.answer["body"])["outputs"][0]["data"][0] == factor

    play(codes, scenario)
