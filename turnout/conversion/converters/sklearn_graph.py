"""Corrects skl2onnx's graphs: trees in float64, attributes of plain numbers, words split as in Python.

skl2onnx writes the thresholds of trees as float32, even for float64 inputs, so values between a threshold and its
nearest float32 take the wrong branch. Version 3 of the operators has attributes for float64.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import TensorProto, helper

TREES = {"TreeEnsembleClassifier": 1, "TreeEnsembleRegressor": 0}
"""Operator -> the output that is float32 for all inputs."""

FLOATS = {"FP64": TensorProto.DOUBLE, "FP32": TensorProto.FLOAT}

DOUBLES = ("base_values", "nodes_hitrates", "nodes_values", "class_weights", "target_weights")

EXACT = "nodes_values_in_float64"
"""Attribute that keeps the thresholds before skl2onnx rounds them."""

NARROW = "input_in_float32"
"""Attribute that says whether the trees convert their inputs to float32 first, as scikit-learn's trees do."""

LEAVES = "shares_of_leaves"
"""Attribute with the tree, the node and the shares of the classes of each leaf of a forest."""

SHARES = "proba_output"
"""skl2onnx's name for the shares of the classes in the leaves of a tree with several targets. It casts them to BOOL, so
every share becomes 1.
"""

SUBLINEAR = "plus1logged"
"""skl2onnx's name for the logarithm of a vectorizer with `sublinear_tf`."""

WORD = r"[\p{L}\p{N}_]"
"""Python's `\\w` for RE2, whose own `\\w` is limited to ASCII."""


@contextmanager
def patched_nodes(floats: str) -> Iterator[None]:
    """Patch skl2onnx for the duration of the block, so that it writes corrected nodes."""
    from skl2onnx.common import tree_ensemble
    from skl2onnx.common._container import ModelComponentContainer

    add_node, add_tree_node = ModelComponentContainer.add_node, tree_ensemble.add_node
    recording = [True]

    def patched(self: Any, op_type: str, inputs: Any, outputs: Any, *rest: Any, **attributes: Any) -> None:
        _add_node(add_node, floats, self, op_type, inputs, outputs, rest, attributes)

    def patched_tree(attributes: dict[str, Any], *rest: Any, **named: Any) -> None:
        _add_tree_node(add_tree_node, attributes, rest, named, is_recording=recording[0])

    ModelComponentContainer.add_node = patched
    tree_ensemble.add_node = patched_tree
    try:
        with _missing_values(tree_ensemble.add_tree_to_attribute_pairs, recording), _trees_of_several_targets():
            yield
    finally:
        ModelComponentContainer.add_node = add_node
        tree_ensemble.add_node = add_tree_node


def _add_node(
    given: Any,
    floats: str,
    container: Any,
    op_type: str,
    inputs: Any,
    outputs: Any,
    rest: tuple[Any, ...],
    attributes: dict[str, Any],
) -> None:
    """Add one node of the graph, or the nodes that replace it. `given` is skl2onnx's own function."""
    exact, is_narrow = attributes.pop(EXACT, None), attributes.pop(NARROW, False)
    leaves = attributes.pop(LEAVES, None)
    attributes = {name: plain(value) for name, value in attributes.items()}
    if op_type == "Imputer" and "imputed_value_floats" in attributes:
        _replace(container, given, inputs, outputs, attributes, FLOATS[floats])
        return
    if op_type == "Cast" and attributes.get("to") == TensorProto.BOOL and _first(inputs).startswith(SHARES):
        given(container, "Identity", inputs, outputs, name=attributes["name"], op_version=13)
        return
    if op_type == "Log" and _first(outputs).startswith(SUBLINEAR):
        _count_sublinearly(container, given, inputs, outputs)
        return
    names = [outputs] if isinstance(outputs, str) else list(outputs)
    if leaves is not None and op_type == "TreeEnsembleClassifier":
        attributes, names = _count_votes(container, given, attributes, leaves, names, FLOATS[floats])
        outputs = names
    if floats != "FP64" or (op_type not in TREES and op_type != "SVMRegressor"):
        given(container, op_type, inputs, outputs, *rest, **attributes)
        return
    at = TREES.get(op_type, 0)
    wide, names[at] = names[at], f"{names[at]}_float32"
    source = inputs if isinstance(inputs, str) else inputs[0]
    cast = f"{source}_for_{names[at]}"
    if is_narrow:
        given(container, "Cast", source, f"{cast}_narrow", name=f"{cast}_first", op_version=13, to=TensorProto.FLOAT)
        source = f"{cast}_narrow"
    kind = TensorProto.DOUBLE if op_type in TREES else TensorProto.FLOAT  # no SVMRegressor accepts float64
    given(container, "Cast", source, cast, name=f"{cast}_cast", op_version=13, to=kind)
    if op_type in TREES:
        attributes = doubled(attributes if exact is None else {**attributes, "nodes_values": exact})
    given(container, op_type, [cast], names, *rest, **attributes)
    given(container, "Cast", names[at], wide, name=f"{wide}_cast", op_version=13, to=TensorProto.DOUBLE)


