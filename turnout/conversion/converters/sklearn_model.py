"""Converts scikit-learn models: .skops files, and pickles if the user trusts them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .convert import Candidate, Progress, convert, python_command
from .exchange import as_objects
from .features import Batch, Feature
from .graphs import rename
from .python_code import import_modules, write_python
from .sklearn_features import check_parts, describe_inputs, is_text_first, vectorizers_of
from .sklearn_graph import patched_nodes, token_pattern
from .sklearn_texts import make_text_transform, removes_stop_words
from .start import RefusedJob

PACKAGES = ("scikit-learn", "skl2onnx", "onnx")

OWN_FORMATS = {
    "xgboost": "model.save_model('model.ubj')",
    "lightgbm": "model.booster_.save_model('model.txt')",
    "catboost": "model.save_model('model.cbm')",
    "keras": "model.save('model.keras')",
    "torch": "torch.export.save(program, 'model.pt2')",
}
"""Libraries whose models are pickled, too -> how to save one for its own converter."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    progress(f"loading {Path(job['path']).name}")
    notes: list[str] = []
    import_modules(job["modules"])
    estimator = load(Path(job["path"]), job, notes)
    if job["runtime"] == "python":
        return write_python(SklearnOriginal(estimator, notes), job, progress)
    check_parts(estimator, python_command(job))
    original = SklearnOriginal(estimator, notes)
    original.add_transform()
    return convert(original, job, PACKAGES, progress)


