"""Converts LightGBM's .txt files, from the library's own dump, in float64 like LightGBM."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .convert import Candidate, Progress, convert
from .features import Batch, Feature
from .start import RefusedJob
from .trees import KINDS, LEQ, MEMBER, Ensemble, GraphBuilder, Leaf, Split

PACKAGES = ("lightgbm", "onnx")

LINKS = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "ova",
    "cross_entropy": "logistic",
    "regression": "",
    "regression_l1": "",
    "huber": "",
    "fair": "",
    "quantile": "",
    "mape": "",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "lambdarank": "",
    "rank_xendcg": "",
}
"""Objective -> the function that turns the sum of the trees into the result of `predict`."""

ZERO = float(np.float32(1e-35))
"""Largest absolute value that LightGBM treats as zero."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    progress(f"loading {Path(job['path']).name}")
    return convert(LightgbmOriginal(Path(job["path"])), job, PACKAGES, progress)


class LightgbmOriginal:
    """A booster."""

    transform = ""

    def __init__(self, path: Path) -> None:
        """Open the file and read its dump."""
        import lightgbm

        try:
            self.booster = lightgbm.Booster(model_file=str(path))
        except (lightgbm.basic.LightGBMError, OSError) as error:
            raise RefusedJob(f"{path.name} cannot be loaded: {error}") from error
        self.notes: list[str] = []
        self.dump: Mapping[str, Any] = self.booster.dump_model()
        name, _, rest = str(self.dump.get("objective", "regression")).partition(" ")
        if name not in LINKS:
            raise RefusedJob(f"objective {name!r} is not converted", f"Known objectives: {', '.join(LINKS)}.")
        self.objective, self.link = name, LINKS[name]
        self.options = dict(part.split(":", 1) for part in rest.split() if ":" in part)
        self.is_root = "sqrt" in rest.split()
        self.classes = int(self.dump["num_tree_per_iteration"])
        self.missing: dict[int, str] = {}
        self.features = self._features()

    def _features(self) -> list[Feature]:
        names = [str(name) for name in self.dump["feature_names"]]
        is_matrix = names == [f"Column_{at}" for at in range(len(names))]
        self.matrix = "X" if is_matrix else ""
        features = [Feature(name) for name in names]
        splits: list[Mapping[str, Any]] = []
        for tree in self.dump["tree_info"]:
            splits += list(_splits(tree["tree_structure"]))
        categorical = {split["split_feature"] for split in splits if split["decision_type"] == "=="}
        infos = self.dump.get("feature_infos", {})
        known = list(self.dump.get("pandas_categorical") or self.booster.pandas_categorical or [])
        columns = [at for at in range(len(names)) if at in categorical or _is_list(infos.get(names[at]))]
        if known and len(known) != len(columns):
            raise RefusedJob(
                "the file does not say which columns its categories belong to", "Train without unused categories."
            )
        for at, values in zip(columns, known or [None] * len(columns), strict=True):
            features[at].kind, features[at].categories = self._categories(values, infos.get(names[at]), names[at])
        for split in splits:
            at = split["split_feature"]
            self.missing.setdefault(at, split["missing_type"])
            if split["decision_type"] == "<=":
                features[at].thresholds.append(float(split["threshold"]))
        for at, name in enumerate(names):
            row = infos.get(name)
            if not features[at].thresholds and isinstance(row, Mapping) and "min_value" in row:
                features[at].center = (row["min_value"] + row["max_value"]) / 2
                features[at].scale = max((row["max_value"] - row["min_value"]) / 4, 1e-6)
        return features

    def _categories(self, values: Any, info: Any, name: str) -> tuple[str, list[Any]]:
        if values is None:  # codes, which clients send unchanged
            codes = [int(code) for code in (info or {}).get("values", [0, 1])]
            return "float", [float(code) for code in codes]
        if all(isinstance(value, str) for value in values):
            return "text", list(values)
        raise RefusedJob(
            f"column {name!r} has numbers as categories, which are not converted",
            "Train with texts as categories: frame[column].astype(str).astype('category').",
        )

    def _table(self, batch: Batch) -> Any:
        if self.matrix:
            return np.column_stack([column.astype(np.float64) for column in batch.values()])
        import pandas as pd

        columns = {}
        for feature in self.features:
            column = batch[feature.name]
            if feature.kind == "text":
                columns[feature.name] = pd.Series(pd.Categorical(column, categories=feature.categories))
            else:
                columns[feature.name] = pd.Series(column.astype(np.float64))
        return pd.DataFrame(columns)

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return label and probabilities, or the prediction."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = np.asarray(self.booster.predict(self._table(batch)))
        if self.link == "sigmoid":
            return {"label": (result > 0.5).astype(np.int64), "probabilities": np.column_stack([1 - result, result])}
        if self.link in {"softmax", "ova"}:
            return {"label": result.argmax(axis=1).astype(np.int64), "probabilities": result}
        return {"prediction": result.reshape(len(result), -1)}

    def candidates(self, opsets: Mapping[str, int]) -> Iterator[Candidate]:
        """Return the only candidate, in float64, because LightGBM itself computes in float64."""
        yield Candidate("FP64", lambda: self._convert(opsets))

    def _convert(self, opsets: Mapping[str, int]) -> onnx.ModelProto:
        builder = GraphBuilder("FP64")
        source, inputs = builder.inputs(self.features, self.matrix)
        ensemble = Ensemble(self.classes)
        for number, tree in enumerate(self.dump["tree_info"]):
            ensemble.add(_tree(tree["tree_structure"], number % self.classes))
        builder.nodes.append(ensemble.node(self._missing_values(builder, source), "sums", "FP64"))
        margins = "sums"
        if self.dump.get("average_output"):
            rounds = len(self.dump["tree_info"]) / self.classes
            margins = builder.add("Div", [margins, builder.constant("rounds", [rounds])], "margins")
        sigmoid = float(self.options.get("sigmoid", 1.0))
        if self.link in {"sigmoid", "ova"} and sigmoid != 1.0:
            margins = builder.add("Mul", [margins, builder.constant("sigmoid", [sigmoid])], "scaled")
        if self.link in {"sigmoid", "softmax", "ova"}:
            count = 2 if self.link == "sigmoid" else self.classes
            return builder.model(inputs, builder.classify(margins, self.link, range(count)), opsets)
        if self.link == "exp":
            builder.add("Exp", [margins], "prediction")
        elif self.link == "logistic":
            builder.add("Sigmoid", [margins], "prediction")
        elif self.is_root:
            absolute = builder.add("Abs", [margins], "absolute")
            builder.add("Mul", [margins, absolute], "prediction")
        else:
            builder.add("Identity", [margins], "prediction")
        return builder.model(inputs, {"prediction": KINDS["FP64"]}, opsets)

    def _missing_values(self, builder: GraphBuilder, source: str) -> str:
        """Each column has its own missing values: NaN; zero and NaN; or none, and NaN is then zero."""
        count = len(self.features)
        kinds = [self.missing.get(at, "NaN") for at in range(count)]
        categorical = [bool(feature.categories) for feature in self.features]
        if "None" in kinds:
            is_missing = builder.add("IsNaN", [source], "is_missing")
            plain = [kind == "None" and not is_category for kind, is_category in zip(kinds, categorical, strict=True)]
            mask = builder.constant("never_missing", [plain], onnx.TensorProto.BOOL)
            both = builder.add("And", [is_missing, mask], "is_zero_instead")
            source = builder.add("Where", [both, builder.constant("no_value", [0.0]), source], "without_missing")
        if "Zero" in kinds:
            small = builder.add(
                "LessOrEqual", [builder.add("Abs", [source], "sizes"), builder.constant("least", [ZERO])], "is_small"
            )
            mask = builder.constant("zero_is_missing", [[kind == "Zero" for kind in kinds]], onnx.TensorProto.BOOL)
            both = builder.add("And", [small, mask], "is_missing_instead")
            source = builder.add("Where", [both, builder.constant("nan", [float("nan")]), source], "with_zero_missing")
        if any(categorical):  # codes are compared as integers
            mask = builder.constant("is_category", [categorical], onnx.TensorProto.BOOL)
            whole = builder.add("Cast", [builder.add("Cast", [source], "codes", to=7)], "whole_codes", to=KINDS["FP64"])
            kept = builder.add("Where", [builder.add("IsNaN", [source], "has_no_code"), source, whole], "kept_codes")
            source = builder.add("Where", [mask, kept, source], "with_whole_codes")
        return source


def _is_list(info: Any) -> bool:
    return isinstance(info, Mapping) and bool(info.get("values"))


def _splits(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "split_feature" in node:
        yield node
        yield from _splits(node["left_child"])
        yield from _splits(node["right_child"])


def _tree(node: Mapping[str, Any], target: int) -> Split | Leaf:
    """One tree of the dump. Values up to the threshold, or in the set, take the left branch."""
    if "split_feature" not in node:
        if "leaf_coeff" in node or "leaf_const" in node:
            raise RefusedJob("trees with linear leaves are not converted", "Train with linear_tree=False.")
        return Leaf({target: float(node["leaf_value"])})
    left, right = _tree(node["left_child"], target), _tree(node["right_child"], target)
    if node["decision_type"] == "==":
        members = tuple(float(code) for code in str(node["threshold"]).split("||"))
        return Split(node["split_feature"], MEMBER, 0.0, members, missing=False, true=left, false=right)
    is_left = bool(node["default_left"]) and node["missing_type"] != "None"
    return Split(node["split_feature"], LEQ, float(node["threshold"]), (), is_left, left, right)
