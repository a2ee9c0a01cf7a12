"""How the owner of a project sees the results of trials."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.builders.graphs import write_identity
from turnout.cli.__main__ import main
from turnout.trials.checks import LOCALE_REMEDY, explain


def write(path: Path, operator: str, domain: str = "", opset: int = 17, ir: int = 9, **how: object) -> None:
    datatype = how.pop("datatype", TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain, **how)],
        "g",
        [helper.make_tensor_value_info("x", datatype, [None])],
        [helper.make_tensor_value_info("y", datatype, [None])],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), str(path))


CANNOT_BE_OPENED = [
    ({"operator": "Abs", "ir": 99}, "Unsupported model IR version: 99", "model.ir_version = "),
    ({"operator": "Abs", "opset": 99}, "Opset 99 is under development", "version_converter.convert_version"),
    ({"operator": "Foo"}, "No Op registered for Foo", "Opset 17 of the model has no operator `Foo`"),
    ({"operator": "Roi", "domain": "torchvision"}, "torchvision:Roi(-1) is not a registered", "`torchvision:Roi`"),
    ({"operator": "Upsample"}, "Op registered for Upsample is deprecated", "no longer has the operator `Upsample`"),
    ({"operator": "Sin", "datatype": TensorProto.BFLOAT16}, "operator (Sin)", "Put a Cast before it"),
    (
        {"operator": "StringNormalizer", "datatype": TensorProto.STRING, "case_change_action": "LOWER",
         "locale": "xx_XX.UTF-8"},
        "Failed to construct locale with name:xx_XX.UTF-8",
        "options={TfidfVectorizer: {'locale': 'C'}}",
    ),
]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "models.yaml").write_text(
        "platform: turnout\n"
        "models:\n"
        "  echo: {versions: {v1: {artifact: echo.onnx}}}\n"
        "  bad: {versions: {v1: {artifact: bad.onnx}}}\n"
        'stages: {dev: {serve: {"*": newest}}}\n'
    )
    return tmp_path


@pytest.mark.parametrize("command", ["validate", "plan", "build"])
@pytest.mark.parametrize(("how", "reason", "remedy"), CANNOT_BE_OPENED[2:3])
def test_every_command_that_needs_the_models_rejects_one_that_cannot_be_opened(
    project: Path, capsys: pytest.CaptureFixture[str], command: str, how: dict[str, object], reason: str, remedy: str
) -> None:
    write(project / "bad.onnx", **how)  # type: ignore[arg-type]
    assert main([command, "-m", str(project)]) == 2
    reported = capsys.readouterr().err
    assert "models.yaml:4:" in reported
    assert "models.bad.versions.v1.artifact: onnxruntime" in reported
    assert reason in reported
    assert remedy in reported


@pytest.mark.parametrize(("how", "reason", "remedy"), CANNOT_BE_OPENED)
def test_the_reason_is_complete_and_the_remedy_names_the_operator(
    project: Path, capsys: pytest.CaptureFixture[str], how: dict[str, object], reason: str, remedy: str
) -> None:
    write(project / "bad.onnx", **how)  # type: ignore[arg-type]
    assert main(["validate", "-m", str(project)]) == 2
    reported = capsys.readouterr().err
    assert reason in reported
    assert remedy in reported
    assert "…" not in reported
    assert main(["add", "new", "v1", str(project / "bad.onnx"), "-m", str(project)]) == 2
    reported = capsys.readouterr().err
    assert reason in reported
    assert not (project / "models").exists()


def test_a_locale_that_lambda_lacks_is_noted_by_every_command(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        project / "bad.onnx",
        "StringNormalizer",
        datatype=TensorProto.STRING,
        case_change_action="LOWER",
        locale="C.UTF-8",  # this machine has it
    )
    note = (
        f"the model needs the locale C.UTF-8, and Lambda has C and POSIX only: it cannot start there. {LOCALE_REMEDY}"
    )
    for command in ("validate", "plan"):
        assert main([command, "-m", str(project)]) == 0
        out = capsys.readouterr()
        assert note in " ".join((out.out + out.err).split())
    assert main(["add", "new", "v1", str(project / "bad.onnx"), "-m", str(project)]) == 0
    assert note.rstrip(".") in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("how", [{"locale": "C", "case_change_action": "LOWER"}, {}])
def test_a_text_model_that_needs_no_locale_is_not_noted(
    project: Path, capsys: pytest.CaptureFixture[str], how: dict[str, object]
) -> None:
    write(project / "bad.onnx", "StringNormalizer", datatype=TensorProto.STRING, **how)  # type: ignore[arg-type]
    assert main(["validate", "-m", str(project)]) == 0
    assert "locale" not in capsys.readouterr().err


def test_skl2onnx_accepts_the_option_that_the_remedy_names() -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    for vectorizer in (TfidfVectorizer, CountVectorizer):
        model = vectorizer().fit(["one two", "three"])
        made = to_onnx(model, initial_types=[("text", StringTensorType([None]))], options={vectorizer: {"locale": "C"}})
        locales = [
            attribute.s for node in made.graph.node for attribute in node.attribute if attribute.name == "locale"
        ]
        assert locales == [b"C"]


def test_a_reason_without_a_known_remedy_is_passed_on() -> None:
    message, hint = explain("onnxruntime cannot open m.onnx: something new")
    assert message.endswith(" cannot open m.onnx: something new")
    assert hint == ""
