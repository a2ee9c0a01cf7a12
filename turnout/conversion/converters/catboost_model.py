"""Converts CatBoost's .cbm files with the library's own export, without its list of dicts."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .convert import Candidate, Progress, convert, package_versions, python_command
from .exchange import as_objects
from .features import Batch, Feature, read_samples
from .python_code import answer_rows, describe_answers
from .start import RefusedJob

PACKAGES = ("catboost", "onnx")

CLASSIFIERS = frozenset({"Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll"})

PREDICTIONS = {"Poisson": "Exponent", "Tweedie": "Exponent", "RMSEWithUncertainty": "RMSEWithUncertainty"}
"""What `CatBoostRegressor.predict` returns by default; for other losses it returns the trees' sum."""

KINDS = {
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "each",
    "Poisson": "exponent",
    "Tweedie": "exponent",
    "RMSEWithUncertainty": "uncertainty",
}
"""What predict.py makes of the trees' sum."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    progress(f"loading {Path(job['path']).name}")
    original = CatboostOriginal(Path(job["path"]), job)
    if job["runtime"] == "python":
        return _write_python(original, job, progress)
    return convert(original, job, PACKAGES, progress)


def _write_python(original: CatboostOriginal, job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Write predict.py and the trees; CatBoost itself exceeds Lambda's limit."""
    answers = answer_rows(original, job, "FP32", progress)
    folder = Path(job["out"], "python")
    folder.mkdir()
    shutil.copyfile(Path(__file__).parent / "served" / "catboost_predict.py", folder / "predict.py")
    (folder / "model.json").write_text(json.dumps(original.read_trees()))
    return {
        **describe_answers(original, answers, "FP32"),
        "requirements": [],
        "packages": package_versions(("catboost",)),
    }


