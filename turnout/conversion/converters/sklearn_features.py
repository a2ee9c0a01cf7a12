"""The columns that a fitted estimator reads, their categories, and the thresholds of its trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .features import Feature
from .start import RefusedJob

TEXT = "text"

WRAPPERS = frozenset({"TunedThresholdClassifierCV", "FixedThresholdClassifier", "SelfTrainingClassifier"})
"""Estimators that pass their rows on to `estimator_`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column inside a pipeline: `value = (x - offset) / factor` of a feature."""

    feature: Feature
    offset: float = 0.0
    factor: float = 1.0


Columns = Sequence[Column | None]
"""The columns; None after a step that computes something else from the features."""


def is_vectorizer(step: Any) -> bool:
    """Whether a step splits texts into words."""
    return hasattr(step, "build_analyzer") and hasattr(step, "strip_accents")


def is_text_first(estimator: Any) -> bool:
    """Whether it accepts a list of texts."""
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[0][1]
    if hasattr(estimator, "transformer_list"):
        return any(is_text_first(part) for _, part in estimator.transformer_list)
    return is_vectorizer(estimator) or any(map(is_text_first, _parts(estimator)))


def vectorizers_of(estimator: Any, features: Sequence[Feature]) -> list[tuple[str, Any]]:
    """Yield every vectorizer with the name of the feature that it reads."""
    first = features[0].name if features else TEXT
    return list(_vectorizers(estimator, first, features))


def _vectorizers(step: Any, name: str, features: Sequence[Feature]) -> Iterator[tuple[str, Any]]:
    if is_vectorizer(step):
        yield name, step
    for _, part in getattr(step, "steps", ()):
        yield from _vectorizers(part, name, features)
    for _, part in getattr(step, "transformer_list", ()):
        yield from _vectorizers(part, name, features)
    for part in _parts(step):
        yield from _vectorizers(part, name, features)
    for _, part, columns in getattr(step, "transformers_", ()):
        if not isinstance(part, str):
            at = _indices(columns, features)
            yield from _vectorizers(part, features[at[0]].name if at else name, features)


def check_parts(step: Any, command: str) -> None:
    """Refuse an estimator that skl2onnx 1.20 converts without an error into a graph with other answers.

    Args:
        step: the estimator.
        command: serves the model as Python.

    Raises:
        RefusedJob: it is in the model.
    """
    if getattr(step, "is_categorical_", None) is not None and np.any(step.is_categorical_):
        raise RefusedJob(
            f"{type(step).__name__} splits by categories, and skl2onnx compares their codes as if they were numbers",
            f"Serve it as Python instead: {command}\n    Or encode the categories with OneHotEncoder.",
        )
    inner = [part for name in ("steps", "transformer_list") for _, part in getattr(step, name, ())]
    inner += [part for _, part, _ in getattr(step, "transformers_", ())]
    for part in (*inner, *_parts(step)):
        check_parts(part, command)


def describe_inputs(estimator: Any) -> list[Feature]:
    """Return the features in their order.

    Raises:
        RefusedJob: the estimator reads objects, not columns.
    """
    _check_first(estimator)
    if is_text_first(estimator):
        feature = Feature(TEXT, "text")
        _walk(estimator, [Column(feature)])
        return [feature]
    names = getattr(estimator, "feature_names_in_", None)
    count = int(getattr(estimator, "n_features_in_", 0)) or 1
    features = [Feature(str(name)) for name in (names if names is not None else [f"x{at}" for at in range(count)])]
    _walk(estimator, [Column(feature) for feature in features])
    for feature in features:
        if feature.categories:
            feature.kind, feature.categories = _kind_of(feature.categories)
    return features


def _check_first(step: Any) -> None:
    """Refuse an estimator whose rows are dicts or lists, which no tensor of a request holds."""
    while hasattr(step, "steps"):
        step = step.steps[0][1]
    for part in (*(part for _, part in getattr(step, "transformer_list", ())), *_parts(step)):
        _check_first(part)
    name = type(step).__name__
    if name in {"DictVectorizer", "FeatureHasher"}:
        raise RefusedJob(
            f"the model begins with {name}, which reads dicts or lists, and a request has tensors",
            "Train it on a DataFrame with OneHotEncoder instead, "
            "or write predict.py, which makes these objects from tensors: see docs/runtimes.md.",
        )


def _kind_of(categories: Sequence[Any]) -> tuple[str, list[Any]]:
    known = [value for value in categories if value is not None and value == value]  # noqa: PLR0124 - NaN
    if any(isinstance(value, str | bytes) for value in known):
        return "text", [str(value) for value in known]
    if known and all(isinstance(value, bool | np.bool_) for value in known):
        return "bool", [bool(value) for value in known]
    if known and all(isinstance(value, int | np.integer) for value in known):
        return "int", [int(value) for value in known]
    return "float", [float(value) for value in known]


def _walk(step: Any, columns: Columns) -> Columns:
    """Record what a step knows about its columns; return the columns after the step."""
    if isinstance(step, str):
        return columns if step == "passthrough" else []
    if hasattr(step, "steps"):
        for _, part in step.steps:
            columns = _walk(part, columns)
        return columns
    if hasattr(step, "transformers_"):
        return _walk_columns(step, columns)
    if hasattr(step, "transformer_list"):
        for _, part in step.transformer_list:
            _walk(part, columns)
        return []
    for part in _parts(step):
        _walk(part, columns)
    if getattr(step, "_preprocessor", None) is not None:
        columns = _walk_histogram(step, columns)
    _note_categories(step, columns)
    _note_text(step, columns)
    _note_thresholds(step, columns)
    return _after(step, columns)


def _walk_columns(step: Any, columns: Columns) -> Columns:
    features = [column.feature for column in columns if column is not None]
    made: list[Column | None] = []
    read: set[int] = set()
    for _, part, selected in step.transformers_:
        at = _indices(selected, features)
        if part != "drop":
            read |= set(at)
            made += _walk(part, [columns[index] for index in at])
    for index, column in enumerate(columns):
        if column is not None and index not in read:
            column.feature.used = False
    return made if all(column is not None for column in made) else []


def _walk_histogram(step: Any, columns: Columns) -> Columns:
    """Return the columns that a histogram's trees see: it encodes its categories, and moves them to the front."""
    if len(columns) != len(step.is_categorical_):
        return []
    _walk_columns(step._preprocessor, columns)
    numbers = [column for column, is_category in zip(columns, step.is_categorical_, strict=True) if not is_category]
    return [None] * int(np.sum(step.is_categorical_)) + numbers


