from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.python_project import write_version as write_python_version
from tests.builders.waiting import PATIENCE_S
from tests.cli.conftest import EXAMPLES
from turnout.artifacts.artifact import load_artifact
from turnout.cli.__main__ import main
from turnout.cli.commands.add import absent_packages
from turnout.project.manifest_file import ManifestChangedError
from turnout.project.project import load_project
from turnout.scaffold.new_version import NewVersionError, prepare_version, write_version

TRANSFORM = "def preprocess(inputs):\n    return inputs\n"


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Return every file and folder below, except those that can be made again."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".turnout" not in path.parts
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_identity(tmp_path / "new.onnx")


def test_a_version_is_copied_pinned_and_listed(project: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (project / "models.yaml").read_text()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
    out, err = capsys.readouterr()
    line = f"      v3: {{artifact: models/echo/v3/model.onnx, sha256: {digest}}}\n"
    after = (project / "models.yaml").read_text()
    assert line in after
    assert after.replace(line, "") == before  # comments, order and spacing stay
    assert (project / "models" / "echo" / "v3" / "model.onnx").read_bytes() == model.read_bytes()
    assert "Now dev serves echo v3 instead of v2." in out
    assert out.endswith(f"    turnout serve -m {project}\n    turnout invoke echo v3 -m {project}\n")
    assert err == ""
    assert not list((project / ".turnout").glob("adding-*"))
    assert main(["validate", "-m", str(project)]) == 0


def test_suggested_commands_in_the_current_folder_have_no_path(
    project: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert main(["add", "echo", "v3", str(model)]) == 0
    assert capsys.readouterr().out.endswith("    turnout serve\n    turnout invoke echo v3\n")


def test_absent_packages_are_named_by_their_requirement() -> None:
    given = ("numpy==1.0", "no-such-package[extra]>=2", "typer", "absent_one ; python_version > '3'")
    assert absent_packages(given) == [given[1], given[3]]


def test_examples_and_a_transform_are_copied(project: Path, model: Path, tmp_path: Path) -> None:
    examples, transform = tmp_path / "a.json", tmp_path / "b.py"
    examples.write_text(json.dumps(EXAMPLES))
    transform.write_text(TRANSFORM)
    arguments = ["add", "echo", "v3", str(model), "--examples", str(examples), "--transform", str(transform)]
    assert main([*arguments, "-m", str(project)]) == 0
    version = load_project(project).manifest.model("echo").version("v3")
    assert (version.examples, version.transform) == ("models/echo/v3/examples.json", "models/echo/v3/transform.py")
    assert (project / version.transform).read_text() == TRANSFORM


def test_modules_that_a_transform_imports_are_copied(project: Path, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "t.py").write_text(f"import helper\n{TRANSFORM}")
    (source / "helper.py").write_text("from pkg import part\n")
    (source / "pkg" / "part.py").write_text("")
    (source / "other.py").write_text("")
    assert main(["add", "echo", "v3", str(model), "--transform", str(source / "t.py"), "-m", str(project)]) == 0
    result = load_project(project).transforms["echo", "v3"]
    assert list(result) == ["helper.py", "pkg/part.py", "transform.py"]


@pytest.mark.parametrize("stages", [("dev",), ("dev", "prod")])
def test_an_incompatible_version_never_replaces_another_without_breaking(
    stages: tuple[str, ...], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "prod" in stages:
        manifest = project / "models.yaml"
        canary = "    canary: {percent: 10, serve: {echo: v2}}\n"
        text = manifest.read_text().replace(canary, "").replace("serve: {echo: v1}\n", 'serve: {"*": newest}\n')
        manifest.write_text(text)
    wide = write_identity(tmp_path / "wide.onnx", shape=("batch", 5))
    before = content_of(project)
    assert main(["add", "echo", "v3", str(wide), "-m", str(project)]) == 2
    out, err = capsys.readouterr()
    assert content_of(project) == before
    assert out == ""
    assert "`v3` is incompatible with `v2`: input `x` has the shape [-1, 5], the baseline's is [-1, 4]" in err
    assert f'`"*": newest` moves {", ".join(stages)} from echo v2 to v3' in err
    assert "turnout add --breaking" in err
    assert main(["add", "echo", "v3", str(wide), "--breaking", "-m", str(project)]) == 0
    out, err = capsys.readouterr()
    for stage in stages:
        assert f"Now {stage} serves echo v3 instead of v2." in out
    assert "note: `v3` is incompatible with `v2`: input `x` has the shape" in err
    assert load_project(project).manifest.model("echo").version("v3").breaking
    for command in (["validate"], ["plan"]):
        assert main([*command, "-m", str(project)]) == 0
        out, err = capsys.readouterr()
        assert "allowed by `breaking: true`" in out + err


def test_a_move_from_a_version_with_unknown_tensors_is_noted(
    project: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = project / "models.yaml"
    remote = f"{{artifact: s3://bucket/v2.onnx, sha256: {'ab' * 32}}}"
    manifest.write_text(manifest.read_text().replace("{artifact: models/echo/v2/model.onnx}", remote))
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
    out, err = capsys.readouterr()
    assert "Now dev serves echo v3 instead of v2." in out
    assert err == (
        'note: `"*": newest` moves dev from echo v2 to v3: cannot check whether `v3` is compatible with `v2`\n'
    )


def test_a_version_that_no_stage_moves_to_may_be_incompatible(project: Path, tmp_path: Path) -> None:
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace('serve: {"*": newest}', "serve: {echo: v1}"))
    wide = write_identity(tmp_path / "wide.onnx", shape=("batch", 5))
    assert main(["add", "echo", "v3", str(wide), "-m", str(project)]) == 0
    assert not load_project(project).manifest.model("echo").version("v3").breaking


@pytest.mark.parametrize("command", ["validate", "plan", "models", "openapi"])
def test_an_incompatible_version_written_by_hand_is_rejected(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_identity(project / "models" / "echo" / "v3" / "model.onnx", shape=("batch", 5))
    manifest = project / "models.yaml"
    line = "      v2: {artifact: models/echo/v2/model.onnx}\n"
    manifest.write_text(manifest.read_text().replace(line, f"{line}{line.replace('v2', 'v3')}"))
    code = main([command, "-m", str(project)])
    err = capsys.readouterr().err
    if command == "models":  # the command lists what is written, right or wrong
        assert code == 0
        return
    assert code == 2
    assert '`"*": newest` moves dev from echo v2 to v3' in err
    assert ":9:7: models.echo.versions.v3: " in err


BAD_EXAMPLES = [
    ({"inputs": [{"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}, "y", "got `z`"),
    ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}, "y", "got [1, 3]"),
    ({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 1, 1, 1]}]}, "y", "got FP64"),
    (EXAMPLES[0]["request"], "z", "unknown output `z`"),
]


@pytest.mark.parametrize(("request_", "name", "sentence"), BAD_EXAMPLES, ids=["name", "shape", "datatype", "output"])
@pytest.mark.parametrize("command", ["add", "validate"])
def test_a_mismatching_example_is_rejected(
    command: str,
    request_: dict[str, object],
    name: str,
    sentence: str,
    project: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1.0, 1.0, 1.0, 1.0]}]
    text = json.dumps([EXAMPLES[0], {"name": "odd", "request": request_, "response": {"outputs": outputs}}])
    before = content_of(project)
    if command == "add":
        examples = tmp_path / "a.json"
        examples.write_text(text)
        assert main(["add", "echo", "v3", str(model), "--examples", str(examples), "-m", str(project)]) == 2
        assert content_of(project) == before
    else:
        (project / "models" / "echo" / "v1" / "examples.json").write_text(text)
        assert main(["validate", "-m", str(project)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "example 1 (`odd`)" in err
    assert sentence in err
    if command == "validate":
        assert "models.echo.versions.v1.examples: examples.json: example 1" in err


def test_examples_of_a_version_with_a_transform_may_hold_other_tensors(
    project: Path, model: Path, tmp_path: Path
) -> None:
    examples, transform = tmp_path / "a.json", tmp_path / "b.py"
    request = {"inputs": {"text": ["four words of text"]}}
    examples.write_text(json.dumps([{"name": "text", "request": request, "response": EXAMPLES[0]["response"]}]))
    transform.write_text(TRANSFORM)
    arguments = ["add", "echo", "v3", str(model), "--examples", str(examples), "-m", str(project)]
    assert main(arguments) == 2
    assert main([*arguments, "--transform", str(transform)]) == 0


def test_a_new_model_is_served_by_every_stage(project: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "other", "v1", str(model), "-m", str(project)]) == 0
    assert "Now prod serves other v1." in capsys.readouterr().out
    assert [stage.serve["other"] for stage in load_project(project).manifest.stages] == ["v1", "v1"]


def write_external(path: Path, name: str) -> Path:
    """Write a graph whose weights are in a file with this name next to it."""
    weight = numpy_helper.from_array(
        numpy_helper.to_array(helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4)), "w"
    )
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    write_graph(path, nodes, [value("x", "FP32", ["n", 4])], [value("y", "FP32", ["n", 4])], [weight])
    graph = onnx.load(str(path))
    onnx.save_model(graph, str(path), save_as_external_data=True, location=name, size_threshold=0)
    return path


def test_external_data_is_copied_under_its_own_name(project: Path, tmp_path: Path) -> None:
    path = write_external(tmp_path / "big.onnx", "weights.bin")
    assert main(["add", "echo", "v3", str(path), "-m", str(project)]) == 0
    artifact = load_project(project).artifacts["echo", "v3"]
    assert [file.name for file in artifact.external_files] == ["weights.bin"]
    assert artifact.sha256 == load_artifact(path, None).sha256


def test_external_data_with_a_taken_name_is_rejected(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_external(tmp_path / "big.onnx", "model.onnx")
    assert main(["add", "echo", "v3", str(path), "-m", str(project)]) == 2
    assert "a name that is taken here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["echo", "v1", "new.onnx"], "echo already has a version v1.\n    Versions are immutable"),
        (["echo", "v3", "nope.onnx"], "nope.onnx"),
        (["echo", "v3", "text.txt"], "text.txt is not an ONNX model"),
        (["echo", "V3", "new.onnx"], "would be invalid with echo V3. Nothing was written:"),
        (["../up", "v3", "new.onnx"], "would be invalid with ../up v3"),
        (["echo", "../../v3", "new.onnx"], "would be invalid with echo ../../v3"),
        (["echo", "v3", "new.onnx", "--examples", "text.txt"], "text.txt is not JSON"),
        (["echo", "v3", "new.onnx", "--examples", "nope.json"], "nope.json cannot be read"),
        (["echo", "v3", "new.onnx", "--transform", "text.txt"], "does not compile"),
        (["echo", "orphan", "new.onnx"], "models/echo/orphan already exists"),
        (["alias", "v1", "new.onnx"], "alias"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_rejected_addition_changes_nothing(
    arguments: list[str],
    sentence: str,
    project: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("this is: no model")
    (project / "models" / "echo" / "orphan").mkdir()
    before, outside = content_of(project), sorted(tmp_path.iterdir())
    assert main(["add", *arguments, "-m", str(project)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert content_of(project) == before
    assert sorted(tmp_path.iterdir()) == outside


def test_an_incompatible_version_on_a_canary_is_rejected(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "models.yaml"
    text = path.read_text().replace("serve: {echo: v1}\n", 'serve: {"*": newest}\n')
    path.write_text(text.replace("serve: {echo: v2}}", "serve: {echo: v1}}"))
    wide = write_identity(tmp_path / "wide.onnx", shape=("batch", 5))
    before = content_of(project)
    assert main(["add", "echo", "v3", str(wide), "-m", str(project)]) == 2
    assert "Nothing was written" in capsys.readouterr().err
    assert content_of(project) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_failed_copy_changes_nothing(project: Path, model: Path, stop: type[BaseException]) -> None:
    before = content_of(project)
    prepared = prepare_version(load_project(project, cache=False), "other", "v1", model)

    def fail(_: int) -> None:
        raise stop

    with pytest.raises(stop):
        write_version(prepared, fail)
    assert content_of(project) == before
    assert not list(project.glob(".turnout/adding-*"))


def test_a_file_that_changes_while_it_is_copied_is_rejected(project: Path, model: Path) -> None:
    prepared = prepare_version(load_project(project), "echo", "v3", model)
    before = content_of(project)
    model.write_bytes(model.read_bytes() + b"\n")
    with pytest.raises(NewVersionError, match="changed while it was copied"):
        write_version(prepared)
    assert content_of(project) == before


def test_files_are_removed_again_if_the_manifest_cannot_be_written(project: Path, model: Path) -> None:
    prepared = prepare_version(load_project(project), "echo", "v3", model)
    (project / "models.yaml").unlink()
    with pytest.raises(ManifestChangedError):
        write_version(prepared)
    assert not (project / "models" / "echo" / "v3").exists()
    assert [path.name for path in project.iterdir() if path.name.startswith(".models")] == []


def test_a_symlinked_manifest_stays_a_link(project: Path, model: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    (project / "models.yaml").rename(real)
    (project / "models.yaml").symlink_to(real)
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
    assert (project / "models.yaml").is_symlink()
    assert "v3:" in real.read_text()


def test_concurrent_additions_all_succeed(project: Path, model: Path) -> None:
    names = [f"w{number}" for number in range(4)]
    command = [sys.executable, "-m", "turnout.cli", "add", "echo"]
    processes = [
        subprocess.Popen([*command, name, str(model), "-m", str(project)], stdout=subprocess.DEVNULL) for name in names
    ]
    assert [process.wait(60) for process in processes] == [0] * len(names)
    versions = [version.name for version in load_project(project).manifest.model("echo").versions]
    assert versions[:2] == ["v1", "v2"]
    assert sorted(versions[2:]) == names


def test_a_manifest_saved_meanwhile_is_not_overwritten(project: Path, model: Path) -> None:
    prepared = prepare_version(load_project(project), "echo", "v3", model)
    path = project / "models.yaml"

    def save(_: int) -> None:
        path.write_text(path.read_text() + "# a thought\n")

    with pytest.raises(ManifestChangedError, match="changed while this command ran"):
        write_version(prepared, save)
    assert path.read_text().endswith("# a thought\n")
    assert not (project / "models" / "echo" / "v3").exists()


KILLED = """
import os, pathlib, signal, sys
from turnout.project.manifest_file import ManifestChangedError
from turnout.scaffold.new_version import prepare_version, write_version
from turnout.project.project import load_project
project, model = map(pathlib.Path, sys.argv[1:])
prepared = prepare_version(load_project(project), "echo", "v3", model)
write_version(prepared, lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_addition_killed_while_copying_changes_nothing_and_can_be_repeated(project: Path, model: Path) -> None:
    before = content_of(project)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(project), str(model)], timeout=PATIENCE_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert content_of(project) == before
    assert len(list((project / ".turnout").glob("adding-*"))) == 1
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
    assert not list((project / ".turnout").glob("adding-*"))
    assert main(["validate", "-m", str(project)]) == 0


@pytest.mark.parametrize("linked", [False, True])
def test_files_already_in_place_are_listed(
    linked: bool, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "models" / "echo" / "v3"
    if linked:
        folder.symlink_to(tmp_path / "elsewhere")
    model = write_external((tmp_path / "elsewhere" if linked else folder) / "model.onnx", "weights.bin")
    before = content_of(project)
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
    assert capsys.readouterr().out.startswith("models/echo/v3 already contains its 2 files, ")
    assert content_of(project).keys() == before.keys()
    assert main(["validate", "-m", str(project)]) == 0


def test_other_files_in_place_are_not_overwritten(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_identity(project / "models" / "echo" / "v3" / "model.onnx", shape=("batch", 5))
    model = write_identity(tmp_path / "new.onnx")
    before = content_of(project)
    assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 2
    assert "models/echo/v3 already exists" in capsys.readouterr().err
    assert content_of(project) == before


def test_files_in_place_stay_if_the_manifest_cannot_be_written(project: Path) -> None:
    model = write_identity(project / "models" / "echo" / "v3" / "model.onnx")
    prepared = prepare_version(load_project(project), "echo", "v3", model)
    (project / "models.yaml").unlink()
    with pytest.raises(ManifestChangedError):
        write_version(prepared)
    assert model.is_file()


def test_a_model_that_onnxruntime_cannot_open_is_rejected(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="ai.onnx.ml")]
    path = write_graph(tmp_path / "odd.onnx", nodes, [value("x", "FP32", ["n"])], [value("y", "FP32", ["n"])])
    before = content_of(project)
    assert main(["add", "echo", "v3", str(path), "-m", str(project)]) == 2
    err = capsys.readouterr().err
    assert "cannot open odd.onnx: " in err
    assert "Frobnicate" in err
    assert str(tmp_path) not in err
    assert content_of(project) == before


def test_models_on_another_disk_are_copied_there(project: Path, model: Path) -> None:
    disk = Path("/dev/shm")
    if not disk.is_dir() or disk.stat().st_dev == project.stat().st_dev:
        pytest.skip("needs a second disk")
    with tempfile.TemporaryDirectory(dir=disk) as other:
        (project / "models").rename(project / "old")
        shutil.copytree(project / "old", other, dirs_exist_ok=True)
        (project / "models").symlink_to(other)
        (Path(other) / "echo" / ".adding-killed").mkdir()
        assert main(["add", "echo", "v3", str(model), "-m", str(project)]) == 0
        assert main(["validate", "-m", str(project)]) == 0
        assert sorted(path.name for path in (Path(other) / "echo").iterdir()) == ["v1", "v2", "v3"]


SIGNATURE = "{inputs: {x: {datatype: FP32, shape: [-1, 4]}}, outputs: {y: {datatype: FP32, shape: [-1, 4]}}}"


@pytest.fixture
def python_version(tmp_path: Path) -> Path:
    return write_python_version(tmp_path / "train" / "v1", 3)


@pytest.mark.parametrize(
    ("signature", "message", "hint"),
    [
        (None, "predict.py is a Python file, which does not describe its inputs and outputs", "--signature"),
        ("[1]", "signature.yaml:1:1: must be a mapping", "For example"),
        ("{inputs: {", "signature.yaml:1:", "For example"),
        ("{inputs: {}}", "must hold `inputs` and `outputs`", "For example"),
        (SIGNATURE.replace("FP32", "FLOAT"), "inputs.x.datatype: must be one of BOOL", ""),
        (SIGNATURE.replace("[-1, 4]", "four"), "inputs.x.shape: must be a list", ""),
        (
            SIGNATURE.replace("y: {datatype: FP32", "y: {datatype: FP64"),
            "predict returned FP32 for `y`, declared FP64",
            "",
        ),
    ],
)
def test_a_python_file_needs_a_matching_signature(
    project: Path,
    python_version: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    signature: str | None,
    message: str,
    hint: str,
) -> None:
    before = content_of(project)
    arguments = ["add", "echo", "v3", str(python_version), "--breaking", "-m", str(project)]
    if signature is not None:
        (tmp_path / "signature.yaml").write_text(signature)
        arguments += ["--signature", str(tmp_path / "signature.yaml")]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert hint in err
    assert content_of(project) == before


def test_an_onnx_file_has_its_own_signature(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signature.yaml").write_text(SIGNATURE)
    arguments = ["add", "echo", "v3", str(model), "--signature", str(tmp_path / "signature.yaml"), "-m", str(project)]
    assert main(arguments) == 2
    assert "Leave --signature out." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--runtime", "tensorrt"], "unknown runtime 'tensorrt'", "Known runtimes: onnx, python"),
        (["--runtime", "onnx"], "is a Python file, not a model for `runtime: onnx`", "Leave --runtime out"),
        (["--module", "own.py"], "--module needs --runtime python", "Add --runtime python"),
        (["--runtime", "python", "--module", "nowhere.py"], "nowhere.py is not a Python file", "such as features.py"),
    ],
)
def test_unsuitable_runtime_is_rejected(
    project: Path,
    python_version: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
    hint: str,
) -> None:
    assert main(["add", "new", "v1", str(python_version), *options, "-m", str(project)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert hint in err


def test_a_missing_package_is_named_with_the_option_that_adds_it(
    project: Path, python_version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signature = python_version.with_name("signature.yaml")
    signature.write_text(SIGNATURE)
    python_version.write_text("import markupsafe\n" + python_version.read_text())
    arguments = ["add", "new", "v1", str(python_version), "--signature", str(signature), "-m", str(project)]
    assert main(arguments) == 2
    assert "Add --requirement markupsafe==" in capsys.readouterr().err
    assert main([*arguments, "--requirement", "markupsafe"]) == 0
    version = load_project(project).manifest.model("new").version("v1")
    assert version.runtime == "python"
    assert re.fullmatch(r"markupsafe==\d+\.\d+\.\d+", *version.requirements)
    assert not (project / "models/new/v1/signature.yaml").exists()
    assert (project / "models/new/v1/notes/about.txt").exists()
