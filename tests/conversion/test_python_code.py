"""The generated predict.py of estimators without an ONNX form answers like its estimator, in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from turnout.conversion.converters.exchange import as_objects, read_arrays
from turnout.conversion.converters.sklearn_model import main
from turnout.conversion.converters.start import RefusedJob

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
NAMES = np.array(["low", "middle", "high"])[CLASSES]
TEXTS = [f"{word} {number}" for word in ("good", "bad") for number in range(30)]

OWN = """
from sklearn.base import BaseEstimator, RegressorMixin


class Capped(RegressorMixin, BaseEstimator):
    def __init__(self, cap=1.0):
        self.cap = cap

    def fit(self, x, y):
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x):
        return x.sum(axis=1).clip(max=self.cap)
"""

ESTIMATORS: dict[str, tuple[Any, Any, Any]] = {
    "classes-as-texts": (make_pipeline(StandardScaler(), LogisticRegression()), X, NAMES),
    "two-classes": (LinearSVC(), X, CLASSES > 0),
    "three-scores": (LinearSVC(), X, CLASSES),
    "several-targets": (RandomForestClassifier(5), X, np.column_stack([CLASSES > 0, CLASSES > 1]).astype(int)),
    "search": (GridSearchCV(Ridge(), {"alpha": [1, 2]}), X, X @ [1, 2, 3]),
    "two-numbers": (Ridge(), X, X[:, :2]),
    "hashed-words": (make_pipeline(HashingVectorizer(n_features=64), LogisticRegression()), TEXTS, [0] * 30 + [1] * 30),
    "clusters": (KMeans(3, n_init=1), X, None),
    "outliers": (IsolationForest(n_estimators=5), X, None),
    "transformer": (FunctionTransformer(np.cbrt), X, None),
}


def job_of(path: Path, out: Path, **others: Any) -> dict[str, Any]:
    given = {"samples": None, "trust_pickle": True, "trusted_types": [], "runtime": "python", "modules": []}
    return {"path": str(path), "out": str(out), **given, **others}


def run_written(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the generated predict.py; texts are bytes, as in a request."""
    spec = importlib.util.spec_from_file_location("predict_of_test", folder / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load(folder)
    feed = {}
    for name, values in inputs.items():
        feed[name] = values
        if values.dtype == object:
            feed[name] = np.array([text.encode() for text in values.ravel()], dtype=object).reshape(values.shape)
    answers: dict[str, Any] = module.predict(feed)
    return answers


def check(out: Path, signature: dict[str, Any]) -> None:
    answers, expected = run_written(out / "python", read_arrays(out / "inputs")), read_arrays(out / "expected")
    assert list(answers) == list(expected) == list(signature["outputs"])
    for name, want in expected.items():
        have = as_objects(answers[name])
        assert have.shape == want.shape
        assert (have == want).all() if want.dtype == object else np.allclose(have, want, equal_nan=True)
        kinds = {"BYTES": "O", "INT64": "i", "FP64": "f"}
        assert have.dtype.kind == kinds[signature["outputs"][name]["datatype"]]
        assert signature["outputs"][name]["shape"][1:] == list(want.shape[1:])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_generated_code_answers_like_its_estimator(name: str, tmp_path: Path) -> None:
    estimator, x, y = ESTIMATORS[name]
    joblib.dump(estimator.fit(x, y), tmp_path / "model.joblib")
    out = tmp_path / "out"
    out.mkdir()
    done = main(job_of(tmp_path / "model.joblib", out), lambda _: None)
    check(out, done["signature"])
    assert [line.partition("==")[0] for line in done["requirements"]] == ["scikit-learn", "joblib"]


def test_columns_of_a_frame_are_inputs_with_their_datatypes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"size of it": X[:, 0], "city": np.array(["Rom", "São Paulo", "Oslo"])[CLASSES]})
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = ColumnTransformer([("n", StandardScaler(), ["size of it"]), ("t", texts, ["city"])])
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(frame, NAMES), tmp_path / "model.joblib")
    out = tmp_path / "out"
    out.mkdir()
    done = main(job_of(tmp_path / "model.joblib", out), lambda _: None)
    assert {name: row["datatype"] for name, row in done["signature"]["inputs"].items()} == {
        "size of it": "FP64",
        "city": "BYTES",
    }
    assert [line.partition("==")[0] for line in done["requirements"]] == ["scikit-learn", "joblib", "pandas"]
    check(out, done["signature"])


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "alone": lambda inner: inner,
    "searched": lambda inner: GridSearchCV(inner, {"max_iter": [4, 5]}, cv=2),
    "calibrated": lambda inner: CalibratedClassifierCV(inner, cv=2),
    "in a vote": lambda inner: VotingClassifier([("histogram", inner)], voting="soft"),
}
"""Estimators that show their rows to a histogram of gradient boosting, which keeps the categories of a frame."""


