"""docs/runtimes.md: each of its blocks is run as the page has it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.builders.isolated_project import share_packages
from tests.builders.markdown import Block, read_blocks, run_in
from tests.builders.model_functions import proxy_event
from tests.builders.running_server import running_server
from turnout.artifacts.examples import matches, read_examples
from turnout.cli.__main__ import main
from turnout.gateway.editions.edition import make_local_plan
from turnout.gateway.editions.in_process import make_model_functions
from turnout.project.project import load_project
from turnout.scaffold.new_project import create_project

ROOT = Path(__file__).resolve().parents[2]
WINE = ROOT / "examples/wine/models/wine/v1"
BLOCKS = read_blocks((ROOT / "docs/runtimes.md").read_text())


def block_with(text: str) -> Block:
    """Return the only block that contains a text."""
    (block,) = [block for block in BLOCKS if text in block.text]
    return block


MANIFEST, CODE = block_with("runtime: python"), block_with("def predict(inputs)")
ADD, TRAIN, DIGEST = block_with("turnout add"), block_with("examples.wine.train"), block_with("sha256sum")
PROBLEM = block_with("Add to wine v1")


def version_of_the_page() -> dict[str, Any]:
    version: dict[str, Any] = yaml.safe_load(MANIFEST.text)["models"]["wine"]["versions"]["v1"]
    return version


def test_every_block_is_run_by_one_of_these_tests() -> None:
    assert BLOCKS == [MANIFEST, CODE, ADD, TRAIN, DIGEST, PROBLEM]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A project with the page's code and signature in `train`, as `turnout add` takes them."""
    create_project(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/predict.py").write_text(CODE.text)
    (tmp_path / "train/signature.yaml").write_text(yaml.safe_dump(version_of_the_page()["signature"], sort_keys=False))
    shutil.copy(WINE / "model.skops", tmp_path / "train")
    return tmp_path


def test_command_adds_the_code_of_the_page_as_the_entry_of_the_page(trained: Path) -> None:
    run_in(ADD, trained, {})
    written = yaml.safe_load((trained / "models.yaml").read_text())["models"]["wine"]["versions"]["v1"]
    expected = version_of_the_page()
    assert {key: written[key] for key in ("runtime", "artifact", "signature")} == {
        key: expected[key] for key in ("runtime", "artifact", "signature")
    }
    assert set(expected["requirements"]) <= {entry.partition(" ")[0] for entry in written["requirements"]}

    project = load_project(trained)
    (function,) = (entry for entry in make_local_plan(project).functions if entry.model == "wine")
    made = make_model_functions(project)(function)
    for example in read_examples(WINE / "examples.json"):
        answer = made(proxy_event(orjson.dumps(example.request)), None)
        assert answer["statusCode"] == 200, answer["body"]
        if "model_name" in (body := orjson.loads(answer["body"])):
            assert matches(example, body) == []


def test_missing_package_is_reported_as_on_the_page(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in MANIFEST.text.splitlines() if "requirements:" not in line]
    assert len(lines) == len(MANIFEST.text.splitlines()) - 1
    shutil.copytree(trained / "train", trained / "models/wine/v1")
    text = "\n".join(("platform: turnout", *lines, "stages: {dev: {serve: {wine: v1}}}", ""))
    (trained / "models.yaml").write_text(text)
    assert main(["validate", "--manifest", str(trained / "models.yaml")]) == 2
    assert PROBLEM.text in capsys.readouterr().err.replace(f"{trained}/", "")


def test_example_is_trained_and_served_with_the_options_of_the_page(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".turnout", "__pycache__"))
    training, serving = TRAIN.text.splitlines()
    (tmp_path / "examples/wine/models/wine/v1/model.skops").unlink()
    run_in(Block("sh", training, None), tmp_path, {"PYTHONPATH": str(tmp_path)})
    *command, folder, isolated = shlex.split(serving)
    assert (command, isolated) == (["turnout", "serve", "-m"], "--isolated")
    project = tmp_path / folder
    share_packages(project, tmp_path_factory)
    (example, *_) = read_examples(project / "models/wine/v1/examples.json")
    with running_server(project, isolated, "--workers", "1", cwd=tmp_path) as server:
        answer = server.post("/models/wine/v1/inference", orjson.dumps(example.request))
    assert answer.status == 200, answer.body
    assert matches(example, answer.json()) == []


def test_digest_of_the_page_is_the_one_that_pins_a_version(trained: Path) -> None:
    folder = trained / "models/wine/v1"
    folder.mkdir(parents=True)
    (folder / "predict.py").write_text("def load(folder): ...\ndef predict(inputs): return inputs\n")
    (folder / "helper.py").write_text("FACTOR = 2\n")
    (folder / "factor.json").write_text("2")
    digest = run_in(DIGEST, folder, {}).split()[0]
    tree = {"platform": "turnout", **yaml.safe_load(MANIFEST.text), "stages": {"dev": {"serve": {"wine": "v1"}}}}
    (trained / "models.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (artifact,) = load_project(trained).artifacts.values()
    assert artifact.sha256 == digest
