"""Probability of default from an application's fields: scaled numbers, one-hot categories, a logistic regression.

    python -m examples.credit.train [FOLDER]

Data: generated (applications.py). Inputs: one `[-1]` tensor per field, named and typed as in `FIELDS` there. Outputs:
`probability` of default, FP32 [-1], and `approved` BOOL [-1].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from examples.credit.applications import FIELDS, Columns, make_applications
from examples.writing import OPSETS, example, folder_argument, plain, protocol_request, write_version

SEED = 20240504
APPLICATIONS = 3000
TRAINED_ON = 2100
APPROVED_BELOW = 0.3
"""Applications with this probability of default or a higher one are rejected."""

TEXTS = {name for name, dtype in FIELDS.items() if dtype.kind == "O"}
NUMBERS = [position for position, name in enumerate(FIELDS) if name not in TEXTS]
CATEGORIES = [position for position, name in enumerate(FIELDS) if name in TEXTS]
ONNX_TYPES = {"i": TensorProto.INT64, "f": TensorProto.FLOAT, "b": TensorProto.BOOL, "O": TensorProto.STRING}
SHOWN: Columns = {
    "age": np.array([41, 23, 58]),
    "income": np.array([52000.0, 14500.0, 38000.0], np.float32),
    "amount": np.array([8000.0, 22000.0, 12000.0], np.float32),
    "duration_months": np.array([24, 60, 36]),
    "debt_ratio": np.array([0.125, 0.5, 0.25], np.float32),
    "owns_home": np.array([True, False, True]),
    "defaulted_before": np.array([False, True, False]),
    "employment": np.array(["employed", "unemployed", "astronaut"], dtype=object),
    "purpose": np.array(["home", "car", "other"], dtype=object),
}


def main(folder: Path) -> None:
    columns, defaulted = make_applications(APPLICATIONS, SEED)
    table = table_of(columns)
    fields = ColumnTransformer(
        [("numbers", StandardScaler(), NUMBERS), ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES)]
    )
    classifier = Pipeline([("fields", fields), ("weights", LogisticRegression(tol=1e-10, max_iter=1000))])
    classifier.fit(table[:TRAINED_ON], defaulted[:TRAINED_ON])
    area = roc_auc_score(defaulted[TRAINED_ON:], classifier.predict_proba(table[TRAINED_ON:])[:, 1])
    print(f"credit v1: area under the ROC curve {area:.3f} on {APPLICATIONS - TRAINED_ON} held out")
    write_version(folder / "v1", add_typed_fields(convert(classifier)), examples_of(classifier))


def table_of(columns: Columns) -> NDArray[Any]:
    """Return the columns side by side, as objects, in the order of `FIELDS`."""
    return np.stack([columns[name].astype(object) for name in FIELDS], axis=1)


def convert(classifier: Pipeline) -> onnx.ModelProto:
    """Return the pipeline as a graph whose numbers are all FP32 [-1,1]: scikit-learn's own view of the table."""
    kinds = {name: StringTensorType if name in TEXTS else FloatTensorType for name in FIELDS}
    return to_onnx(
        classifier,
        name="credit_v1",
        initial_types=[(f"{name}_column", kind([None, 1])) for name, kind in kinds.items()],
        options={"zipmap": False},
        target_opset=OPSETS,
    )


def add_typed_fields(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with each field in its own type and without the second dimension, and a decision as output."""
    before = []
    for name in FIELDS:
        typed = f"{name}_column" if name in TEXTS else f"{name}_typed"
        before.append(helper.make_node("Unsqueeze", [name, "second"], [typed]))
        if name not in TEXTS:
            before.append(helper.make_node("Cast", [typed], [f"{name}_column"], to=TensorProto.FLOAT))
    after = [
        helper.make_node("Gather", ["probabilities", "default"], ["probability"], axis=1),
        helper.make_node("Less", ["probability", "approved_below"], ["approved"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "second"),
        numpy_helper.from_array(np.array(1, np.int64), "default"),
        numpy_helper.from_array(np.array(APPROVED_BELOW, np.float32), "approved_below"),
    ]
    graph = helper.make_graph(
        [*before, *model.graph.node, *after],
        model.graph.name,
        [helper.make_tensor_value_info(name, ONNX_TYPES[dtype.kind], ["batch"]) for name, dtype in FIELDS.items()],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("approved", TensorProto.BOOL, ["batch"]),
        ],
        [*model.graph.initializer, *constants],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, producer_name="turnout", opset_imports=opsets)


def examples_of(classifier: Pipeline) -> list[dict[str, Any]]:
    def outputs(columns: Columns) -> dict[str, NDArray[Any]]:
        probability = classifier.predict_proba(table_of(columns))[:, 1].astype(np.float32)
        return {"probability": probability, "approved": probability < APPROVED_BELOW}

    first = {name: values[:1] for name, values in SHOWN.items()}
    rows = [{name: plain(values)[row] for name, values in SHOWN.items()} for row in range(3)]
    return [
        example("one-application", protocol_request(first), outputs(first)),
        example("three-applications", protocol_request(SHOWN), outputs(SHOWN)),
        example("short-form", {"inputs": {name: plain(values) for name, values in SHOWN.items()}}, outputs(SHOWN)),
        example("instances", {"instances": rows}, outputs(SHOWN)),
    ]


if __name__ == "__main__":
    main(folder_argument("credit"))