def _indices(selected: Any, features: Sequence[Feature]) -> list[int]:
    """Return the positions of a ColumnTransformer's columns: names, positions, a slice or a mask."""
    names = [feature.name for feature in features]
    if isinstance(selected, str):
        return [names.index(selected)]
    if isinstance(selected, slice):
        bounds = [names.index(end) if isinstance(end, str) else end for end in (selected.start, selected.stop)]
        stop = bounds[1] + 1 if isinstance(selected.stop, str) else bounds[1]
        return list(range(len(names)))[slice(bounds[0], stop, selected.step)]
    if isinstance(selected, int | np.integer):
        return [int(selected)]
    chosen = list(selected)
    if chosen and all(isinstance(value, bool | np.bool_) for value in chosen):
        return [at for at, value in enumerate(chosen) if value]
    return [names.index(value) if isinstance(value, str) else int(value) for value in chosen]


def _parts(step: Any) -> list[Any]:
    """Return the estimators inside another one that see the same columns."""
    result = getattr(step, "estimators_", None)
    if result is None or hasattr(step, "estimators_features_"):
        result = []
    parts = [part for part in np.ravel(np.array(result, dtype=object)) if hasattr(part, "get_params")]
    parts += [row.estimator for row in getattr(step, "calibrated_classifiers_", ())]
    names = ("best_estimator_", "regressor_", *(("estimator_",) if type(step).__name__ in WRAPPERS else ()))
    return parts + [getattr(step, name) for name in names if hasattr(step, name)]


