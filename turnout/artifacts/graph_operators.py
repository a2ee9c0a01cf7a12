"""The operators of an ONNX graph, and whether the cost of a run depends on the values that a client sends.

A graph that loops as often as an input says, or makes a tensor as large as an input says, takes microseconds for one
request and hours for the next one of the same size. The first measurement predicts nothing about the second, so such a
graph never runs where it would block others. Source: "Operators.md" and "Operators-ml.md" of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.artifacts.onnx_file import text_of

if TYPE_CHECKING:
    import onnx

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_ALWAYS = frozenset({
    "Bernoulli", "Compress", "ConstantOfShape", "Expand", "If", "ImageDecoder", "Loop", "MaxUnpool", "Multinomial",
    "NonMaxSuppression", "NonZero", "Optional", "OptionalGetElement", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Range", "RegexFullMatch", "Resize", "Scan", "SequenceMap", "StringSplit",
    "Tile", "Unique", "Upsample",
})  # fmt: skip
"""Operators whose cost depends, or may depend, on values."""

_KNOWN_OTHERS = frozenset({
    "BiasGelu", "DynamicQuantizeMatMul", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu",
    "LayerNormalization", "MatMulIntegerToFloat", "QGemm", "QLinearAdd", "QLinearConcat",
    "QLinearGlobalAveragePool", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QuickGelu",
    "SkipLayerNormalization", "Tokenizer",
})  # fmt: skip
"""Operators of com.microsoft whose cost depends only on the size of their inputs; nothing is known about all others."""

_UNLESS_CONSTANT: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1,),
    "Conv": (1,),  # a kernel of size 0 never ends
    "ConvInteger": (1,),
    "ConvTranspose": (1,),
    "DFT": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MelWeightMatrix": (0, 1, 2),
    "OneHot": (1,),
    "Pad": (1,),
    "STFT": (1, 3),
}
"""Operators whose cost depends on the values of these inputs, unless the inputs are constants of the graph."""


@dataclass(frozen=True, slots=True)
class GraphOperators:
    """The operators of a graph.

    Args:
        names: each operator once, sorted: `Abs`, `ai.onnx.ml:Scaler`; including those of subgraphs and functions.
        follows_values: whether the cost of a run may depend on the values of its inputs, not only on their number.
    """

    names: tuple[str, ...]
    follows_values: bool


UNKNOWN_OPERATORS = GraphOperators((), follows_values=True)
"""The operators of a graph that was not read."""


def operators_of(model: onnx.ModelProto) -> GraphOperators:
    """Return the operators of a model that was read."""
    functions = {(text_of(function.domain), text_of(function.name)) for function in model.functions}
    names: set[str] = set()
    follows_values = False
    for node, constants in _nodes_of(model):
        domain, operator = text_of(node.domain), text_of(node.op_type)
        if (domain, operator) in functions:
            continue  # the nodes in the function's body are listed instead
        names.add(operator if domain in {"", "ai.onnx"} else f"{domain}:{operator}")
        follows_values = follows_values or _follows_values(node, domain, operator, constants)
    return GraphOperators(tuple(sorted(names)), follows_values)


def _follows_values(node: onnx.NodeProto, domain: str, operator: str, constants: frozenset[str]) -> bool:
    if domain not in _STANDARD_DOMAINS:
        return domain != "com.microsoft" or operator not in _KNOWN_OTHERS
    if operator in _ALWAYS:
        return True
    sizes = _UNLESS_CONSTANT.get(operator, ())
    given = [node.input[index] for index in sizes if index < len(node.input) and node.input[index]]
    return any(name not in constants for name in given)


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of the graph, of its subgraphs and of functions."""
    for node, _ in _nodes_of(model):
        yield node


def _nodes_of(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    """Yield every node with the names that are constants at its place, including subgraphs and functions."""
    yield from _graph_nodes(model.graph, frozenset())
    for function in model.functions:
        yield from _with_subgraphs(function.node, _constants(function.node, frozenset()))


def _graph_nodes(graph: onnx.GraphProto, outside: frozenset[str]) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    # an initializer that is also an input can be overridden by a request
    inputs = {value.name for value in graph.input}
    fixed = {tensor.name for tensor in graph.initializer if tensor.name not in inputs}
    yield from _with_subgraphs(graph.node, _constants(graph.node, (outside - inputs) | fixed))


def _with_subgraphs(nodes: object, constants: frozenset[str]) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    for node in nodes:  # type: ignore[attr-defined]  # protobuf's container
        yield node, constants
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else []
            for graph in (*graphs, *attribute.graphs):
                yield from _graph_nodes(graph, constants)


def _constants(nodes: object, known: frozenset[str]) -> frozenset[str]:
    """Return the known constants and those computed from them, such as dequantized weights."""
    constants = {*known, ""}
    for node in nodes:  # type: ignore[attr-defined]  # protobuf's container
        if constants.issuperset(node.input) and not any(_has_graph(attribute) for attribute in node.attribute):
            constants.update(node.output)
    return frozenset(constants)


def _has_graph(attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute is a subgraph, which reads names that are not among its node's inputs."""
    return attribute.HasField("g") or bool(attribute.graphs)
