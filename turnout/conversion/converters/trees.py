"""Converts boosted trees, node by node, to one ONNX operator: `TreeEnsemble` of ai.onnx.ml 5.

Existing converters lag behind the boosting libraries and silently get `base_score`, missing values, categories and
float64 thresholds wrong. The libraries' own dumps contain all of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .features import Feature

LEQ, LESS, EQUAL, MEMBER = 0, 1, 4, 6
"""`TreeEnsemble`'s numbers for the modes of a node."""

KINDS = {"FP64": TensorProto.DOUBLE, "FP32": TensorProto.FLOAT}
DTYPES = {"FP64": np.float64, "FP32": np.float32}

TREES_OPSET = 5


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf: the weight that it adds to each of its targets."""

    weights: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node, which compares a column.

    Args:
        column: the column's number.
        mode: LEQ, LESS or MEMBER.
        value: the threshold.
        members: the codes of categories for which the comparison is true.
        missing: whether the comparison is true for a missing value.
        true: the child if the comparison is true.
        false: the other child.
    """

    column: int
    mode: int
    value: float
    members: tuple[float, ...]
    missing: bool
    true: Split | Leaf
    false: Split | Leaf


@dataclass(slots=True)
class Ensemble:
    """The attributes of the operator, filled tree by tree."""

    targets: int
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    true_leaves: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    false_leaves: list[int] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, root: Split | Leaf) -> None:
        """Add one tree. A tree of a single leaf becomes a split with that leaf on both sides."""
        for part in by_target(root):
            is_leaf = isinstance(part, Leaf)
            self.roots.append(len(self.features))
            self._add(Split(0, LEQ, 0.0, (), missing=False, true=part, false=part) if is_leaf else part)

    def _add(self, split: Split | Leaf) -> int:
        assert isinstance(split, Split)
        at = len(self.features)
        self.features.append(split.column)
        self.modes.append(split.mode)
        self.splits.append(split.value)
        self.missing.append(int(split.missing))
        for column in (self.true_ids, self.true_leaves, self.false_ids, self.false_leaves):
            column.append(0)
        if split.mode == MEMBER:
            self.members += [*split.members, np.nan]
        sides = (("true", split.true), ("false", split.false))
        for side, child in sides:
            ids, leaves = (self.true_ids, self.true_leaves) if side == "true" else (self.false_ids, self.false_leaves)
            if isinstance(child, Leaf):
                ((target, weight),) = child.weights.items()
                ids[at], leaves[at] = len(self.leaf_targets), 1
                self.leaf_targets.append(target)
                self.leaf_weights.append(weight)
            else:
                ids[at] = self._add(child)
        return at

    def node(self, source: str, target: str, floats: str) -> onnx.NodeProto:
        """The operator as a node of a graph."""
        dtype, kind = DTYPES[floats], KINDS[floats]

        def tensor(name: str, values: Sequence[float]) -> onnx.TensorProto:
            return helper.make_tensor(name, kind, [len(values)], np.asarray(values, dtype=dtype))

        attributes: dict[str, Any] = {
            "aggregate_function": 1,
            "post_transform": 0,
            "n_targets": self.targets,
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_splits": tensor("nodes_splits", self.splits),
            "nodes_modes": helper.make_tensor(
                "nodes_modes", TensorProto.UINT8, [len(self.modes)], np.array(self.modes, np.uint8)
            ),
            "nodes_missing_value_tracks_true": self.missing,
            "nodes_truenodeids": self.true_ids,
            "nodes_trueleafs": self.true_leaves,
            "nodes_falsenodeids": self.false_ids,
            "nodes_falseleafs": self.false_leaves,
            "leaf_targetids": self.leaf_targets,
            "leaf_weights": tensor("leaf_weights", self.leaf_weights),
        }
        if self.members:
            attributes["membership_values"] = tensor("membership_values", self.members)
        return helper.make_node("TreeEnsemble", [source], [target], domain="ai.onnx.ml", **attributes)


