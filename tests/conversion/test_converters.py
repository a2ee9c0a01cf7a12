"""Real models of real libraries: each graph, run as it is served, answers like its original for every row."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import write_project
from tests.conversion.conftest import Trained, environment
from tests.conversion.train import JOB
from turnout.artifacts.examples import Tolerance
from turnout.cli.__main__ import main
from turnout.cli.commands.add import add_version
from turnout.cli.conversion_options import GivenFiles
from turnout.conversion.conversion import Choices
from turnout.conversion.converters.exchange import read_arrays
from turnout.conversion.errors import ConversionError
from turnout.conversion.graph_child import answer_rows
from turnout.conversion.jobs import JobLimits, run_job
from turnout.conversion.proof import Proof, compare_folder
from turnout.conversion.registry import CONVERTERS
from turnout.layout import model_lambdas_package

MODELS = {
    "sklearn": (
        "logistic binary texts-as-classes forest scaled-forest forest-of-frame forest-with-holes tree extra-trees "
        "scaled-forest-regressor boosted boosted-regressor histogram scaled-histogram ada bagging voting stacking "
        "svc svr linear-svc neighbors network bayes two-targets two-classes search components imputed frame "
        "forest-behind-frame forest-of-two-targets tree-of-two-targets ordinal words sublinear pairs-around-stop-words "
        "pairs-of-words words-of-frame words-in-a-vote texts-without-names clusters scaler outliers"
    ),
    "xgboost": (
        "binary base-score multiclass labels regression counts gamma raw ranking dart linear two-targets vector-leaves "
        "categories one-category stopped-early"
    ),
    "lightgbm": (
        "binary multiclass one-against-all regression zero-is-missing nothing-is-missing root counts forest dart "
        "ranking categories codes"
    ),
    "catboost": "binary multiclass missing-is-max regression frame counts",
    "keras": "dense legacy saved two-inputs odd-names sequence fixed-batch",
    "torch": "network few two-inputs words",
}

REFUSED = {
    ("sklearn", "no-converter"): "cannot be converted",
    ("sklearn", "indicated"): "cannot be converted",  # skl2onnx has no indicators of missing values
    ("sklearn", "dicts"): "begins with DictVectorizer, which reads dicts or lists",
    ("sklearn", "histogram-of-categories"): "compares their codes as if they were numbers",
    ("xgboost", "cut-categories"): "XGBoost truncates names beyond ASCII",
    ("lightgbm", "linear-leaves"): "linear leaves",
    ("catboost", "two-targets"): "the model has several outputs (MultiRMSE)",
    ("catboost", "categories"): "has categories (city), which CatBoost's ONNX export leaves out",
    ("catboost", "lossguide"): "CatBoost cannot export the model to ONNX",
    ("keras", "text"): "has the type string",
    ("keras", "own-code"): "Lambda",
    ("keras", "without-inputs"): "does not declare its inputs",
    ("torch", "dropout"): "exported in training mode: aten.dropout trains",
    ("torch", "training"): "exported in training mode: aten.batch_norm trains",
    ("torch", "random"): "different answers to the same rows",
    ("torch", "fixed"): "input 'input' has the shape [2, 4], so the batch has a fixed size",
    ("torch", "no-operator"): "ONNX has no form of prims.bessel_j0",
}


def prove_here(out: Path, row: dict[str, object]) -> Proof:
    """Run the proof in this process: a process for each of so many models would take minutes."""
    transform = ""
    if row["transform"]:
        (out / "transform.py").write_text(str(row["transform"]))
        transform = str(out / "transform.py")
    model = str(out / "model" / "model.onnx")
    job = {"folder": str(out), "model": model, "transform": transform, "package": model_lambdas_package()}
    answer_rows(job)
    return compare_folder(out, row["groups"], row["refused"], Tolerance(relative=1e-4))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in MODELS.items() for name in names.split()])
def test_graph_answers_like_its_original(kind: str, name: str, trained: Trained) -> None:
    row = dict(trained(kind)[name])
    assert "error" not in row, row
    proof = prove_here(Path(row["out"]), row)
    assert proof.holds, proof.disagreements[:3]
    assert proof.rows >= 100


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_models_that_cannot_be_converted_are_rejected_with_the_reason(kind: str, name: str, trained: Trained) -> None:
    row = trained(kind)[name]
    assert REFUSED[kind, name] in row["error"]
    assert row["hint"]
    if kind == "sklearn" and name != "dicts":
        assert f"turnout add MODEL VERSION {name}.joblib --runtime python" in row["hint"]


def inputs_of(out: str) -> dict[str, int]:
    graph = onnx.load(Path(out, "model", "model.onnx")).graph
    return {value.name: value.type.tensor_type.elem_type for value in graph.input}


def test_columns_become_named_inputs_with_their_datatypes(trained: Trained) -> None:
    row = trained("sklearn")["frame"]
    double, text, whole, boolean = (
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.STRING,
        onnx.TensorProto.INT64,
        onnx.TensorProto.BOOL,
    )
    kinds = inputs_of(row["out"])
    assert list(kinds) == ["age of person", "fare.paid", "city", "class", "vip"]  # without `comment`, which is not read
    assert (kinds["fare.paid"], kinds["city"], kinds["class"]) == (double, text, whole)
    assert kinds["vip"] in {double, boolean}


def test_samples_hit_trees_at_their_thresholds(trained: Trained) -> None:
    for kind, name in (
        ("sklearn", "scaled-forest"),
        ("xgboost", "binary"),
        ("lightgbm", "binary"),
        ("catboost", "binary"),
    ):
        groups = {row["name"]: row["rows"] for row in trained(kind)[name]["groups"]}
        assert groups["around the thresholds of trees"] >= 50


def test_float64_stays_float64(trained: Trained) -> None:
    assert {trained("sklearn")[name]["floats"] for name in ("logistic", "scaled-forest", "frame", "svr")} == {"FP64"}


def test_edge_values_are_compared_or_reported_as_not_compared(trained: Trained) -> None:
    groups = {row["name"] for row in trained("sklearn")["words"]["groups"]}
    assert {"empty and long text", "text beyond ASCII"} <= groups
    assert "NaN" in trained("sklearn")["logistic"]["refused"]["missing values"]
    assert "missing values" in {row["name"] for row in trained("sklearn")["histogram"]["groups"]}


def test_a_transform_lowercases_texts_as_python_does(trained: Trained) -> None:
    source = trained("sklearn")["words"]["transform"]
    assert "text.lower()" in source
    graph = onnx.load(Path(trained("sklearn")["words"]["out"], "model", "model.onnx")).graph
    locales = [row.s for node in graph.node for row in node.attribute if row.name == "locale"]
    assert set(locales) <= {b"C"}


def test_network_keeps_its_names_and_free_dimensions(trained: Trained) -> None:
    graph = onnx.load(Path(trained("keras")["two-inputs"]["out"], "model", "model.onnx")).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "words", "kind", "price"]
    odd = onnx.load(Path(trained("keras")["odd-names"]["out"], "model", "model.onnx")).graph
    names = [value.name for value in (*odd.input, *odd.output)]
    assert names == ["größe (cm)", "place: 1", "the price", "größe (cm)_output"]
    sequence = onnx.load(Path(trained("keras")["sequence"]["out"], "model", "model.onnx")).graph
    dimensions = [row.dim_param or row.dim_value for row in sequence.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", "size_1", 4]
    assert "NaN" in trained("keras")["sequence"]["refused"]["missing values"]


def test_exported_program_keeps_the_names_of_its_arguments_and_results(trained: Trained) -> None:
    models = trained("torch")
    graph = onnx.load(Path(models["two-inputs"]["out"], "model", "model.onnx")).graph
    names = [value.name for value in (*graph.input, *graph.output)]
    assert names == ["left", "right_b", "score", "parts_0"]
    words = onnx.load(Path(models["words"]["out"], "model", "model.onnx")).graph
    dimensions = [row.dim_param or row.dim_value for row in words.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", "size_1"]
    assert [value.name for value in words.output] == ["output_0", "output_1"]
    assert read_arrays(Path(models["words"]["out"], "inputs"))["ids"].max() in range(40, 50)
    assert models["network"]["groups"][0]["name"] == "the examples in the file"
    assert models["few"]["notes"] == ["the program was exported for batches of at least 2 and at most 30 rows"]
    assert {"torch", "onnxscript"} <= models["network"]["packages"].keys()


OLD = {"": 14, "ai.onnx.ml": 3}
"""Opsets of an older onnxruntime."""

BEYOND = {
    ("sklearn", "logistic.joblib"): "",
    ("sklearn", "forest.joblib"): "",
    ("keras", "dense.keras"): "",
    ("xgboost", "binary.ubj"): "the graph needs opset 5 of ai.onnx.ml; the layer has 3",
    ("lightgbm", "binary.txt"): "the graph needs opset 5 of ai.onnx.ml; the layer has 3",
    ("catboost", "binary.cbm"): "the graph needs opset 17 of ai.onnx; the layer has 14",
}
"""Model -> why it is refused for `OLD`; empty for a model whose graph needs nothing newer."""


@pytest.mark.parametrize(("kind", "file"), BEYOND)
def test_graph_stays_within_the_opsets_of_the_layer_or_is_refused(
    kind: str, file: str, trained: Trained, tmp_path: Path
) -> None:
    path = Path(trained(kind)[file.partition(".")[0]]["out"]).parent / file
    (tmp_path / "out").mkdir()
    arguments = {**JOB, "trust_pickle": True, "opsets": OLD, "path": str(path), "out": str(tmp_path / "out")}
    converter = CONVERTERS[kind]

    def run() -> None:
        run_job(environment(kind), converter.module, arguments, tmp_path, limits=JobLimits())

    if reason := BEYOND[kind, file]:
        with pytest.raises(ConversionError, match=reason):
            run()
        return
    run()
    model = onnx.load(tmp_path / "out" / "model" / "model.onnx")
    assert all(row.version <= OLD[row.domain] for row in model.opset_import)


@pytest.mark.parametrize(("kind", "file"), [("sklearn", "network.joblib"), ("keras", "dense.keras")])
def test_large_weights_are_in_a_file_of_their_own(kind: str, file: str, trained: Trained, tmp_path: Path) -> None:
    path = Path(trained(kind)[file.partition(".")[0]]["out"]).parent / file
    project = write_project(tmp_path / "project")
    choices = Choices(trust_pickle=True, external_bytes=1000)
    add_version("large", "v1", str(path), GivenFiles(), choices, project, as_json=True)
    folder = project / "models" / "large" / "v1"
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    stored = {row.value for tensor in graph.initializer for row in tensor.external_data if row.key == "location"}
    assert stored == {"model.data"}
    assert (folder / "model.data").stat().st_size >= 1000
    assert main(["test", "large", "-m", str(project)]) == 0


def test_network_with_a_changed_weight_is_rejected(trained: Trained, tmp_path: Path) -> None:
    row = dict(trained("keras")["dense"])
    shutil.copytree(Path(row["out"]), tmp_path / "out", ignore=shutil.ignore_patterns("whole", "alone", "hundred"))
    path = tmp_path / "out" / "model" / "model.onnx"
    model = onnx.load(path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.01, weights.name))
    onnx.save(model, path)
    assert not prove_here(tmp_path / "out", row).holds