def _add_tree_node(
    given: Any, attributes: dict[str, Any], rest: tuple[Any, ...], named: dict[str, Any], *, is_recording: bool
) -> None:
    """Add one node of a tree, and keep the values that skl2onnx rounds or divides."""
    is_narrow = bool(named.get("adjust_threshold_for_sklearn"))
    if is_narrow:
        named = {**named, "dtype": np.float32}
    given(attributes, *rest, **named)
    if not is_recording:
        return
    is_classifier, tree_id, node_id, mode, weights, are_counts = (rest[at] for at in (0, 1, 3, 5, 9, 11))
    if is_classifier and are_counts and mode == "LEAF":
        shares = np.ravel(weights) / (np.sum(weights) or 1.0)
        attributes.setdefault(LEAVES, []).append((tree_id, node_id, shares.tolist()))
    if is_narrow:
        attributes[NARROW] = True
    attributes.setdefault(EXACT, []).append(attributes["nodes_values"][-1])


@contextmanager
def _missing_values(given: Any, recording: list[bool]) -> Iterator[None]:
    """Patch skl2onnx for the duration of the block, so that missing values take the same branch as in scikit-learn.

    skl2onnx 1.20 sends all of them to the right.

    Args:
        given: skl2onnx's function.
        recording: whether exact thresholds are kept; skl2onnx's isolation forests accept no other attribute.
    """

    def make(module: str) -> Any:
        def add_tree(attributes: dict[str, Any], is_classifier: Any, tree: Any, *rest: Any, **named: Any) -> None:
            recording[0] = not module.endswith("isolation_forest")
            given(attributes, is_classifier, tree, *rest, **named)
            recording[0] = True
            directions = getattr(tree, "missing_go_to_left", None)
            if directions is not None:
                attributes["nodes_missing_value_tracks_true"][-tree.node_count :] = [int(left) for left in directions]

        return add_tree

    name = "add_tree_to_attribute_pairs"
    users = [row for row in list(sys.modules.values()) if getattr(row, name, None) is given]
    for module in users:
        setattr(module, name, make(module.__name__))
    try:
        yield
    finally:
        for module in users:
            setattr(module, name, given)