def by_target(root: Split | Leaf) -> list[Split | Leaf]:
    """Split a tree whose leaves have several targets into one tree for each target."""
    used = sorted(_targets(root))
    if len(used) <= 1:
        return [root]
    return [_only(root, target) for target in used]


def _targets(node: Split | Leaf) -> set[int]:
    if isinstance(node, Leaf):
        return set(node.weights)
    return _targets(node.true) | _targets(node.false)


def _only(node: Split | Leaf, target: int) -> Split | Leaf:
    if isinstance(node, Leaf):
        return Leaf({target: node.weights[target]})
    sides = (_only(node.true, target), _only(node.false, target))
    return Split(node.column, node.mode, node.value, node.members, node.missing, *sides)


@dataclass(slots=True)
class GraphBuilder:
    """Collects the nodes and initializers of a graph."""

    floats: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, values: Any, kind: int | None = None) -> str:
        """Add an initializer and return its name. The default `kind` is the graph's float type."""
        array = np.asarray(values)
        element = kind if kind is not None else KINDS[self.floats]
        self.initializers.append(helper.make_tensor(name, element, array.shape, array.ravel().tolist()))
        return name

    def inputs(self, features: Sequence[Feature], matrix: str) -> tuple[str, list[onnx.ValueInfoProto]]:
        """Return the name of the matrix of all columns, with categories as codes, and the graph's inputs."""
        if matrix:
            value = helper.make_tensor_value_info(matrix, KINDS[self.floats], [None, len(features)])
            return matrix, [value]
        values, columns = [], []
        for at, feature in enumerate(features):
            element = TensorProto.STRING if feature.kind == "text" else KINDS[self.floats]
            if feature.kind == "int":
                element = TensorProto.INT64
            values.append(helper.make_tensor_value_info(feature.name, element, [None, 1]))
            columns.append(self._column(feature, at))
        return self.add("Concat", columns, "joined_columns", axis=1), values

    def _column(self, feature: Feature, at: int) -> str:
        if feature.kind == "text":
            code = self.add(
                "LabelEncoder",
                [feature.name],
                f"column_{at}_code",
                domain="ai.onnx.ml",
                keys_strings=feature.categories,
                values_floats=[float(code) for code in range(len(feature.categories))],
                default_float=float("nan"),
            )
            return self.add("Cast", [code], f"column_{at}", to=KINDS[self.floats])
        if feature.kind == "int":
            return self.add("Cast", [feature.name], f"column_{at}", to=KINDS[self.floats])
        return feature.name

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, int], opsets: Mapping[str, int]
    ) -> onnx.ModelProto:
        """The model. `outputs` maps the name of each output to its element type."""
        values = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
        graph = helper.make_graph(self.nodes, "trees", inputs, values, self.initializers)
        versions = {"": min(opsets[""], 18), "ai.onnx.ml": TREES_OPSET}
        return helper.make_model(graph, opset_imports=[helper.make_opsetid(*row) for row in versions.items()])

    def classify(self, margins: str, link: str, labels: Sequence[int]) -> dict[str, int]:
        """Label and probabilities from margins, by a link: `sigmoid`, `softmax` or `ova`."""
        if link == "sigmoid":
            one = self.add("Sigmoid", [margins], "positive")
            zero = self.add("Sub", [self.constant("one", [1.0]), one], "negative")
            self.add("Concat", [zero, one], "probabilities", axis=1)
            above = self.add("Greater", [one, self.constant("half", [0.5])], "is_positive")
            index = self.add("Cast", [above], "index", to=TensorProto.INT64)
            flat = self.add("Reshape", [index, self.constant("flat", [-1], TensorProto.INT64)], "flat_index")
        else:
            if link == "softmax":
                self.add("Softmax", [margins], "probabilities", axis=1)
            else:
                self.add("Sigmoid", [margins], "probabilities")
            flat = self.add("ArgMax", [margins], "flat_index", axis=1, keepdims=0)
        self.add("Gather", [self.constant("classes", list(labels), TensorProto.INT64), flat], "label", axis=0)
        return {"label": TensorProto.INT64, "probabilities": KINDS[self.floats]}
