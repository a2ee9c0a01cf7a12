"""Packages: reproducible, built only if an input has changed, and each able to run alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from turnout.artifacts.examples import Example, matches, read_examples
from turnout.packaging.build import BuildTarget, BuiltPackage, build_packages
from turnout.packaging.contents import FunctionInputs
from turnout.packaging.layer import LayerError, LayerSpec, resolve_requirements
from turnout.project.project import Project, load_project

HERE = BuildTarget(python="")

ALONE = """
import json, os, sys
task, layer = sys.argv[1:]
sys.path[:0] = [task, layer]
os.environ["LAMBDA_TASK_ROOT"] = task
from model_lambdas.function.entry import handler
answers = [handler(event, None) for event in json.load(sys.stdin)]
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
outside = [file for file in files if "site-packages" in file]
json.dump({"answers": answers, "outside": outside}, sys.stdout)
"""


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(root / "models.yaml", folder)
    shutil.copytree(root / "models", folder / "models")
    return load_project(folder / "models.yaml")


@pytest.fixture(scope="module")
def built(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltPackage, ...]:
    """Packages for this machine's Python, which the tests can run."""
    return build_packages(project, out=tmp_path_factory.mktemp("packages"), target=HERE)


@pytest.fixture(scope="module")
def layer(built: tuple[BuiltPackage, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("layer")
    with zipfile.ZipFile(built[0].path) as archive:
        archive.extractall(folder)
    yield folder / "python"
    shutil.rmtree(folder)


def functions(built: tuple[BuiltPackage, ...]) -> list[BuiltPackage]:
    return [package for package in built if package.kind == "function"]


def test_there_is_one_layer_and_one_zip_per_version(project: Project, built: tuple[BuiltPackage, ...]) -> None:
    assert [package.kind for package in built] == ["layer"] + ["function"] * 6
    expected = [f"{version.model}_{version.name}" for model in project.manifest.models for version in model.versions]
    assert [package.name for package in functions(built)] == expected
    assert {package.layer for package in functions(built)} == {built[0].name}


def test_sizes_are_those_of_the_zips(built: tuple[BuiltPackage, ...]) -> None:
    for package in built:
        with zipfile.ZipFile(package.path) as archive:
            assert package.unzipped_bytes == sum(len(archive.read(entry)) for entry in archive.infolist())
        assert package.zip_bytes == package.path.stat().st_size


def test_a_second_build_builds_nothing(project: Project, built: tuple[BuiltPackage, ...]) -> None:
    events: list[tuple[str, str]] = []
    again = build_packages(
        project, out=built[0].path.parent, target=HERE, progress=lambda name, event: events.append((name, event))
    )
    assert [package.digest for package in again] == [package.digest for package in built]
    assert all(package.cached for package in again)
    assert {event for _, event in events} == {"started", "cached"}


def test_bytes_are_equal_when_built_in_another_folder(
    project: Project, built: tuple[BuiltPackage, ...], tmp_path: Path
) -> None:
    again = build_packages(project, out=tmp_path / "elsewhere", target=HERE, jobs=1)
    assert [package.path.read_bytes() for package in again] == [package.path.read_bytes() for package in built]


def test_only_changed_packages_are_rebuilt(project: Project, built: tuple[BuiltPackage, ...], tmp_path: Path) -> None:
    folder = project.manifest.path.parent
    changed = tmp_path / "project"
    shutil.copytree(folder, changed, ignore=shutil.ignore_patterns(".turnout"))
    examples = changed / "models/iris/v1/examples.json"
    rows = json.loads(examples.read_text())
    examples.write_text(json.dumps(rows[1:]))  # its first example is the warm-up request
    again = build_packages(load_project(changed / "models.yaml"), out=built[0].path.parent, target=HERE)
    assert [package.name for package in again if not package.cached] == ["iris_v1"]


def proxy_event(example: Example) -> dict[str, object]:
    body = json.dumps(example.request)
    return {"headers": {"Content-Type": "application/json"}, "body": body, "isBase64Encoded": False}


def test_each_zip_runs_alone(project: Project, built: tuple[BuiltPackage, ...], layer: Path, tmp_path: Path) -> None:
    for package in functions(built):
        task = tmp_path / package.name
        with zipfile.ZipFile(package.path) as archive:
            archive.extractall(task)
        model, version = package.name.split("_")
        examples = read_examples(project.manifest.path.parent / project.manifest.model(model).version(version).examples)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", ALONE, str(task), str(layer)],
            input=json.dumps([proxy_event(example) for example in examples]),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        report = json.loads(done.stdout)
        assert report["outside"] == []
        for example, answer in zip(examples, report["answers"], strict=True):
            assert answer["statusCode"] == 200, answer["body"]
            assert matches(example, json.loads(answer["body"])) == []


def test_bytecode_is_used_if_it_exists(built: tuple[BuiltPackage, ...], layer: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(functions(built)[0].path) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    tag = sys.implementation.cache_tag
    assert f"turnout/protocol/codecs/__pycache__/codecs.{tag}.pyc" in names
    handler = tmp_path / "model_lambdas/function/handler.py"
    handler.write_text("raise SystemExit('the source was compiled')")  # unchecked: the source is not read
    code = "import sys; sys.path[:0] = sys.argv[1:]; import model_lambdas.function.handler as m; print(m.ModelFunction)"
    run = [sys.executable, "-I", "-S", "-c", code, str(tmp_path), str(layer)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert "ModelFunction" in done.stdout, done.stderr


def test_lambda_packages_contain_the_configured_architecture(project: Project, tmp_path: Path) -> None:
    built = build_packages(project, out=tmp_path, only=[("iris", "v1")])
    assert [package.name for package in built] == ["layer_arm64_python3.13", "iris_v1"]
    with zipfile.ZipFile(built[0].path) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
        assert any("cpython-313-aarch64-linux-gnu" in name for name in libraries)
        assert not [name for name in libraries if "x86_64" in name]
        assert all(name.startswith("python/") for name in archive.namelist())
    assert built[0].unzipped_bytes + built[1].unzipped_bytes < 250 * 1024 * 1024


def test_requirements_are_pinned_with_their_dependencies(tmp_path: Path) -> None:
    pinned = resolve_requirements(LayerSpec("arm64", "3.13", ("jinja2<3.2",)), tmp_path)
    assert [line.partition("==")[0] for line in pinned] == ["jinja2", "markupsafe"]


def test_a_requirement_without_a_wheel_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="no-such-package-anywhere"):
        resolve_requirements(LayerSpec("arm64", "3.13", ("no-such-package-anywhere",)), tmp_path)


def test_requirements_of_a_transform_are_in_its_layer(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "models/iris/v1", tmp_path / "v1")
    (tmp_path / "transform.py").write_text("import markupsafe\n\n\ndef preprocess(inputs):\n    return inputs\n")
    (tmp_path / "models.yaml").write_text(
        "models:\n  iris:\n    versions:\n      plain: {artifact: v1/model.onnx}\n"
        "      v1: {artifact: v1/model.onnx, transform: transform.py, requirements: [markupsafe>=3]}\n"
        'stages:\n  dev: {serve: {"*": newest}}\n'
    )
    built = build_packages(load_project(tmp_path / "models.yaml"), out=tmp_path / "out")
    plain, wanting = (package for package in built if package.kind == "layer")
    assert [package.layer for package in functions(built)] == [plain.name, wanting.name]
    names = [set(zipfile.ZipFile(layer.path).namelist()) for layer in (plain, wanting)]
    assert "python/markupsafe/__init__.py" in names[1] - names[0]
    assert names[0] < names[1]


def test_graphs_are_compared_on_the_examples(root: Path) -> None:
    project = load_project(root / "models.yaml")
    for model in project.manifest.models:
        for version in model.versions:
            inputs = FunctionInputs(
                version,
                project.artifacts[version.model, version.name],
                root,
                requests=tuple(example.request for example in project.examples_of(version)),
            )
            names = {tensor.name for tensor in inputs.artifact.signature.inputs}
            assert len(inputs.examples()) == len(inputs.requests) > 0
            assert all(set(arrays) == names for arrays in inputs.examples())


def test_a_transform_is_applied_between_examples_and_graph(root: Path) -> None:
    project = load_project(root / "models.yaml")
    version = replace(project.manifest.models[0].versions[0], transform="transform.py")
    assert FunctionInputs(version, project.artifacts["iris", "v1"], root).examples() == []


@pytest.mark.parametrize("content", [None, b"", b"[1"])
@pytest.mark.parametrize("suffix", [".json", ".zip"])
def test_an_incomplete_package_is_rebuilt(
    project: Project, built: tuple[BuiltPackage, ...], tmp_path: Path, content: bytes | None, suffix: str
) -> None:
    only = [(project.manifest.models[0].name, project.manifest.models[0].versions[0].name)]

    def build() -> BuiltPackage:
        return next(iter(functions(build_packages(project, out=tmp_path, target=HERE, only=only))))

    for package in built:
        shutil.copy(package.path, tmp_path)
        shutil.copy(package.path.with_suffix(".json"), tmp_path)
    function = build()
    assert function.cached
    damaged = function.path.with_suffix(suffix)
    before = damaged.read_bytes()
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    again = build()
    assert (again.cached, again.notes, damaged.read_bytes()) == (False, function.notes, before)
