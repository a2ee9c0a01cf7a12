from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.artifacts.examples import ExamplesError, read_examples
from turnout.artifacts.examples_file import insert_row, make_row
from turnout.protocol.tensors.datatypes import TensorSpec

OUTPUTS = (TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP32", (-1, 2)))
REQUEST = {"inputs": {"x": [[1.0]]}, "id": "alice", "model_name": "iris"}
EXPECTED = [
    {"name": "label", "shape": [1], "datatype": "INT64", "data": [2]},
    {"name": "scores", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]},
]

WRITTEN = """\
[
    {"name": "a",   "request": {"inputs": {"x": [[1.0]]}},
     "response": {"outputs": [{"name": "label", "shape": [1], "datatype": "INT64", "data": [0]}]},
     "description": "kept ] as it is"}
]
"""


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": [{**entry, "parameters": {}} for entry in EXPECTED]},
        {"outputs": {"label": [2], "scores": [[0.25, 0.75]]}},
        {"predictions": [{"label": 2, "scores": [0.25, 0.75]}]},
    ],
)
def test_every_form_of_an_answer_yields_the_same_example(answer: dict[str, object]) -> None:
    entry = make_row("new", REQUEST, answer, OUTPUTS)
    assert entry == {"name": "new", "request": {"inputs": {"x": [[1.0]]}}, "response": {"outputs": EXPECTED}}


def test_unnamed_predictions_belong_to_the_only_output() -> None:
    entry = make_row("new", {"instances": [1]}, {"predictions": [[0.5, 0.5]]}, OUTPUTS[1:])
    assert entry["response"]["outputs"] == [{"name": "scores", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 0.5]}]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"outputs": {"other": [1]}}, "datatype of `other`"),
        ({"predictions": [1, 2]}, "no outputs"),
        ({"message": "no"}, "no outputs"),
        ({"outputs": {"scores": [[1.0, 2.0], [3.0]]}}, "not rectangular"),
        ({"outputs": [{"name": "label", "shape": [1], "datatype": "INT64"}]}, "binary"),
    ],
)
def test_an_incomplete_answer_is_rejected(answer: dict[str, object], words: str) -> None:
    with pytest.raises(ExamplesError, match=words):
        make_row("new", REQUEST, answer, OUTPUTS)


def test_the_other_examples_stay_unchanged_byte_for_byte(tmp_path: Path) -> None:
    text = insert_row(WRITTEN, make_row("new", REQUEST, {"outputs": EXPECTED}, ()))
    assert text.startswith(WRITTEN[: WRITTEN.rindex("}") + 1])
    assert '\n    {\n        "name": "new",\n        "request": {"inputs": {"x": [[1.0]]}},\n' in text
    path = tmp_path / "examples.json"
    path.write_text(text)
    assert [example.name for example in read_examples(path)] == ["a", "new"]


@pytest.mark.parametrize("text", ["{", '{"a": []}', "[1,]"])
def test_a_file_without_a_list_is_rejected(text: str) -> None:
    with pytest.raises(ExamplesError, match="the file"):
        insert_row(text, {"name": "new"})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@settings(max_examples=40)
@given(st.lists(JSON, max_size=3), st.sampled_from([None, 1, 2, "\t"]), st.text())
def test_a_new_example_is_appended_after_any_existing_ones(
    rows: list[object], indent: str | int | None, name: str
) -> None:
    assert json.loads(insert_row(json.dumps(rows, indent=indent), {"name": name})) == [*rows, {"name": name}]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_becomes_a_list_of_one(text: str) -> None:
    assert json.loads(insert_row(text, {"name": "new"})) == [{"name": "new"}]