@pytest.mark.parametrize(("wrapper", "known"), [*((name, ["Oslo", "Rom"]) for name in WRAPPED), ("alone", [10, 20])])
def test_categories_of_a_frame_are_drawn_without_samples(wrapper: str, known: list[Any], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    places = np.array([*known, known[0]], dtype=object)[CLASSES]
    frame = pandas.DataFrame({"size": X[:, 0], "place": pandas.Categorical(places, categories=known)})
    inner = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, categorical_features="from_dtype")
    joblib.dump(WRAPPED[wrapper](inner).fit(frame, NAMES), tmp_path / "model.joblib")
    out = tmp_path / "out"
    out.mkdir()
    done = main(job_of(tmp_path / "model.joblib", out), lambda _: None)
    datatype = "BYTES" if isinstance(known[0], str) else "INT64"
    assert {name: row["datatype"] for name, row in done["signature"]["inputs"].items()} == {
        "size": "FP64",
        "place": datatype,
    }
    groups = {group["name"]: group["rows"] for group in done["groups"]}
    assert {"unseen categories", "missing values"} <= groups.keys()
    assert groups["around the thresholds of trees"] >= 20
    drawn = read_arrays(out / "inputs")
    assert set(drawn["place"][:200].ravel().tolist()) == set(known)
    edges = drawn["size"][200 : 200 + groups["around the thresholds of trees"]]
    assert np.abs(edges).max() < 4  # thresholds of this column: the trees see the categories first
    check(out, done["signature"])


@pytest.mark.parametrize(("name", "known"), [("xgboost", "model.ubj"), ("lightgbm", "model.txt"), ("own.part", "own")])
def test_pickle_of_another_library_names_the_remedy(
    name: str, known: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pkl").write_bytes(b"c" + name.encode() + b"\nModel\n.")
    for module in ("xgboost", "lightgbm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RefusedJob, match="needs the module") as caught:
        main(job_of(tmp_path / "model.pkl", tmp_path, command="turnout add a v1 m --runtime python"), lambda _: None)
    assert known in caught.value.hint
    own = "turnout add a v1 m --runtime python --module own.py"
    assert (own in caught.value.hint) == (name == "own.part")


@pytest.mark.parametrize("suffix", [".skops", ".joblib"])
def test_estimator_of_a_custom_class_needs_its_module(suffix: str, tmp_path: Path) -> None:
    module = tmp_path / "own_estimators.py"
    module.write_text(OWN)
    spec = importlib.util.spec_from_file_location("own_estimators", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["own_estimators"] = loaded
    path = tmp_path / f"model{suffix}"
    try:
        spec.loader.exec_module(loaded)
        (skops.io.dump if suffix == ".skops" else joblib.dump)(loaded.Capped().fit(X, None), path)
    finally:
        del sys.modules["own_estimators"]
    out = tmp_path / "out"
    out.mkdir()
    trusted = {"trusted_types": ["own_estimators.Capped"]}
    with pytest.raises(RefusedJob, match="needs the module 'own_estimators'") as caught:
        main(job_of(path, out, **trusted), lambda _: None)
    assert "--module own_estimators.py" in caught.value.hint
    try:
        done = main(job_of(path, out, **trusted, modules=[str(module)]), lambda _: None)
        kept = sys.modules.pop("own_estimators")
        sys.path.insert(0, str(out / "python"))
        check(out, done["signature"])
        assert "own_estimators" in sys.modules
        assert sys.modules["own_estimators"] is not kept
    finally:
        sys.path.remove(str(out / "python"))
        sys.modules.pop("own_estimators", None)


def test_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(RefusedJob, match=r"broken\.py imports 'nothing_of_this_name'"):
        main(job_of(tmp_path / "model.joblib", tmp_path, modules=[str(tmp_path / "broken.py")]), lambda _: None)
    sys.modules.pop("broken", None)
