from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.builders.python_project import write_python_project, write_version
from turnout.artifacts.artifact import ArtifactError, unremarked
from turnout.problems import ProblemsError
from turnout.project.project import CACHE_DIR, load_project
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.runtimes.python import inspect
from turnout.runtimes.runtime import VersionFiles

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))


def test_a_version_consists_of_its_folder(tmp_path: Path) -> None:
    project = load_project(write_python_project(tmp_path))
    artifact = project.artifacts["echo", "v2"]
    folder = tmp_path / "models/echo/v2"
    assert artifact.path == folder / "predict.py"
    names = [file.relative_to(folder).as_posix() for file in artifact.external_files]
    assert names == ["factor.json", "helper.py", "notes/about.txt"]
    assert artifact.signature == SIGNATURE
    assert artifact.size_bytes == sum(file.stat().st_size for file in (artifact.path, *artifact.external_files))


def test_the_digest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    artifact = load_project(write_python_project(tmp_path)).artifacts["echo", "v2"]
    names = sorted(f.relative_to(artifact.path.parent).as_posix() for f in (artifact.path, *artifact.external_files))
    printed = subprocess.run(["sha256sum", *names], cwd=artifact.path.parent, capture_output=True, check=True).stdout
    assert artifact.sha256 == hashlib.sha256(printed).hexdigest()


@pytest.mark.parametrize("change", ["edit", "add", "rename", "delete"])
def test_every_change_of_a_file_changes_the_digest(tmp_path: Path, change: str) -> None:
    write_python_project(tmp_path)
    folder = tmp_path / "models/echo/v2"
    before = load_project(tmp_path).artifacts
    if change == "edit":
        (folder / "factor.json").write_text("6")
    elif change == "add":
        (folder / "more.txt").write_text("")
    elif change == "rename":
        (folder / "factor.json").rename(folder / "g.json")
    else:
        (folder / "notes/about.txt").unlink()
    after = load_project(tmp_path).artifacts
    assert after["echo", "v2"].sha256 != before["echo", "v2"].sha256
    assert after["echo", "v3"].sha256 == before["echo", "v3"].sha256


def test_a_pinned_version_that_changed_is_a_problem(tmp_path: Path) -> None:
    write_python_project(tmp_path)
    digest = load_project(tmp_path).artifacts["echo", "v2"].sha256
    text = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models.yaml").write_text(text.replace("v2/predict.py,", f"v2/predict.py, sha256: '{digest}',"))
    load_project(tmp_path)
    (tmp_path / "models/echo/v2/helper.py").write_text("FACTOR = 3\n")
    with pytest.raises(ProblemsError, match=r"models/echo/v2/predict\.py has changed: its sha256 is"):
        load_project(tmp_path)


def test_files_that_models_yaml_names_for_others_do_not_belong_to_it(tmp_path: Path) -> None:
    write_python_project(tmp_path)
    text = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models/echo/v2/examples.json").write_text("[]")
    (tmp_path / "models/echo/v2/old").mkdir()
    (tmp_path / "models/echo/v1/model.onnx").rename(tmp_path / "models/echo/v2/old/model.onnx")
    text = text.replace("echo/v1/model.onnx", "echo/v2/old/model.onnx")
    text = text.replace("v2/predict.py,", "v2/predict.py, examples: models/echo/v2/examples.json,")
    (tmp_path / "models.yaml").write_text(text)
    names = {file.name for file in load_project(tmp_path).artifacts["echo", "v2"].external_files}
    assert names == {"factor.json", "helper.py", "about.txt"}


def test_two_versions_may_share_a_folder(tmp_path: Path) -> None:
    write_python_project(tmp_path)
    (tmp_path / "models/echo/v3/predict.py").rename(tmp_path / "models/echo/v2/other.py")
    text = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models.yaml").write_text(text.replace("v3/predict.py", "v2/other.py"))
    artifacts = load_project(tmp_path).artifacts
    assert "other.py" not in {file.name for file in artifacts["echo", "v2"].external_files}
    assert {file.name for file in artifacts["echo", "v3"].external_files} == {"factor.json", "helper.py", "about.txt"}


def test_next_to_models_yaml_only_imported_or_named_files_belong_to_it(tmp_path: Path) -> None:
    write_python_project(tmp_path)
    write_version(tmp_path / "x", 1)
    for file in (tmp_path / "x").iterdir():
        file.rename(tmp_path / file.name)
    text = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models.yaml").write_text(text.replace("models/echo/v3/predict.py", "predict.py"))
    names = {file.name for file in load_project(tmp_path).artifacts["echo", "v3"].external_files}
    assert names == {"factor.json", "helper.py"}


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("def load(folder): pass", "predict.py defines no `predict`", "Add: def predict(inputs): ..."),
        ("def predict(inputs): pass", "predict.py defines no `load`", "Add: def load(folder): ..."),
        ("def load(folder", "predict.py does not compile: line 1:", ""),
        ("return 3", "predict.py does not compile: line 1: 'return' outside function", ""),
    ],
)
def test_a_file_that_cannot_be_served_is_reported_with_the_reason(
    tmp_path: Path, source: str, message: str, hint: str
) -> None:
    path = tmp_path / "predict.py"
    path.write_text(source)
    with pytest.raises(ArtifactError) as raised:
        inspect(VersionFiles(path), None, reading=unremarked)
    assert message in raised.value.message
    assert raised.value.hint == hint


def test_functions_may_come_from_another_module(tmp_path: Path) -> None:
    for source in ("from helper import load, predict", "from helper import *"):
        (tmp_path / "predict.py").write_text(source)
        assert inspect(VersionFiles(tmp_path / "predict.py"), None, reading=unremarked).sha256


def test_a_missing_file_is_reported_with_a_similar_one(tmp_path: Path) -> None:
    write_python_project(tmp_path)
    text = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models.yaml").write_text(text.replace("v2/predict.py", "v2/predcit.py"))
    with pytest.raises(ProblemsError, match=r"no such file: models/echo/v2/predcit\.py\n.*v2/predict\.py"):
        load_project(tmp_path)


def test_a_digest_is_cached_until_a_file_changes_or_is_added(tmp_path: Path) -> None:
    path = write_version(tmp_path / "v1", 1)
    files = (path.parent / "helper.py", path.parent / "factor.json")
    for file in (path, *files):
        os.utime(file, (1e9, 1e9))
    taken: list[str] = []

    def reading(name: str, size_bytes: int) -> nullcontext[None]:
        taken.append(name)
        return nullcontext()

    source = VersionFiles(path, files, SIGNATURE)
    cache = tmp_path / CACHE_DIR
    first = inspect(source, cache, reading=reading)
    (path.parent / "late.txt").write_text("")
    later = inspect(VersionFiles(path, (*files, path.parent / "late.txt"), SIGNATURE), cache, reading=reading)
    assert later.sha256 != first.sha256
    assert len(taken) == 2
