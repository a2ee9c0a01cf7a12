"""Converts CatBoost's .cbm files with the library's own export, without its list of dicts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .convert import Candidate, Progress, convert
from .exchange import as_objects
from .features import Batch, Feature
from .start import RefusedJob

PACKAGES = ("catboost", "onnx")


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    progress(f"loading {Path(job['path']).name}")
    return convert(CatboostOriginal(Path(job["path"])), job, PACKAGES, progress)


class CatboostOriginal:
    """A model without categories or texts, which CatBoost's export does not support."""

    transform = ""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        import catboost

        try:
            self.model = catboost.CatBoost().load_model(str(path), format="cbm")
        except catboost.CatBoostError as error:
            raise RefusedJob(f"{path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.notes: list[str] = []
        if self.model.get_cat_feature_indices() or self.model.get_text_feature_indices():
            raise RefusedJob(
                "the model has categories or texts, which CatBoost's ONNX export leaves out",
                "Serve it as Python instead: see docs/runtimes.md. Or train on encoded columns.",
            )
        names = [str(name) for name in self.model.feature_names_]
        self.matrix = "X" if names == [str(at) for at in range(len(names))] else ""
        self.features = [Feature(name) for name in names]
        for feature, borders in zip(self.features, self.model.get_borders().values(), strict=False):
            feature.thresholds = [float(border) for border in borders]
        parameters = self.model.get_all_params()
        self.loss = str(parameters.get("loss_function", ""))
        self.is_classifier = self.loss.partition(":")[0] in {
            "Logloss",
            "CrossEntropy",
            "MultiClass",
            "MultiClassOneVsAll",
        }
        if not self.is_classifier and np.size(self.model.predict(np.zeros((1, len(names)), np.float32))) > 1:
            raise RefusedJob(
                f"the model has several outputs ({self.loss}), which CatBoost's ONNX export writes wrong",
                "Train a model for each output. Or serve it as Python: see docs/runtimes.md.",
            )

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return label and probabilities, or the prediction."""
        table = np.column_stack([column.astype(np.float32) for column in batch.values()])
        if not self.is_classifier:
            return {"prediction": np.asarray(self.model.predict(table)).reshape(len(table), -1)}
        label = as_objects(np.asarray(self.model.predict(table, prediction_type="Class")).ravel())
        label = label.astype(np.int64) if label.dtype.kind in "iubf" else label
        return {"label": label, "probabilities": self.model.predict(table, prediction_type="Probability")}

    def candidates(self, _: Mapping[str, int]) -> Iterator[Candidate]:
        """Return the only candidate: CatBoost itself compares in float32."""
        yield Candidate("FP32", self._convert)

    def _convert(self) -> onnx.ModelProto:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            self.model.save_model(str(path), format="onnx")
            model = onnx.load(path)
        _drop_zipmap(model)
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