@contextmanager
def _trees_of_several_targets() -> Iterator[None]:
    """Patch skl2onnx for the duration of the block, so that trees of several targets branch as in scikit-learn.

    skl2onnx 1.20 compares these trees' inputs with thresholds that it rounds to the nearest float32, and sends all
    missing values to the right.
    """
    from skl2onnx.common.tree_ensemble import sklearn_threshold
    from skl2onnx.operator_converters import decision_tree

    populate = decision_tree.populate_tree_attributes

    def patched(model: Any, name: str, dtype: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = populate(model, name, dtype)
        attributes[EXACT], attributes[NARROW] = list(attributes["nodes_values"]), True
        attributes["nodes_values"] = [
            float(sklearn_threshold(value, np.float32, "BRANCH_LEQ")) for value in attributes["nodes_values"]
        ]
        directions = getattr(model.tree_, "missing_go_to_left", None)
        if directions is not None:
            attributes["nodes_missing_value_tracks_true"] = [int(left) for left in directions]
        return attributes

    decision_tree.populate_tree_attributes = patched
    try:
        yield
    finally:
        decision_tree.populate_tree_attributes = populate


def _count_votes(
    container: Any, given: Any, attributes: dict[str, Any], leaves: list[Any], names: list[str], kind: int
) -> tuple[dict[str, Any], list[str]]:
    """Sum the trees' votes and divide once, as scikit-learn does, so that ties remain ties.

    skl2onnx divides each leaf first, so the votes of five trees of ten do not sum to exactly a half. The label is the
    first of the classes with the most votes.

    Returns:
        The attributes, and the names of the ensemble's own outputs.
    """
    label, probabilities = names
    rows = [(tree, node, at, share) for tree, node, shares in leaves for at, share in enumerate(shares)]
    trees, nodes, ids, shares = (list(column) for column in zip(*rows, strict=True))
    attributes = {
        **attributes,
        "class_treeids": trees,
        "class_nodeids": nodes,
        "class_ids": ids,
        "class_weights": shares,
    }
    votes, count = f"{probabilities}_votes", f"{probabilities}_trees"
    container.add_initializer(count, kind, [1], [float(len(set(attributes["nodes_treeids"])))])
    given(container, "Div", [votes, count], probabilities, name=f"{votes}_div", op_version=13)
    most = f"{probabilities}_most"
    given(container, "ArgMax", votes, most, name=f"{most}_argmax", op_version=13, axis=1, keepdims=0)
    classes = attributes.get("classlabels_int64s")
    texts = [text.encode() if isinstance(text, str) else text for text in attributes.get("classlabels_strings", ())]
    element = TensorProto.STRING if classes is None else TensorProto.INT64
    values = texts if classes is None else classes
    container.add_initializer(f"{label}_classes", element, [len(values)], values)
    given(container, "Gather", [f"{label}_classes", most], label, name=f"{label}_gather", op_version=13, axis=0)
    return attributes, [f"{label}_unused", votes]


def _first(names: Any) -> str:
    return names if isinstance(names, str) else str(names[0])


def _count_sublinearly(container: Any, given: Any, inputs: Any, output: Any) -> None:
    """Write `1 + log(count)` for each word that occurs, as scikit-learn does with `sublinear_tf`.

    skl2onnx 1.20 writes `log(1 + count)`. The input is `1 + count`, and counts are whole numbers.
    """
    source, target = _first(inputs), _first(output)
    kind = next(row.data_type for row in reversed(container.initializers) if row.name.startswith("ones"))
    for name, value in (("one", 1.0), ("zero", 0.0)):
        container.add_initializer(f"{target}_{name}", kind, [1], [value])
    steps = (
        ("Sub", [source, f"{target}_one"], f"{target}_counts", 13),
        ("Max", [f"{target}_counts", f"{target}_one"], f"{target}_at_least_one", 13),
        ("Log", [f"{target}_at_least_one"], f"{target}_logarithms", 13),
        ("Add", [f"{target}_logarithms", f"{target}_one"], f"{target}_weights", 13),
        ("Greater", [f"{target}_counts", f"{target}_zero"], f"{target}_occurs", 13),
        ("Where", [f"{target}_occurs", f"{target}_weights", f"{target}_zero"], target, 9),
    )
    for operator, names, result, version in steps:
        given(container, operator, names, result, name=f"{result}_{operator}", op_version=version)


def _replace(container: Any, given: Any, inputs: Any, output: Any, attributes: dict[str, Any], kind: int) -> None:
    """Replace missing values without the operator Imputer, which does not support float64."""
    source = inputs if isinstance(inputs, str) else inputs[0]
    target = output if isinstance(output, str) else output[0]
    fill = [float(value) for value in attributes["imputed_value_floats"]]
    missing = float(attributes.get("replaced_value_float", np.nan))
    container.add_initializer(f"{target}_fill", kind, [1, len(fill)], fill)
    if np.isnan(missing):
        given(container, "IsNaN", source, f"{target}_is_missing", name=f"{target}_isnan", op_version=13)
    else:
        container.add_initializer(f"{target}_missing", kind, [1], [missing])
        names = [source, f"{target}_missing"]
        given(container, "Equal", names, f"{target}_is_missing", name=f"{target}_equal", op_version=13)
    names = [f"{target}_is_missing", f"{target}_fill", source]
    given(container, "Where", names, target, name=f"{target}_where", op_version=9)


def plain(value: Any) -> Any:
    """Convert numbers to Python's types: onnx 1.23 rejects lists that mix them with numpy's."""
    if isinstance(value, list | tuple):
        items = [item.item() if isinstance(item, np.generic) else item for item in value]
        return [int(item) if isinstance(item, bool) else item for item in items]
    return value


def doubled(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a tree ensemble in float64, which version 3 of the operators supports."""
    result = dict(attributes)
    for name in DOUBLES:
        if name in result and len(result[name]):
            values = np.asarray(result.pop(name), dtype=np.float64)
            result[f"{name}_as_tensor"] = helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values)
        else:
            result.pop(name, None)
    result["op_version"] = 3
    return result


def token_pattern(vectorizer: Any) -> dict[str, Any]:
    """The option that makes skl2onnx split texts like the vectorizer; empty for other analyzers."""
    if vectorizer.analyzer != "word" or vectorizer.tokenizer is not None or vectorizer.token_pattern is None:
        return {}
    pattern = vectorizer.token_pattern
    if pattern == r"(?u)\b\w\w+\b":
        return {"tokenexp": f"{WORD}{{2,}}"}
    pattern = re.sub(r"^\(\?u\)", "", pattern)
    pattern = re.sub(r"^\\b|\\b$", "", pattern)
    return {"tokenexp": pattern.replace(r"\w", WORD)}
