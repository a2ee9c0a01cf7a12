"""The manifest together with the files that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.artifacts.artifact import Artifact, ArtifactError, Reading
from turnout.problems import ProblemsError
from turnout.project.project import CACHE_DIR, load_project
from turnout.project.transform_checks import check_transform
from turnout.protocol.tensors.datatypes import Signature
from turnout.runtimes.registry import RUNTIMES
from turnout.runtimes.runtime import VersionFiles

EXAMPLES = [
    {
        "name": "one",
        "request": {"inputs": {"x": [[1, 2, 3, 4]]}},
        "response": {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]},
    }
]


def write_manifest(folder: Path, versions: str, more: str = "") -> Path:
    path = folder / "models.yaml"
    path.write_text(f'models:\n  iris:\n    versions:\n{versions}{more}stages:\n  dev: {{serve: {{"*": newest}}}}\n')
    return path


def inspect_bytes(source: VersionFiles, cache_dir: Path | None, *, reading: Reading) -> Artifact:
    """Accept any bytes as an artifact, except for bytes that say otherwise."""
    data = source.path.read_bytes()
    if data == b"not onnx":
        raise ArtifactError(f"{source.path.name} is no ONNX model", "Export it.")
    return Artifact(source.path, sha256(data).hexdigest(), len(data), Signature((), ()))


BYTES = {"onnx": replace(RUNTIMES["onnx"], inspect=inspect_bytes)}


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ProblemsError) as caught:
        load_project(path, runtimes=BYTES)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.onnx").write_bytes(b"model")
    (tmp_path / "m" / "bad.onnx").write_bytes(b"not onnx")
    (tmp_path / "m" / "transform.py").write_text("def preprocess(inputs):\n    return inputs\n")
    (tmp_path / "m" / "examples.json").write_text(json.dumps(EXAMPLES))
    return tmp_path


def test_real_project_is_loaded_and_cached(tmp_path: Path) -> None:
    write_identity(tmp_path / "m" / "model.onnx")
    path = write_manifest(tmp_path, "      v1: {artifact: m/model.onnx}\n")
    project = load_project(path)
    artifact = project.artifacts["iris", "v1"]
    assert artifact.path == tmp_path / "m" / "model.onnx"
    assert [tensor.name for tensor in artifact.signature.inputs] == ["x"]
    assert (tmp_path / CACHE_DIR).is_dir()
    assert load_project(path) == project


def test_nothing_is_written_without_the_cache(tmp_path: Path) -> None:
    write_identity(tmp_path / "m" / "model.onnx")
    load_project(write_manifest(tmp_path, "      v1: {artifact: m/model.onnx}\n"), cache=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m", "models.yaml"]


def test_files_are_found_from_any_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(folder, "      v1: {artifact: m/model.onnx, transform: m/transform.py, examples: m/examples.json}\n")
    monkeypatch.chdir(folder / "m")
    project = load_project(Path("../models.yaml"), runtimes=BYTES)
    assert project.manifest.source == "../models.yaml"
    assert list(project.artifacts) == [("iris", "v1")]
    assert load_project(Path(".."), runtimes=BYTES).artifacts.keys() == project.artifacts.keys()


def test_matching_pinned_digest_is_accepted_in_either_case(folder: Path) -> None:
    digest = sha256(b"model").hexdigest().upper()
    load_project(write_manifest(folder, f"      v1: {{artifact: m/model.onnx, sha256: '{digest}'}}\n"), runtimes=BYTES)


def test_artifact_on_s3_is_not_fetched(folder: Path) -> None:
    versions = f"      v1: {{artifact: s3://bucket/key.onnx, sha256: {'ab' * 32}}}\n"
    assert load_project(write_manifest(folder, versions), runtimes=BYTES).artifacts == {}


def write_link(folder: Path) -> None:
    (folder / "m" / "link.onnx").symlink_to(folder / "m" / "model.onnx")


def test_symlink_is_followed(folder: Path) -> None:
    write_link(folder)
    load_project(write_manifest(folder, "      v1: {artifact: m/link.onnx}\n"), runtimes=BYTES)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("artifact: m/modle.onnx",
         "4:12: models.iris.versions.v1.artifact: no such file: m/modle.onnx\n    Did you mean m/model.onnx?"),
        ("artifact: x/model.onnx", "no such file: x/model.onnx\n    Paths are relative to the manifest's folder."),
        ("artifact: m\\model.onnx",
         "no such file: m\\model.onnx\n    Use forward slashes: m/model.onnx."),
        ("artifact: m", "artifact: m is a folder\n    Did you mean m/bad.onnx?"),
        ("artifact: m/model.onnx/x", "m/model.onnx/x cannot be read: Not a directory"),
        (f"artifact: {'a' * 300}", "cannot be read: File name too long"),
        ("artifact: /dev/null", "must be a path relative to this file's folder"),
        ("artifact: m/bad.onnx", "artifact: bad.onnx is no ONNX model\n    Export it."),
        (f"artifact: m/model.onnx, sha256: {'ab' * 32}",
         "4:36: models.iris.versions.v1.sha256: m/model.onnx has changed: its sha256 is 9372c470eead"),
        (f"artifact: m/model.onnx, sha256: {'ab' * 32}", "v1 is immutable: add a new version"),
        ("artifact: m/model.onnx, transform: m/transfrom.py",
         "4:36: models.iris.versions.v1.transform: no such file: m/transfrom.py\n    Did you mean m/transform.py?"),
        ("artifact: m/model.onnx, examples: m/x.json", "no such file: m/x.json\n    Did you mean m/examples.json?"),
    ],
)  # fmt: skip
def test_unusable_file_is_reported(folder: Path, fields: str, expected: str) -> None:
    problems = problems_of(write_manifest(folder, f"      v1: {{{fields}}}\n"))
    assert len(problems) == 1
    assert f"{folder}/models.yaml:4:" in problems[0]
    assert expected in problems[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def preprocess(inputs:\n    pass\n", "transform.py does not compile: line 1: '(' was never closed"),
        ("x = 1\nreturn x\n", "transform.py does not compile: line 2: 'return' outside function"),
        ("x = 1\n", "transform.py defines neither `preprocess` nor `postprocess`"),
        ("", "transform.py defines neither `preprocess` nor `postprocess`"),
        ("x = '\0'\n", "transform.py does not compile"),
        ("# caf\udce9\n", "transform.py does not compile"),
        ("(" * 500 + ")" * 500, "transform.py does not compile"),
    ],
)
def test_unusable_transform_is_reported(folder: Path, text: str, expected: str) -> None:
    (folder / "m" / "transform.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    path = write_manifest(folder, "      v1: {artifact: m/model.onnx, transform: m/transform.py}\n")
    (problem,) = problems_of(path)
    assert f"models.yaml:4:36: models.iris.versions.v1.transform: {expected}" in problem


@pytest.mark.parametrize(
    "text",
    [
        "def postprocess(outputs): return outputs",
        "from elsewhere import preprocess",
        "from elsewhere import clean as preprocess",
        "from elsewhere import *",
        "preprocess = lambda inputs: inputs",
        "try:\n    import x\nexcept ImportError:\n    def preprocess(inputs): return inputs",
        "import re\npattern = '\\d'\ndef preprocess(inputs): return inputs",
    ],
)
def test_transform_is_not_run_and_may_be_defined_in_any_way(tmp_path: Path, text: str) -> None:
    path = tmp_path / "transform.py"
    path.write_text(text)
    assert not check_transform(path)


def without_response(rows: list[dict[str, object]]) -> str:
    return json.dumps([{key: value for key, value in entry.items() if key != "response"} for entry in rows])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: "[", "examples.json is not JSON"),
        (lambda _: "{}", "examples.json: must be a list of examples"),
        (without_response, "`response` is missing"),
    ],
)
def test_malformed_examples_are_reported(
    folder: Path, make: Callable[[list[dict[str, object]]], str], expected: str
) -> None:
    (folder / "m" / "examples.json").write_text(make(EXAMPLES))
    (problem,) = problems_of(write_manifest(folder, "      v1: {artifact: m/model.onnx, examples: m/examples.json}\n"))
    assert expected in problem


def test_problems_of_manifest_and_files_are_reported_together(folder: Path) -> None:
    versions = (
        "      v1: {artifact: m/none.onnx, memory_mb: 1}\n"
        "      v2: {artifact: m/bad.onnx, transform: m/none.py}\n"
        f"      v3: {{artifact: m/model.onnx, sha256: {'cd' * 32}}}\n"
        "      V4: {artifact: m/none.onnx}\n"
    )
    problems = problems_of(write_manifest(folder, versions, "  spam: 1\n"))
    places = [problem.partition("models.yaml:")[2].partition(": ")[0] for problem in problems]
    assert places == ["4:12", "4:35", "5:12", "5:34", "6:36", "7:7", "7:12", "8:3"]


def test_missing_manifest_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path)
    assert problem.startswith(f"{tmp_path}/models.yaml: there is no such file")
    assert "turnout init" in problem


def test_unreadable_manifest_is_reported(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").mkdir()
    (problem,) = problems_of(tmp_path)
    assert "cannot be read: Is a directory" in problem


def test_large_manifest_is_not_read_completely(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    with path.open("wb") as file:
        file.truncate(20 << 30)  # sparse: uses no space
    assert "is larger than 1 MB" in problems_of(path)[0]
