"""Converts XGBoost's .ubj and .json files from the model's own description, without pickle."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from .convert import Candidate, Progress, convert
from .features import Batch, Feature
from .start import RefusedJob
from .trees import LESS, MEMBER, Ensemble, GraphBuilder, Leaf, Split

PACKAGES = ("xgboost-cpu", "xgboost", "onnx")

LINKS = {
    "binary:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "binary:logitraw": "",
    "binary:hinge": "hinge",
    "reg:logistic": "logistic",
    "reg:squarederror": "",
    "reg:squaredlogerror": "",
    "reg:pseudohubererror": "",
    "reg:absoluteerror": "",
    "reg:quantileerror": "",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "count:poisson": "exp",
    "rank:ndcg": "",
    "rank:map": "",
    "rank:pairwise": "",
}
"""Objective -> the function that turns the sum of the trees into the result of `predict`."""

BASE = {"sigmoid": "logit", "logistic": "logit", "exp": "log"}
"""Link -> the function that turns `base_score` into the start of the sum."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    progress(f"loading {Path(job['path']).name}")
    return convert(XgboostOriginal(Path(job["path"])), job, PACKAGES, progress)


class XgboostOriginal:
    """A booster."""

    matrix: str
    transform = ""

    def __init__(self, path: Path) -> None:
        """Open the file and read its description."""
        import xgboost

        try:
            self.booster = xgboost.Booster(model_file=str(path))
        except xgboost.core.XGBoostError as error:
            raise RefusedJob(f"{path.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        description = json.loads(bytes(self.booster.save_raw("json")))
        learner = description["learner"]
        self.notes: list[str] = []
        self.booster_kind = learner["gradient_booster"]["name"]
        self.model = learner["gradient_booster"]
        self.parameters = learner["learner_model_param"]
        self.objective = learner["objective"]["name"]
        if self.objective not in LINKS:
            raise RefusedJob(f"objective {self.objective!r} is not converted", f"Known objectives: {', '.join(LINKS)}.")
        self.link = LINKS[self.objective]
        self.targets = max(int(self.parameters["num_class"]), int(self.parameters.get("num_target", 1)), 1)
        self.is_classifier = self.link in {"sigmoid", "softmax"}
        self.iterations = self._iterations(learner["attributes"])
        self.features = self._features(learner)

    def _iterations(self, attributes: Mapping[str, str]) -> int:
        """Return how many rounds count: all, or up to the best one if scikit-learn's interface stopped early."""
        rounds = int(self.booster.num_boosted_rounds())
        if "scikit_learn" in attributes and "best_iteration" in attributes and self.booster_kind != "gblinear":
            best = int(attributes["best_iteration"]) + 1
            if best < rounds:
                self.notes.append(
                    f"only the first {best} of {rounds} boosting rounds are converted: XGBModel.predict stops at the "
                    "best iteration, too"
                )
            return best
        return rounds

    def _features(self, learner: Mapping[str, Any]) -> list[Feature]:
        names, types = learner["feature_names"], learner["feature_types"]
        self.matrix = "" if names else "X"
        count = int(self.parameters["num_feature"])
        features = [Feature(str(name)) for name in (names or [f"f{at}" for at in range(count)])]
        for feature, kind in zip(features, types, strict=False):
            if kind == "c":
                feature.kind = "text"
        categories = self._tree_model().get("cats", {})
        for feature, known in zip(features, categories.get("enc", ()), strict=False):
            if feature.kind == "text":
                feature.kind, feature.categories = _categories(known, feature.name)
        if any(feature.kind != "float" and not feature.categories for feature in features):
            raise RefusedJob(
                "the model has categories, but the file does not list them",
                "Train it with a DataFrame and XGBoost 3.1 or newer, which stores them, and save it as .ubj.",
            )
        for tree in self._tree_model().get("trees", ()):
            for at, column in enumerate(tree["split_indices"]):
                if tree["left_children"][at] != -1 and not tree["split_type"][at]:
                    features[column].thresholds.append(float(np.float32(tree["split_conditions"][at])))
        return features

    def _tree_model(self) -> Mapping[str, Any]:
        model: Mapping[str, Any] = self.model.get("gbtree", self.model).get("model", {})
        return model

    def _matrix(self, batch: Batch) -> Any:
        import xgboost

        if self.matrix:
            return xgboost.DMatrix(np.column_stack([column.astype(np.float32) for column in batch.values()]))
        import pandas as pd

        columns = {}
        for feature in self.features:
            column = batch[feature.name]
            if feature.categories:
                unknown = [value for value in column.tolist() if value not in feature.categories]
                if unknown:
                    raise ValueError(f"{feature.name} has an unknown category: {unknown[0]!r}")
                columns[feature.name] = pd.Series(pd.Categorical(column, categories=feature.categories))
            else:
                columns[feature.name] = pd.Series(column.astype(np.float32))
        return xgboost.DMatrix(pd.DataFrame(columns), enable_categorical=True)

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return label and probabilities, or the prediction."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matrix = self._matrix(batch)
            span = (0, self.iterations) if self.booster_kind != "gblinear" else (0, 0)
            result = self.booster.predict(matrix, iteration_range=span, strict_shape=True)
            if self.link == "sigmoid":
                return {
                    "label": (result[:, 0] > 0.5).astype(np.int64),
                    "probabilities": np.hstack([1 - result, result]),
                }
            if self.objective == "multi:softmax":
                margins = self.booster.predict(matrix, iteration_range=span, strict_shape=True, output_margin=True)
                powers = np.exp(margins - margins.max(axis=1, keepdims=True))
                label = result.reshape(-1).astype(np.int64)
                return {"label": label, "probabilities": powers / powers.sum(axis=1, keepdims=True)}
            if self.link == "softmax":
                return {"label": result.argmax(axis=1).astype(np.int64), "probabilities": result}
            return {"prediction": result.reshape(len(result), -1)}

    def candidates(self, opsets: Mapping[str, int]) -> Iterator[Candidate]:
        """Return the only candidate: XGBoost itself computes in float32."""
        yield Candidate("FP32", lambda: self._convert(opsets))

    def _base(self) -> list[float]:
        given = json.loads(self.parameters["base_score"])
        scores = np.asarray(given if isinstance(given, list) else [given], dtype=np.float64)
        how = BASE.get(self.link, "")
        if how == "logit":
            with np.errstate(divide="ignore"):
                scores = -np.log(1.0 / scores - 1.0)
        elif how == "log":
            scores = np.log(scores)
        return [float(score) for score in np.broadcast_to(scores, (self.targets,))]

    def _convert(self, opsets: Mapping[str, int]) -> onnx.ModelProto:
        builder = GraphBuilder("FP32")
        source, inputs = builder.inputs(self.features, self.matrix)
        sums = self._linear(builder, source) if self.booster_kind == "gblinear" else self._trees(builder, source)
        margins = builder.add("Add", [sums, builder.constant("base", [self._base()])], "margins")
        if self.is_classifier:
            classes = 2 if self.link == "sigmoid" else self.targets
            outputs = builder.classify(margins, self.link, range(classes))
        else:
            outputs = {"prediction": TensorProto.FLOAT}
            if self.link == "exp":
                builder.add("Exp", [margins], "prediction")
            elif self.link == "logistic":
                builder.add("Sigmoid", [margins], "prediction")
            elif self.link == "hinge":
                above = builder.add("Greater", [margins, builder.constant("zero", [0.0])], "is_positive")
                builder.add("Cast", [above], "prediction", to=TensorProto.FLOAT)
            else:
                builder.add("Identity", [margins], "prediction")
        return builder.model(inputs, outputs, opsets)

    def _linear(self, builder: GraphBuilder, source: str) -> str:
        weights = np.asarray(self.model["model"]["weights"], dtype=np.float64).reshape(
            len(self.features) + 1, self.targets
        )
        missing = builder.add("IsNaN", [source], "is_missing")  # a missing value counts as 0
        source = builder.add("Where", [missing, builder.constant("no_value", [0.0]), source], "filled")
        product = builder.add("MatMul", [source, builder.constant("weights", weights[:-1])], "product")
        return builder.add("Add", [product, builder.constant("bias", weights[-1:])], "sums")

    def _trees(self, builder: GraphBuilder, source: str) -> str:
        model = self._tree_model()
        drops = self.model.get("weight_drop")
        ends = model["iteration_indptr"]
        ensemble = Ensemble(self.targets)
        for number, tree in enumerate(model["trees"][: ends[min(self.iterations, len(ends) - 1)]]):
            factor = float(drops[number]) if drops else 1.0
            ensemble.add(_tree(tree, model["tree_info"][number], self.targets, factor))
        builder.nodes.append(ensemble.node(source, "sums", "FP32"))
        return "sums"


def _categories(known: Mapping[str, Any], name: str) -> tuple[str, list[Any]]:
    """Return the kind and the values of a column's categories.

    Texts are concatenated, numbers are stored as they are.
    """
    offsets, values = known.get("offsets"), known.get("values", [])
    if offsets:
        data = bytes(value % 256 for value in values)
        if len(data) != offsets[-1] or not data.isascii():
            raise RefusedJob(
                f"the categories of column {name!r} are incomplete in the file: XGBoost truncates names beyond ASCII",
                "Train with category names in ASCII.",
            )
        texts = [data[start:end].decode() for start, end in itertools.pairwise(offsets)]
        return "text", texts
    if values and all(float(value).is_integer() for value in values):
        raise RefusedJob(
            f"column {name!r} has numbers as categories, which are not converted",
            "Train with texts as categories: frame[column].astype(str).astype('category').",
        )
    return "text", []


def _tree(tree: Mapping[str, Any], target: int, targets: int, factor: float) -> Split | Leaf:
    """Return one tree of the description.

    Values below the threshold take the left branch, members of a set the right one.
    """
    width = int(tree["tree_param"]["size_leaf_vector"])
    starts = dict(
        zip(
            tree["categories_nodes"],
            zip(tree["categories_segments"], tree["categories_sizes"], strict=True),
            strict=True,
        )
    )

    def leaf(at: int) -> Leaf:
        if width > 1:
            place = tree["right_children"][at] * width  # index of the leaf's weights, in trees with several outputs
            weights = tree["leaf_weights"][place : place + width]
            return Leaf({number: weight * factor for number, weight in enumerate(weights)})
        return Leaf({target if targets > 1 else 0: float(np.float32(tree["split_conditions"][at])) * factor})

    def walk(at: int) -> Split | Leaf:
        left, right = tree["left_children"][at], tree["right_children"][at]
        if left == -1:
            return leaf(at)
        missing_left = bool(tree["default_left"][at])
        column = tree["split_indices"][at]
        if tree["split_type"][at]:
            start, size = starts[at]
            members = tuple(float(code) for code in tree["categories"][start : start + size])
            return Split(column, MEMBER, 0.0, members, not missing_left, walk(right), walk(left))
        value = float(np.float32(tree["split_conditions"][at]))
        return Split(column, LESS, value, (), missing_left, walk(left), walk(right))

    return walk(0)