def load(path: Path, job: Mapping[str, Any], notes: list[str]) -> Any:
    """Open the file: a .skops file only with known types, a pickle only if it is trusted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _load_skops(path, job) if path.suffix == ".skops" else _load_pickle(path, job)
    for row in caught:
        if type(row.message).__name__ == "InconsistentVersionWarning":
            written = getattr(row.message, "original_sklearn_version", "another release")
            notes.append(f"written by scikit-learn {written}, read by {_sklearn_version()}")
            break
    if hasattr(estimator, "best_estimator_") and job["runtime"] != "python":
        estimator = estimator.best_estimator_
    if not hasattr(estimator, "predict") and not hasattr(estimator, "transform"):
        raise RefusedJob(f"{path.name} holds {type(estimator).__name__}, which has neither predict nor transform")
    try:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
    except Exception as error:
        raise RefusedJob(f"{path.name} holds an estimator that is not fitted", "Save it after `fit`.") from error
    return estimator


def _sklearn_version() -> str:
    import sklearn

    return str(sklearn.__version__)


def _load_skops(path: Path, job: Mapping[str, Any]) -> Any:
    import skops.io

    try:
        unknown = skops.io.get_untrusted_types(file=path)
    except Exception as error:
        raise RefusedJob(f"{path.name} is not a .skops file: {error}") from error
    if left := [name for name in unknown if name not in job["trusted_types"]]:
        shown = "\n    ".join(f"--trust {name}" for name in left)
        raise RefusedJob(
            f"{path.name} holds types that skops does not trust: {', '.join(left)}",
            f"Loading them runs their code. If you know where the file comes from, add:\n    {shown}",
        )
    try:
        return skops.io.load(path, trusted=list(unknown))
    except ModuleNotFoundError as error:
        raise RefusedJob(
            f"{path.name} needs the module {error.name!r}, which is not in the converter's environment",
            _module_hint(str(error.name), job),
        ) from error
    except Exception as error:
        raise RefusedJob(f"{path.name} cannot be loaded: {error}") from error


def _load_pickle(path: Path, job: Mapping[str, Any]) -> Any:
    if not job["trust_pickle"]:
        raise RefusedJob(
            f"{path.name} is a pickle: loading it runs whatever code is in it",
            "If you know where it comes from, add --trust-pickle. Better: save it with skops.io.dump.",
        )
    import joblib

    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        raise RefusedJob(
            f"{path.name} needs the module {error.name!r}, which is not in the converter's environment",
            _module_hint(str(error.name), job),
        ) from error
    except Exception as error:
        raise RefusedJob(f"{path.name} cannot be loaded: {type(error).__name__}: {error}") from error


def _module_hint(name: str, job: Mapping[str, Any]) -> str:
    package = name.partition(".")[0]
    if package in OWN_FORMATS:
        return (
            f"Save the model in its library's own format instead: {OWN_FORMATS[package]}\n"
            "    For a pipeline that contains it, write predict.py, see docs/runtimes.md."
        )
    file = f"{package}.py"
    return (
        f"If it is a file of yours, serve the model with it: {python_command(job)} --module {file}\n"
        "    Else write predict.py, see docs/runtimes.md."
    )


class SklearnOriginal:
    """A fitted estimator or pipeline."""

    transform = ""

    def __init__(self, estimator: Any, notes: list[str]) -> None:
        """Inspect its inputs."""
        self.estimator = estimator
        self.notes = notes
        self.features: list[Feature] = describe_inputs(estimator)
        self.has_names = hasattr(estimator, "feature_names_in_")
        self.is_text = is_text_first(estimator)
        has_texts = any(feature.kind == "text" for feature in self.features)
        self.matrix = "" if self.has_names or has_texts else "X"
        self.last = last_of(estimator)

    def add_transform(self) -> None:
        """Add what ONNX cannot do with texts, for a model that is converted."""
        self.transform = make_text_transform(vectorizers_of(self.estimator, self.features))

    def _table(self, batch: Batch) -> Any:
        if self.is_text:
            return batch[self.features[0].name].tolist()
        if self.matrix:
            return np.column_stack([column.astype(np.float64) for column in batch.values()])
        import pandas as pd

        return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in batch.items()})

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return label and probabilities, the prediction, or a transformer's result."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._predict(self._table(batch))

    def _predict(self, table: Any) -> dict[str, np.ndarray[Any, Any]]:
        from sklearn.base import is_classifier

        model = self.estimator
        if not hasattr(model, "predict"):
            return {"transformed": _dense(model.transform(table))}
        predicted = np.asarray(model.predict(table))
        if is_classifier(model):
            label = as_objects(predicted)
            label = label.astype(np.int64) if label.dtype.kind in "iub" else label
            if hasattr(model, "predict_proba"):
                return {"label": label, "probabilities": _probabilities(model.predict_proba(table))}
            if hasattr(model, "decision_function"):
                return {"label": label, "scores": _columns(np.asarray(model.decision_function(table)))}
            return {"label": label}
        if hasattr(model, "score_samples") and hasattr(model, "decision_function"):  # an outlier detector
            return {"label": predicted.astype(np.int64), "scores": np.asarray(model.decision_function(table))}
        if hasattr(model, "cluster_centers_"):
            return {"label": predicted.astype(np.int64), "distances": _dense(model.transform(table))}
        return {"prediction": predicted.astype(np.float64)}

    def candidates(self, opsets: Mapping[str, int]) -> Iterator[Candidate]:
        """Return float64 throughout, then float32."""
        for floats in ("FP64", "FP32"):
            yield Candidate(floats, lambda floats=floats: self._convert(floats, opsets))  # type: ignore[misc]

    def _convert(self, floats: str, opsets: Mapping[str, int]) -> onnx.ModelProto:
        from skl2onnx import convert_sklearn

        model = copy.deepcopy(self.estimator)
        options: dict[int, dict[str, Any]] = {}
        for _, vectorizer in vectorizers_of(model, self.features):
            vectorizer.lowercase, vectorizer.strip_accents = False, None
            if removes_stop_words(vectorizer):
                vectorizer.stop_words = None
            options[id(vectorizer)] = {"locale": "C", **token_pattern(vectorizer)}
        last = last_of(model)
        if hasattr(last, "flatten_transform"):
            last.flatten_transform = False  # an option of `transform`, which is not converted; skl2onnx rejects it
        inputs = self._input_types(floats)
        targets = {"": opsets[""], "ai.onnx.ml": opsets["ai.onnx.ml"]}
        with warnings.catch_warnings(), patched_nodes(floats):
            warnings.simplefilter("ignore")
            attempts: tuple[dict[str, Any], ...] = ({"zipmap": False}, {"raw_scores": True}, {})
            for number, extra in enumerate(attempts):
                try:
                    rows = {**options, **({id(last): extra} if extra else {})}
                    converted = convert_sklearn(
                        model, initial_types=inputs, options=rows, target_opset=_capped(targets)
                    )
                    break
                except NameError:  # an option that this estimator's converter does not have
                    if number == len(attempts) - 1:
                        raise
        if not self.matrix and len(inputs) == len(self.features):
            restore_names(converted, [feature.name for feature in self.features])
        elif not self.matrix:
            _split_columns(converted, [feature.name for feature in self.features])
        if isinstance(getattr(model, "classes_", None), list) and len(converted.graph.output) > 1:
            _stack_probabilities(converted)
        made: onnx.ModelProto = converted
        return made

    def _input_types(self, floats: str) -> list[tuple[str, Any]]:
        from skl2onnx.common import data_types as types

        number = types.DoubleTensorType if floats == "FP64" else types.FloatTensorType
        if self.matrix:
            return [(self.matrix, number([None, len(self.features)]))]
        kinds = {
            "float": number,
            "int": types.Int64TensorType,
            "bool": types.BooleanTensorType,
            "text": types.StringTensorType,
        }
        if len({row.kind for row in self.features}) == 1 and not self.is_text and not _selects_columns(self.estimator):
            # no converter concatenates columns
            return [("X", kinds[self.features[0].kind]([None, len(self.features)]))]
        shape = [None] if self.is_text else [None, 1]
        return [(row.name, kinds[row.kind](shape)) for row in self.features]


def _capped(targets: Mapping[str, int]) -> dict[str, int]:
    """Return the opset, limited to the newest one with which this release of skl2onnx was tested."""
    from skl2onnx import __max_supported_opset__

    return {"": min(targets[""], __max_supported_opset__), "ai.onnx.ml": min(targets["ai.onnx.ml"], 3)}


def last_of(estimator: Any) -> Any:
    """Return the last step of a pipeline, at any nesting depth."""
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    return estimator


def restore_names(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Give inputs the columns' own names: the converter replaces spaces and dots, and keeps their order."""
    rename(model, {row.name: name for row, name in zip(model.graph.input, names, strict=True) if row.name != name})


