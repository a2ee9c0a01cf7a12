"""Edits of models.yaml: the addition is there, and nothing else has changed."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from turnout.manifest.parser import Manifest, parse_manifest
from turnout.problems import ProblemsError
from turnout.scaffold.new_version import add_version, serving_changes
from turnout.yaml_text.editor import EditError

FIELDS = {"artifact": "models/m/v9/model.onnx", "sha256": "0" * 64}
FLOW_FIELDS = f'{{artifact: models/m/v9/model.onnx, sha256: "{"0" * 64}"}}'


def parse(text: str) -> Manifest:
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def changed(before: str, after: str) -> list[str]:
    """Return the removed and the added lines."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_version_is_one_line_in_a_file_with_one_line_versions(root: Path) -> None:
    before = (root / "models.yaml").read_text()
    after = add_version(before, "iris", "v9", FIELDS)
    assert changed(before, after) == [f"+       v9: {FLOW_FIELDS}"]
    assert parse(after).model("iris").versions[-1].name == "v9"


BLOCKS = """\
models:
    iris:   # flowers
        # the first one
        versions:
            v1:
                artifact: a.onnx   # logistic regression
                description: |
                    Two
                    lines.
    # between

    spam:
        versions:
            v1:
                'artifact': b.onnx

stages:
    dev:
        serve:
            "*": newest
    # the real one
    prod:
        serve:   # one by one
            iris: v1  # stays
            spam: v1
"""


def test_version_is_a_block_in_a_file_with_blocks() -> None:
    after = add_version(BLOCKS, "spam", "v2", FIELDS)
    assert changed(BLOCKS, after) == [
        "+             v2:",
        "+                 artifact: models/m/v9/model.onnx",
        f'+                 sha256: "{"0" * 64}"',
    ]
    assert [version.name for version in parse(after).model("spam").versions] == ["v1", "v2"]


def test_version_after_a_block_scalar_does_not_change_it() -> None:
    after = add_version(BLOCKS, "iris", "v2", FIELDS)
    assert parse(after).model("iris").version("v1").description == "Two\nlines.\n"
    assert [line[0] for line in changed(BLOCKS, after)] == ["+"] * 3


def test_new_model_is_served_by_every_stage_that_names_its_models() -> None:
    after = add_version(BLOCKS, "digits", "v1", FIELDS)
    assert changed(BLOCKS, after) == [
        "+     digits:",
        "+         versions:",
        "+             v1:",
        "+                 artifact: models/m/v9/model.onnx",
        f'+                 sha256: "{"0" * 64}"',
        "+ ",
        "+             digits: v1",
    ]
    assert [dict(stage.serve) for stage in parse(after).stages] == [{"iris": "v1", "spam": "v1", "digits": "v1"}] * 2


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("{serve: {m: v1}}", "{serve: {m: v1, n: v9}}"),
        ("{ serve: { m: v1 } }", "{ serve: { m: v1, n: v9 } }"),
        ("{serve: {m: v1,}}", "{serve: {m: v1, n: v9,}}"),
        ("{weights: {m: {v1: 100}}}", "{weights: {m: {v1: 100}}, serve: {n: v9}}"),
        ("{serve: {}, weights: {m: {v1: 100}}}", "{serve: {n: v9}, weights: {m: {v1: 100}}}"),
        ("{serve: {  # none\n  }, weights: {m: {v1: 100}}}", "{serve: {n: v9  # none\n  }, weights: {m: {v1: 100}}}"),
        ("{serve: {\n    m: v1  # x\n  }}", "{serve: {\n    m: v1,  # x\n    n: v9\n  }}"),
        ("{serve: {\n    m: v1,  # x, y\n  }}", "{serve: {\n    m: v1,  # x, y\n    n: v9,\n  }}"),
        ("{serve: {\n    m: v1}}", "{serve: {\n    m: v1,\n    n: v9}}"),
        ("\n    serve: {m: v1}   # x\n    auth: none", "\n    serve: {m: v1, n: v9}   # x\n    auth: none"),
        ("\n    weights: {m: {v1: 100}}  # x", "\n    weights: {m: {v1: 100}}  # x\n    serve: {n: v9}"),
        ("{serve: {'*': newest}}", "{serve: {'*': newest}}"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "", "\n# the end\n"])
def test_stage_serves_the_new_model_in_its_own_style(stage: str, expected: str, end: str) -> None:
    models = "models: {m: {versions: {v1: {artifact: a.onnx}}}}\nstages:\n  prod: "
    after = add_version(f"{models}{stage}{end}", "n", "v9", FIELDS)
    assert after.partition("prod: ")[2] == f"{expected}{end}"
    assert parse(after).stages[0].serve["n"] == "v9"


def test_windows_line_endings_are_kept() -> None:
    text = BLOCKS.replace("\n", "\r\n")
    after = add_version(text, "digits", "v1", FIELDS)
    assert "\n" not in after.replace("\r\n", "")
    assert parse(after).stages[1].serve["digits"] == "v1"


def test_version_that_looks_like_a_number_is_quoted() -> None:
    after = add_version(BLOCKS, "digits", "010", FIELDS)
    assert '"010":' in after
    assert parse(after).stages[1].serve["digits"] == "010"


def test_graph_gets_no_version(root: Path) -> None:
    before = (root / "models.yaml").read_text().replace("stages:\n", "  twice: {graph: {model: iris}}\nstages:\n")
    with pytest.raises(EditError, match="twice is a graph and has no versions"):
        add_version(before, "twice", "v1", FIELDS)


def test_existing_version_is_rejected() -> None:
    with pytest.raises(EditError, match="iris already has a version v1") as caught:
        add_version(BLOCKS, "iris", "v1", FIELDS)
    assert "immutable" in caught.value.hint


@pytest.mark.parametrize(("model", "version"), [("Iris", "v1"), ("iris", "V 1"), ("alias", "v1"), ("iris", "router")])
def test_invalid_name_is_rejected(model: str, version: str) -> None:
    with pytest.raises(ProblemsError):
        add_version(BLOCKS, model, version, FIELDS)


def test_invalid_manifest_is_rejected() -> None:
    with pytest.raises(ProblemsError, match="must be newest, got"):
        add_version(BLOCKS.replace('"*": newest', '"*": newst'), "iris", "v2", FIELDS)


def test_newly_served_versions_are_reported() -> None:
    before = parse(BLOCKS)
    assert serving_changes(before, parse(add_version(BLOCKS, "spam", "v2", FIELDS))) == (
        "dev serves spam v2 instead of v1",
    )
    assert serving_changes(before, parse(add_version(BLOCKS, "digits", "v1", FIELDS))) == (
        "dev serves digits v1",
        "prod serves digits v1",
    )
    assert serving_changes(before, before) == ()
