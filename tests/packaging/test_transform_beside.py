"""Files next to a transform in packages, and how they are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest

from tests.builders.helper_project import write_helper_project
from tests.builders.leftovers import write_leftover
from tests.builders.shared_layers import shared_layers
from turnout.packaging.build import BuildTarget, BuiltPackage, build_packages
from turnout.packaging.unpack import unpack_zip
from turnout.project.project import load_project

ASK = """
import os, sys
task = sys.argv[1]
os.environ["LAMBDA_TASK_ROOT"] = task
sys.path[:0] = [task]
from model_lambdas.function.entry import handler
body = '{"inputs": {"x": [[1, 2, 3, 4]]}}'
print(handler({"headers": {"content-type": "application/json"}, "body": body, "isBase64Encoded": False}, None)["body"])
"""


def build(project: Path, factory: pytest.TempPathFactory) -> dict[str, BuiltPackage]:
    with shared_layers(project / "out", factory) as out:
        built = build_packages(load_project(project / "models.yaml"), out=out, target=BuildTarget(python=""))
    return {package.name: package for package in built}


def test_files_next_to_a_transform_are_in_the_zip_and_run_from_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = write_helper_project(tmp_path)
    built = build(project, tmp_path_factory)
    names = set(zipfile.ZipFile(built["echo_v1"].path).namelist())
    expected = {"transform.py", "helper.py", "pkg/__init__.py", "pkg/later.py", "factor.txt"}
    assert {f"transform/{name}" for name in expected} <= names
    assert "transform/model.onnx" not in names
    layer = unpack_zip(next(package.path for package in built.values() if package.kind == "layer"), tmp_path / "at")
    for version, factor in (("v1", 10), ("v2", 100)):
        task = unpack_zip(built[f"echo_{version}"].path, tmp_path / "at")
        shutil.move(task, tmp_path / "at" / version)  # nothing in it may depend on where it was built
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                "-c",
                f"import sys\nsys.path.append({str(layer / 'python')!r})\n{ASK}",
                str(tmp_path / "at" / version),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.defpath},
        )
        assert orjson.loads(done.stdout)["outputs"]["y"] == [[factor, 2 * factor, 3 * factor, 4 * factor]]


def test_an_edited_helper_changes_only_the_package_of_its_version(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = write_helper_project(tmp_path)
    before = build(project, tmp_path_factory)
    (project / "models/echo/v2/pkg/later.py").write_text("def factor():\n    return 8\n")
    write_leftover(project)
    after = build(project, tmp_path_factory)
    changed = {name for name, package in after.items() if package.digest != before[name].digest}
    assert changed == {"echo_v2"}