def _selects_columns(step: Any) -> bool:
    """Whether a ColumnTransformer reads columns by name."""
    parts = (part for name in ("steps", "transformer_list") for _, part in getattr(step, name, ()))
    return hasattr(step, "transformers_") or any(map(_selects_columns, parts))


def _split_columns(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Turn each column of the single input into a separate input."""
    (value,) = model.graph.input
    element = value.type.tensor_type.elem_type
    rename(model, {value.name: "joined_columns"})
    del model.graph.input[:]
    model.graph.input.extend(onnx.helper.make_tensor_value_info(name, element, [None, 1]) for name in names)
    rename(model, {})
    model.graph.node.insert(0, onnx.helper.make_node("Concat", list(names), ["joined_columns"], axis=1))


def _stack_probabilities(model: onnx.ModelProto) -> None:
    """Combine probabilities of several outputs into one tensor [row, output, class].

    They are a sequence, or a tensor [output, row, class].
    """
    value = model.graph.output[1]
    inner, outer = value.name, f"{value.name}_by_row"
    kind = value.type
    if kind.HasField("sequence_type"):
        element = kind.sequence_type.elem_type.tensor_type.elem_type
        node = onnx.helper.make_node("ConcatFromSequence", [inner], [outer], axis=1, new_axis=1)
    else:
        element = kind.tensor_type.elem_type
        node = onnx.helper.make_node("Transpose", [inner], [outer], perm=[1, 0, 2])
    model.graph.node.append(node)
    value.CopyFrom(onnx.helper.make_tensor_value_info(outer, element, [None, None, None]))


def _dense(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _columns(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return scores if scores.ndim > 1 else np.column_stack([-scores, scores])


def _probabilities(result: Any) -> np.ndarray[Any, Any]:
    if isinstance(result, list):
        widths = {part.shape[1] for part in result}
        if len(widths) > 1:
            raise RefusedJob("its outputs have different numbers of classes", "Save one estimator for each output.")
        return np.stack(result, axis=1)
    return np.asarray(result)
