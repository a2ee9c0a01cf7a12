"""Iris species from four measurements: v1 a logistic regression, v2 boosted trees.

    python -m examples.iris.train [FOLDER]

Data: scikit-learn's `load_iris`. Input `measurements` FP32 [-1,4]: sepal length, sepal width, petal length, petal
width, in cm. Outputs `label` INT64 [-1] (0 setosa, 1 versicolor, 2 virginica) and `probabilities` FP32 [-1,3].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.writing import OPSETS, example, folder_argument, plain, protocol_request, write_version

SEED = 20240501
FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 2.7, 4.2, 1.3], [6.7, 3.1, 5.6, 2.4]], np.float32)


def main(folder: Path) -> None:
    features, species = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    split = train_test_split(features, species, test_size=0.3, random_state=SEED, stratify=species)
    versions = {
        "v1": make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000)),
        "v2": GradientBoostingClassifier(n_estimators=30, max_depth=2, learning_rate=0.1, random_state=SEED),
    }
    for name, classifier in versions.items():
        train_features, test_features, train_species, test_species = split
        classifier.fit(train_features, train_species)
        print(f"iris {name}: {classifier.score(test_features, test_species):.3f} right of {len(test_species)} held out")
        write_version(folder / name, convert(classifier, name), examples_of(classifier))


def convert(classifier: Any, version: str) -> onnx.ModelProto:
    return to_onnx(
        classifier,
        name=f"iris_{version}",
        initial_types=[("measurements", FloatTensorType([None, 4]))],
        options={"zipmap": False},
        target_opset=OPSETS,
    )


def examples_of(classifier: Any) -> list[dict[str, Any]]:
    def outputs(rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        probabilities = classifier.predict_proba(rows).astype(np.float32)
        return {"label": classifier.predict(rows).astype(np.int64), "probabilities": probabilities}

    return [
        example("setosa", protocol_request({"measurements": FLOWERS[:1]}), outputs(FLOWERS[:1])),
        example("one-of-each", protocol_request({"measurements": FLOWERS}), outputs(FLOWERS)),
        example("short-form", {"inputs": {"measurements": plain(FLOWERS[1:])}}, outputs(FLOWERS[1:])),
        example("instances", {"instances": plain(FLOWERS[::2])}, outputs(FLOWERS[::2])),
    ]


if __name__ == "__main__":
    main(folder_argument("iris"))
