"""The cultivar of a wine from thirteen values of its analysis: five nearest neighbors, saved with skops.

    python -m examples.wine.train [FOLDER]

Data: scikit-learn's `load_wine`. The script writes model.skops and examples.json to the folder, by default
`examples/wine/models/wine/v1`; predict.py is there already. skops writes a different file each time; the estimator in
it is the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import orjson
import skops.io
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.writing import example, protocol_request

SEED = 20240501
VERSION = Path(__file__).resolve().parent / "models" / "wine" / "v1"


def main(folder: Path) -> None:
    analyses, cultivars = load_wine(return_X_y=True)
    split = train_test_split(analyses, cultivars, test_size=0.3, random_state=SEED, stratify=cultivars)
    train_analyses, test_analyses, train_cultivars, test_cultivars = split
    classifier = make_pipeline(StandardScaler(), KNeighborsClassifier(5)).fit(train_analyses, train_cultivars)
    print(f"accuracy {classifier.score(test_analyses, test_cultivars):.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(classifier, folder / "model.skops")
    rows = test_analyses[:3]
    outputs = {"label": classifier.predict(rows), "probabilities": classifier.predict_proba(rows)}
    examples = [
        example("three-wines", protocol_request({"analysis": rows}), outputs),
        example(
            "short-form",
            {"inputs": {"analysis": rows[:1].tolist()}},
            {name: np.asarray(values[:1]) for name, values in outputs.items()},
        ),
    ]
    (folder / "examples.json").write_bytes(orjson.dumps(examples, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the sample model wine and write it.")
    parser.add_argument("folder", nargs="?", type=Path, default=VERSION)
    main(parser.parse_args().folder)
