"""`turnout remove`: versions in use stay; others are removed, with their files on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.cli.conftest import EXAMPLES
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.cli.__main__ import main
from turnout.project.manifest_file import ManifestChangedError
from turnout.project.project import load_project
from turnout.scaffold.removed_version import prepare_removal, remove_version

MANIFEST = """\
# what we serve
models:
  echo:
    versions:
      # the first one
      v1: {artifact: models/echo/v1/model.onnx, examples: models/echo/v1/examples.json}  # old
      v2:
        artifact: models/echo/v2/model.onnx
        transform: models/echo/v2/transform.py
      v3: {artifact: models/echo/v2/model.onnx}  # shares its file
      v4: {artifact: models/echo/v4/model.onnx}
    routing: ROUTING
  GRAPH
stages:
  dev: {serve: {"*": newest}}  # everything
  prod: STAGE
"""


def write(folder: Path, *, routing: str = "{}", graph: str = "", stage: str = "{serve: {echo: v4}}") -> str:
    for version in ("v1", "v2", "v4"):
        write_identity(folder / "models" / "echo" / version / "model.onnx")
    (folder / "models/echo/v1/examples.json").write_text(json.dumps(EXAMPLES))
    (folder / "models/echo/v2/transform.py").write_text("import helper\ndef preprocess(inputs):\n    return inputs\n")
    (folder / "models/echo/v2/helper.py").write_text("")
    text = MANIFEST.replace("    routing: ROUTING\n", f"    routing: {routing}\n" if routing != "{}" else "")
    text = text.replace("  GRAPH\n", f"  {graph}\n" if graph else "").replace("STAGE", stage)
    (folder / "models.yaml").write_text(text)
    return text


def files(folder: Path) -> set[str]:
    result = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in result if not name.startswith(".turnout")}


def test_a_version_is_removed_and_everything_else_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path)
    there = files(tmp_path)
    assert main(["remove", "echo", "v1", "-m", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    line = "      v1: {artifact: models/echo/v1/model.onnx, examples: models/echo/v1/examples.json}  # old\n"
    assert (tmp_path / "models.yaml").read_text() == before.replace(line, "")
    assert files(tmp_path) == there
    assert out.startswith(f"Removed echo v1 from {tmp_path}/models.yaml.\nKept 2 files: models/echo/v1/model.onnx, ")
    assert "--delete-files would delete them" in out
    assert err == ""
    assert main(["validate", "-m", str(tmp_path)]) == 0


def test_files_are_removed_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    there = files(tmp_path)
    assert main(["remove", "echo", "v1", "--delete-files", "-m", str(tmp_path)]) == 0
    assert "Deleted 2 files: models/echo/v1/model.onnx, models/echo/v1/examples.json.\n" in capsys.readouterr().out
    assert there - files(tmp_path) == {"models/echo/v1/model.onnx", "models/echo/v1/examples.json"}
    assert not (tmp_path / "models/echo/v1").exists()
    assert (tmp_path / "models/echo/v2").is_dir()


def test_files_of_other_versions_and_unknown_files_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    (tmp_path / "models/echo/v2/notes.md").write_text("")
    there = files(tmp_path)
    assert main(["remove", "echo", "v2", "--delete-files", "-m", str(tmp_path)]) == 0
    # v3 has the artifact, so the folder does not belong to v2 alone.
    assert there - files(tmp_path) == {"models/echo/v2/transform.py"}
    assert "models/echo/v2 still contains helper.py, model.onnx, notes.md.\n" in capsys.readouterr().out


def test_files_packaged_with_a_transform_are_removed_with_it(tmp_path: Path) -> None:
    write(tmp_path)
    there = files(tmp_path)
    assert main(["remove", "echo", "v3", "--delete-files", "-m", str(tmp_path)]) == 0
    assert files(tmp_path) == there
    assert main(["remove", "echo", "v2", "--delete-files", "-m", str(tmp_path)]) == 0
    gone = {"models/echo/v2/model.onnx", "models/echo/v2/transform.py", "models/echo/v2/helper.py"}
    assert there - files(tmp_path) == gone
    assert not (tmp_path / "models/echo/v2").exists()


def test_a_symlink_is_removed_and_its_target_stays(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write(project)
    elsewhere = write_identity(tmp_path / "elsewhere" / "model.onnx")
    link = project / "models/echo/v1/model.onnx"
    link.unlink()
    link.symlink_to(elsewhere)
    assert main(["remove", "echo", "v1", "--delete-files", "-m", str(project)]) == 0
    assert not link.is_symlink()
    assert elsewhere.is_file()


def test_files_in_a_linked_folder_stay(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write(project)
    (project / "models/echo/v1").rename(tmp_path / "elsewhere")
    (project / "models/echo/v1").symlink_to(tmp_path / "elsewhere")
    assert main(["remove", "echo", "v1", "--delete-files", "-m", str(project)]) == 0
    assert files(tmp_path / "elsewhere") == {"model.onnx", "examples.json"}


CANARY = "{serve: {echo: v4}, canary: {percent: 0, serve: {echo: v1}}}"


@pytest.mark.parametrize(
    ("version", "fields", "use"),
    [
        ("v4", {}, 'stages.dev.serve: `"*": newest` serves it'),
        ("v4", {"stage": "{serve: {echo: v1}}"}, "stages.dev.serve"),
        ("v1", {"stage": "{serve: {echo: v1}}"}, "stages.prod.serve.echo serves it"),
        ("v1", {"stage": "{weights: {echo: {v4: 90, v1: 10}}}"}, "stages.prod.weights.echo names it (10%)"),
        ("v1", {"stage": "{weights: {echo: {v4: 100, v1: 0}}}"}, "stages.prod.weights.echo names it (0%)"),
        ("v1", {"stage": CANARY}, "stages.prod.canary.serve.echo names it. End the canary"),
        ("v1", {"routing": "{fallback: v1}"}, "models.echo.routing.fallback names it"),
        ("v1", {"routing": "{shadow: {version: v1, percent: 5}}"}, "models.echo.routing.shadow names it"),
        ("v1", {"graph": "flow: {graph: {model: echo, version: v1}}"}, "models.flow.graph calls it"),
        (
            "v1",
            {"graph": "flow: {graph: {sequence: [{model: echo, outputs: {y: x}}, {model: echo, version: v1}]}}"},
            "models.flow.graph.sequence.1 calls it",
        ),
    ],
)
@pytest.mark.parametrize("option", ["--keep-files", "--delete-files"])
def test_a_version_in_use_is_rejected_with_its_place(
    version: str,
    fields: dict[str, str],
    use: str,
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = write(tmp_path, **fields)
    there = files(tmp_path)
    assert main(["remove", "echo", version, option, "-m", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"turnout: echo {version} is in use, so nothing was removed.\n    ")
    assert use in err
    assert (tmp_path / "models.yaml").read_text() == before
    assert files(tmp_path) == there


def test_all_uses_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = "flow: {graph: {model: echo, version: v1}}"
    write(tmp_path, routing="{fallback: v1}", graph=graph, stage="{serve: {echo: v1}}")
    assert main(["remove", "echo", "v1", "-m", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ecko", "v1"], "unknown model 'ecko'.\n    Did you mean 'echo'?"),
        (["echo", "v9"], "unknown version of echo 'v9'."),
        (["flow", "v1"], "flow is a graph and has no versions."),
    ],
)
def test_an_unknown_name_exits_with_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, graph="flow: {graph: {model: echo}}")
    assert main(["remove", *arguments, "-m", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_an_edit_saved_meanwhile_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    path, there = tmp_path / "models.yaml", files(tmp_path)
    prepared = prepare_removal(load_project(tmp_path), "echo", "v1")
    saved = path.read_text() + "# a thought\n"
    path.write_text(saved)
    with pytest.raises(ManifestChangedError):
        remove_version(prepared, delete_files=True)
    assert path.read_text() == saved
    assert files(tmp_path) == there


def test_a_promotion_that_can_no_longer_be_undone_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    log = RolloutLog(tmp_path)
    log.begin(Rollout("T", "ana", "prod", "promote", {"echo": "v1"}, {"echo": "v4"}, 100))
    assert main(["remove", "echo", "v1", "-m", str(tmp_path)]) == 2
    assert "was interrupted" in capsys.readouterr().err
    log.finish(log.read()[-1])
    assert main(["remove", "echo", "v1", "-m", str(tmp_path)]) == 0
    assert "`turnout canary rollback prod --to-previous` can no longer return to echo v1" in capsys.readouterr().err
    assert load_project(tmp_path).manifest.model("echo").versions[0].name == "v2"