def _note_categories(step: Any, columns: Columns) -> None:
    for column, categories in zip(columns, getattr(step, "categories_", ()), strict=False):
        if column is not None:
            column.feature.categories = list(dict.fromkeys([*column.feature.categories, *categories.tolist()]))
    centers = getattr(step, "statistics_", None)
    if centers is None:
        return
    for column, center in zip(columns, centers, strict=False):
        if column is None:
            continue
        if isinstance(center, str):
            column.feature.kind = "text"
        elif isinstance(center, int | float) and center == center:  # noqa: PLR0124 - NaN
            column.feature.center = float(center)
            column.feature.scale = max(abs(float(center)) / 3, 1e-3)


def _note_text(step: Any, columns: Columns) -> None:
    if is_vectorizer(step) and columns and columns[0] is not None:
        feature = columns[0].feature
        feature.kind, feature.is_words = "text", True
        feature.vocabulary += [str(word) for word in getattr(step, "vocabulary_", ()) if isinstance(word, str)]


def _note_thresholds(step: Any, columns: Columns) -> None:
    for at, threshold in thresholds_of(step):
        if np.isfinite(threshold) and at < len(columns) and (column := columns[at]) is not None:
            column.feature.thresholds.append(threshold * column.factor + column.offset)


def thresholds_of(step: Any) -> Iterator[tuple[int, float]]:
    """Yield column and threshold of each split of a tree."""
    tree = getattr(step, "tree_", None)
    if tree is not None:
        for at, threshold in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True):
            if at >= 0:
                yield at, threshold
    for iteration in getattr(step, "_predictors", ()):
        for predictor in iteration:
            for node in predictor.nodes:
                if not node["is_leaf"] and not node["is_categorical"]:
                    yield int(node["feature_idx"]), float(node["num_threshold"])


def _after(step: Any, columns: Columns) -> Columns:
    """Return the columns after a step that scales or keeps each of them; None after any other."""
    name = type(step).__name__
    if name == "SimpleImputer":
        return _imputed(step, columns)
    if name in {"StandardScaler", "RobustScaler", "MaxAbsScaler"}:
        zeros, ones = np.zeros(len(columns)), np.ones(len(columns))
        offset = getattr(step, "mean_", getattr(step, "center_", None))
        factor = getattr(step, "scale_", None)
        return _scaled(columns, zeros if offset is None else offset, ones if factor is None else factor)
    if name == "MinMaxScaler":
        return _scaled(columns, -step.min_ / step.scale_, 1 / step.scale_)
    return []


def _imputed(step: Any, columns: Columns) -> Columns:
    """Return the columns without those that were empty in training, and with the indicators of missing values."""
    if len(step.statistics_) != len(columns):
        return []
    is_empty = [value != value for value in step.statistics_.tolist()]  # noqa: PLR0124 - NaN
    keeps_empty = getattr(step, "keep_empty_features", False)
    kept = [column for column, empty in zip(columns, is_empty, strict=True) if keeps_empty or not empty]
    indicator = getattr(step, "indicator_", None)
    return kept + [None] * (0 if indicator is None else len(indicator.features_))


def _scaled(columns: Columns, offsets: Any, factors: Any) -> list[Column | None]:
    if len({len(columns), len(offsets), len(factors)}) > 1:
        return []  # an earlier step added or removed columns
    scaled: list[Column | None] = []
    for column, offset, factor in zip(columns, offsets, factors, strict=True):
        if column is None:
            scaled.append(None)
            continue
        first = Column(column.feature, column.offset + float(offset) * column.factor, column.factor * float(factor))
        if not column.feature.categories and column.factor == 1.0:
            column.feature.center, column.feature.scale = first.offset, abs(first.factor) or 1.0
        scaled.append(first)
    return scaled