class CatboostOriginal:
    """A model of numbers and categories; only `predict.py` supports categories, CatBoost's export does not."""

    transform = ""

    is_text = False

    def __init__(self, path: Path, job: Mapping[str, Any]) -> None:
        """Open the file."""
        import catboost

        try:
            self.model = catboost.CatBoost().load_model(str(path), format="cbm")
        except catboost.CatBoostError as error:
            raise RefusedJob(f"{path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.notes: list[str] = []
        self.command = python_command(job)
        is_python = job["runtime"] == "python"
        if self.model.get_text_feature_indices() or self.model.get_embedding_feature_indices():
            raise RefusedJob(
                "the model has texts or embeddings, which CatBoost's ONNX export leaves out",
                "Train on encoded columns. CatBoost itself exceeds Lambda's limit for packages.",
            )
        names = [str(name) for name in self.model.feature_names_]
        self.categorical = set(self.model.get_cat_feature_indices())
        is_unnamed = names == [str(at) for at in range(len(names))]
        self.matrix = "X" if is_unnamed and not self.categorical else ""
        self.features = [Feature(name, "text" if at in self.categorical else "float") for at, name in enumerate(names)]
        for at, borders in self.model.get_borders().items():
            self.features[at].thresholds = [float(border) for border in borders]
        if self.categorical:
            self._check_categories(job)
        self.loss = str(self.model.get_all_params().get("loss_function", "")).partition(":")[0]
        self.is_classifier = self.loss in CLASSIFIERS
        if not self.is_classifier and not is_python and np.size(self.model.get_scale_and_bias()[1]) > 1:
            raise RefusedJob(
                f"the model has several outputs ({self.loss}), which CatBoost's ONNX export writes wrong",
                f"Serve its trees with Python instead: {self.command}",
            )

    def _check_categories(self, job: Mapping[str, Any]) -> None:
        """Reject the conversion of categories, and a comparison without them: the file has only their hashes."""
        shown = ", ".join(self.features[at].name for at in sorted(self.categorical))
        if job["runtime"] != "python":
            raise RefusedJob(
                f"the model has categories ({shown}), which CatBoost's ONNX export leaves out",
                "Serve its trees with Python instead, compared on rows of yours with the categories:\n"
                f"    {self.command}{'' if job.get('samples') else ' --samples rows.csv'}",
            )
        if not job.get("samples"):
            raise RefusedJob(
                f"the file does not name the categories of {shown}, so no rows can be drawn for the comparison",
                f"Add rows with the categories: {self.command} --samples rows.csv",
            )
        rows = read_samples(Path(job["samples"]), self.features)
        for at in self.categorical:
            self.features[at].categories = sorted(set(rows[self.features[at].name].tolist()))

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return label and probabilities, or the prediction."""
        count = len(next(iter(batch.values())))
        table: Any
        if self.categorical:
            import pandas as pd

            table = pd.DataFrame(
                {
                    name: pd.Series(column, dtype=object) if column.dtype == object else column.astype(np.float32)
                    for name, column in batch.items()
                }
            )
        else:
            table = np.column_stack([column.astype(np.float32) for column in batch.values()])
        if not self.is_classifier:
            kind = PREDICTIONS.get(self.loss, "RawFormulaVal")
            return {"prediction": np.asarray(self.model.predict(table, prediction_type=kind)).reshape(count, -1)}
        label = as_objects(np.asarray(self.model.predict(table, prediction_type="Class")).ravel())
        return {
            "label": label.astype(np.int64) if self._has_whole_classes() else label,
            "probabilities": self.model.predict(table, prediction_type="Probability"),
        }

    def _has_whole_classes(self) -> bool:
        classes = np.asarray(self.model.classes_)
        return classes.dtype.kind in "iub" or (classes.dtype.kind == "f" and not (classes % 1).any())

    def read_trees(self) -> dict[str, Any]:
        """Return the content of model.json, which predict.py reads."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.json")
            self.model.save_model(str(path), format="json")
            trees = json.loads(path.read_text())
        classes = np.asarray(self.model.classes_ if self.is_classifier else [])
        classes = classes.astype(np.int64) if self.is_classifier and self._has_whole_classes() else classes
        wanted = ("features_info", "ctr_data", "oblivious_trees", "trees", "scale_and_bias")
        return {name: trees[name] for name in wanted if name in trees} | {
            "kind": KINDS.get(self.loss, "binary" if self.is_classifier else "raw"),
            "classes": classes.tolist(),
            "columns": [
                {"name": feature.name, "categorical": at in self.categorical}
                for at, feature in enumerate(self.features)
            ],
            "matrix": self.matrix,
        }

    def candidates(self, _: Mapping[str, int]) -> Iterator[Candidate]:
        """Return the only candidate: CatBoost itself compares in float32."""
        yield Candidate("FP32", self._convert)

    def _convert(self) -> onnx.ModelProto:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            try:
                self.model.save_model(str(path), format="onnx")
            except Exception as error:
                raise RefusedJob(
                    f"CatBoost cannot export the model to ONNX: {str(error).splitlines()[0]}",
                    f"Serve its trees with Python instead: {self.command}",
                ) from error
            model = onnx.load(path)
        _drop_zipmap(model)
        if PREDICTIONS.get(self.loss) == "Exponent":
            _add_exponent(model)
        source = model.graph.input[0].name
        joined = "joined_columns"
        for node in model.graph.node:
            node.input[:] = ["with_missing" if name == source else name for name in node.input]
        # CatBoost treats a missing value as smaller than all others (`nan_mode: Min`, the default) or as an error; the
        # export has no missing values.
        filled = [
            helper.make_node("IsNaN", [source if self.matrix else joined], ["is_missing"]),
            helper.make_node("Where", ["is_missing", "lowest", source if self.matrix else joined], ["with_missing"]),
        ]
        model.graph.initializer.append(helper.make_tensor("lowest", TensorProto.FLOAT, [1], [self._missing()]))
        del model.graph.input[:]
        if self.matrix:
            values = [helper.make_tensor_value_info(source, TensorProto.FLOAT, [None, len(self.features)])]
        else:
            names = [feature.name for feature in self.features]
            filled.insert(0, helper.make_node("Concat", names, [joined], axis=1))
            values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
        model.graph.input.extend(values)
        for node in reversed(filled):
            model.graph.node.insert(0, node)
        if self.matrix and source != self.matrix:
            from .graphs import rename

            rename(model, {source: self.matrix})
        versions = {"": 17} | {
            row.domain: row.version for row in model.opset_import if row.domain not in {"", "ai.onnx"}
        }
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*row) for row in versions.items())
        return model

    def _missing(self) -> float:
        is_max = str(self.model.get_all_params().get("nan_mode", "Min")) == "Max"
        return float("inf") if is_max else float("-inf")


def _drop_zipmap(model: onnx.ModelProto) -> None:
    """Return the tensor of probabilities instead of a dict for each row."""
    for node in list(model.graph.node):
        if node.op_type == "ZipMap":
            for value in model.graph.output:
                if value.name == node.output[0]:
                    value.CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, None]))
            model.graph.node.remove(node)


def _add_exponent(model: onnx.ModelProto) -> None:
    """Return the exponential of the trees' sum, as `CatBoostRegressor.predict` does."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["sum_of_trees" if name == output else name for name in node.output]
    model.graph.node.append(helper.make_node("Exp", ["sum_of_trees"], [output]))
