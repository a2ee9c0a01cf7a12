from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from model_lambdas.function.runtime import FunctionSpec, ModelError
from model_lambdas.onnx_model import private_files as private_files_module
from model_lambdas.onnx_model.private_files import LARGEST_IN_MEMORY_BYTES, OtherContentError, private_files
from model_lambdas.onnx_model.session import Model
from tests.builders.graphs import value, write_identity
from turnout.artifacts.artifact import load_artifact

SIZE = 256


def write_scale(folder: Path, factor: float, name: str = "model.onnx") -> Path:
    """Write `y = x * w` with its weight in external data, which is mapped into memory, because no kernel packs it."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = numpy_helper.from_array(np.full((SIZE, 1024), factor, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "scale",
        [value("x", "FP32", [1])],
        [value("y", "FP32", [SIZE, 1024])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / name), save_as_external_data=True, location="data-weights.bin")
    return folder / name


def spec_of(path: Path, copies: Path | None) -> FunctionSpec:
    artifact = load_artifact(path, None)
    return FunctionSpec(
        "scale",
        "v1",
        artifact.sha256,
        artifact.signature,
        artifact.path,
        external_files=artifact.external_files,
        copies=copies,
    )


def overwrite(folder: Path, other: Path) -> None:
    (folder / "data-weights.bin").write_bytes((other / "data-weights.bin").read_bytes())


def overwrite_in_place(folder: Path, other: Path) -> None:
    with (folder / "data-weights.bin").open("r+b") as stream:
        stream.write((other / "data-weights.bin").read_bytes())


def truncate(folder: Path, _: Path) -> None:
    os.truncate(folder / "data-weights.bin", 0)


def replace(folder: Path, other: Path) -> None:
    shutil.copy(other / "data-weights.bin", folder / "new")
    (folder / "new").replace(folder / "data-weights.bin")


def delete(folder: Path, _: Path) -> None:
    shutil.rmtree(folder)


def flip_link(folder: Path, other: Path) -> None:
    (folder / "data-weights.bin").unlink()
    (folder / "data-weights.bin").symlink_to(other / "data-weights.bin")


@pytest.mark.parametrize("change", [overwrite, overwrite_in_place, truncate, replace, delete, flip_link])
def test_an_open_session_is_not_affected_by_changes_to_its_files(
    tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    path = write_scale(tmp_path / "v1", 2)
    write_scale(tmp_path / "other", 7)
    model = Model(spec_of(path, tmp_path / "copies"))
    change(tmp_path / "v1", tmp_path / "other")
    result = model.run({"x": np.array([3], np.float32)})["y"]
    assert set(result.reshape(-1).tolist()) == {6.0}


@pytest.mark.parametrize("change", [overwrite, truncate, flip_link])
def test_other_content_is_not_opened_under_the_digest(tmp_path: Path, change: Callable[[Path, Path], None]) -> None:
    spec = spec_of(write_scale(tmp_path / "v1", 2), tmp_path / "copies")
    write_scale(tmp_path / "other", 7)
    change(tmp_path / "v1", tmp_path / "other")
    with pytest.raises(ModelError, match=r"^scale v1: model\.onnx has changed since models\.yaml was read") as caught:
        Model(spec)
    assert spec.sha256 in str(caught.value)


def test_touched_files_are_opened(tmp_path: Path) -> None:
    spec = spec_of(write_scale(tmp_path / "v1", 2), tmp_path / "copies")
    for file in (tmp_path / "v1").iterdir():
        shutil.copy(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
        os.utime(file, ns=(1, 1))
    Model(spec)


def test_the_copies_are_deleted_once_the_session_is_open(tmp_path: Path) -> None:
    Model(spec_of(write_scale(tmp_path / "v1", 2), tmp_path / "copies"))
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_small_model_without_external_data_is_passed_in_memory(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "m.onnx")
    with private_files(path, (), load_artifact(path, None).sha256, tmp_path / "copies") as given:
        assert given == path.read_bytes()
    assert not (tmp_path / "copies").exists()


def test_a_large_model_without_external_data_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x" * (LARGEST_IN_MEMORY_BYTES + 1))
    digest = private_files_module.combine_digests([private_files_module._copy(path, tmp_path / "copied")])
    with private_files(path, (), digest, tmp_path / "copies") as given:
        assert isinstance(given, Path)
        assert given != path
        assert given.read_bytes() == path.read_bytes()
    assert not given.exists()


def test_copies_are_made_elsewhere_if_the_folder_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    model = Model(spec_of(write_scale(tmp_path / "v1", 2), tmp_path / "file" / "copies"))
    assert model.run({"x": np.array([3], np.float32)})["y"][0, 0] == 6


def test_leftovers_of_a_killed_process_are_deleted_and_files_of_another_process_are_not(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    for name in ("opening-left", "opening-used"):
        (copies / name / "model").mkdir(parents=True)
        (copies / name / "lock").touch()
    with (copies / "opening-used" / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Model(spec_of(write_scale(tmp_path / "v1", 2), copies))
    assert [path.name for path in copies.iterdir()] == ["opening-used"]


def test_a_missing_file_is_reported_with_the_name_of_the_model(tmp_path: Path) -> None:
    spec = spec_of(write_scale(tmp_path / "v1", 2), tmp_path / "copies")
    (tmp_path / "v1" / "data-weights.bin").unlink()
    with pytest.raises(ModelError, match=r"^scale v1: model\.onnx cannot be copied to be opened: No such file"):
        Model(spec)


def test_the_digest_of_several_files_depends_on_names_and_not_on_their_order(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "m.onnx")
    files = [tmp_path / name for name in ("b.bin", "a.bin")]
    for file in files:
        file.write_bytes(file.name.encode())
    expected = private_files_module.combine_digests(
        [private_files_module._copy(file, tmp_path / f"{file.name}.copy") for file in (path, *reversed(files))]
    )
    for order in (files, files[::-1]):
        with private_files(path, order, expected, tmp_path / "copies") as given:
            assert isinstance(given, Path)
            assert sorted(file.name for file in given.parent.iterdir()) == ["a.bin", "b.bin", "m.onnx"]
    with pytest.raises(OtherContentError), private_files(path, files[:1], expected, tmp_path / "copies"):
        pass
