"""The example with a scikit-learn estimator: it answers as the estimator did, and contains no pickle."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import skops.io

from examples.wine import train
from tests.builders.model_functions import proxy_event
from turnout.artifacts.examples import matches, read_examples
from turnout.gateway.editions.edition import make_local_plan
from turnout.gateway.editions.in_process import make_model_functions
from turnout.project.project import load_project


def test_the_examples_are_answered_as_the_estimator_answered(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "examples/wine", tmp_path / "wine", ignore=shutil.ignore_patterns(".turnout", "__pycache__"))
    project = load_project(tmp_path / "wine")
    (function,) = (entry for entry in make_local_plan(project).functions if entry.kind == "model")
    made = make_model_functions(project)(function)
    examples = read_examples(tmp_path / "wine/models/wine/v1/examples.json")
    assert len(examples) == 2
    for example in examples:
        answer = made(proxy_event(orjson.dumps(example.request)), None)
        assert answer["statusCode"] == 200, answer["body"]
        if "model_name" in (body := orjson.loads(answer["body"])):
            assert matches(example, body) == []


def test_training_again_gives_the_same_answers_and_only_trusted_types(root: Path, tmp_path: Path) -> None:
    train.main(tmp_path)
    kept = root / "examples/wine/models/wine/v1"
    assert orjson.loads((tmp_path / "examples.json").read_bytes()) == orjson.loads(
        (kept / "examples.json").read_bytes()
    )
    source = (kept / "predict.py").read_text()
    for folder in (tmp_path, kept):
        result = skops.io.get_untrusted_types(file=folder / "model.skops")
        assert result
        assert all(f'"{name}"' in source for name in result)
    assert "pickle.load" not in source
    assert "joblib" not in source
