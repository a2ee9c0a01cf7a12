"""Answers with a scikit-learn estimator. It is saved with skops, which runs no code when it loads: never unpickle."""

import numpy as np
import skops.io

TRUSTED = ["sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree"]
"""The types beyond those that skops trusts; a file with any other one is refused."""

estimator = None


def load(folder):
    """Open the estimator, once, before the first request."""
    global estimator  # noqa: PLW0603 - what a version opens it keeps in its module
    estimator = skops.io.load(folder / "model.skops", trusted=TRUSTED)


def predict(inputs):
    """Return the cultivar of each wine and the share of its neighbors that are of each cultivar."""
    analysis = inputs["analysis"]
    probabilities = estimator.predict_proba(analysis)
    return {"label": estimator.classes_[np.argmax(probabilities, axis=1)], "probabilities": probabilities}
