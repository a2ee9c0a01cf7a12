from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.builders.graphs import (
    read_signature,
    value,
    write_external,
    write_graph,
    write_identity,
    write_zipmap_classifier,
)
from turnout.artifacts.onnx_file import KEEP_BELOW_BYTES, read_graph, tensors_of
from turnout.artifacts.onnx_signature import ArtifactError, signature_of
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

ONNXRUNTIME_TYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "BF16": "bfloat16", "FP32": "float",
    "FP64": "double", "BYTES": "string",
}  # fmt: skip


def model_of(
    inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], nodes: list[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes or [], "test", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options)


def seen_by_onnxruntime(tensors: list[onnxruntime.NodeArg]) -> list[tuple[str, str, list[int]]]:
    return [
        (tensor.name, tensor.type, [size if isinstance(size, int) else -1 for size in tensor.shape])
        for tensor in tensors
    ]


def reported(tensors: tuple[TensorSpec, ...]) -> list[tuple[str, str, list[int]]]:
    return [
        (tensor.name, f"tensor({ONNXRUNTIME_TYPES[tensor.datatype]})", list(tensor.shape or ())) for tensor in tensors
    ]


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(), (3,), ("batch", 4), (None, 0, "n + 1"), (-1, 2), None])
def test_signature_matches_onnxruntimes(
    tmp_path: Path, datatype: str, shape: tuple[int | str | None, ...] | None
) -> None:
    path = write_identity(tmp_path / "model.onnx", datatype, shape)
    signature = read_signature(path)
    session = open_session(path)
    assert reported(signature.inputs) == seen_by_onnxruntime(session.get_inputs())
    assert reported(signature.outputs) == seen_by_onnxruntime(session.get_outputs())


@pytest.mark.parametrize(
    ("declared", "shape", "names"),
    [
        ((), (), ()),
        ((2, 3), (2, 3), ()),
        ((None, 3), (-1, 3), ()),
        ((-1, 3), (-1, 3), ()),
        (("batch", 3), (-1, 3), ("batch", None)),
        (("2*floor(h/2) + w", "?", "?"), (-1, -1, -1), ("2*floor(h/2) + w", "?", "?")),
        ((0, 2), (0, 2), ()),
        (None, None, ()),
    ],
)
def test_free_dimensions_are_minus_one_and_keep_their_names(
    tmp_path: Path,
    declared: tuple[int | str | None, ...] | None,
    shape: tuple[int, ...] | None,
    names: tuple[str | None, ...],
) -> None:
    (tensor,) = read_signature(write_identity(tmp_path / "model.onnx", "FP32", declared)).inputs
    assert (tensor.shape, tensor.dimension_names) == (shape, names)


@given(names=st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
@settings(max_examples=50)
def test_names_are_kept_unchanged(names: list[str]) -> None:
    values = [value(name, "FP32", [1]) for name in names]
    model = model_of(values[1:], values[:1])
    signature = signature_of(onnx.ModelProto.FromString(model.SerializeToString()), "model.onnx")
    assert [tensor.name for tensor in (*signature.outputs, *signature.inputs)] == names


@pytest.mark.parametrize("ir_version", [3, 4, 9])
def test_input_with_an_initializer_is_optional_if_onnxruntime_accepts_it(tmp_path: Path, ir_version: int) -> None:
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    path = write_graph(
        tmp_path / "model.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", "FP32", ["n", 4]), value("w", "FP32", [4])],
        [value("y", "FP32", ["n", 4])],
        [weight],
        opset=8,
    )
    model = onnx.load(str(path))
    model.ir_version = ir_version
    onnx.save(model, str(path))
    session = open_session(path)
    inputs = read_signature(path).inputs
    assert [tensor.name for tensor in inputs if tensor.required] == [
        get_input.name for get_input in session.get_inputs()
    ]
    optional = [tensor.name for tensor in inputs if not tensor.required]
    assert optional == [
        get_overridable_initializer.name for get_overridable_initializer in session.get_overridable_initializers()
    ]


def test_input_with_a_sparse_initializer_is_optional() -> None:
    model = model_of([value("x", "FP32", [4]), value("w", "FP32", [4])], [value("y", "FP32", [4])])
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([2]), "i"), [4])
    )
    assert [tensor.required for tensor in signature_of(model, "model.onnx").inputs] == [True, False]


@pytest.mark.parametrize("labels", [(3, 5, -1), ("cat", "dög", "")])
def test_zipmap_is_reported_as_a_tensor_with_labels(tmp_path: Path, labels: tuple[int, ...] | tuple[str, ...]) -> None:
    signature = read_signature(write_zipmap_classifier(tmp_path / "model.onnx", labels))
    assert signature.outputs[1] == TensorSpec("probabilities", "FP32", (-1, 3), labels=labels)
    assert Signature.from_json(signature.to_json()) == signature


def type_of(kind: str) -> onnx.TypeProto:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    maps = helper.make_map_type_proto(TensorProto.INT64, tensor)
    return {
        "sequence": helper.make_sequence_type_proto(tensor),
        "sequence of maps": helper.make_sequence_type_proto(maps),
        "map": maps,
        "optional": helper.make_optional_type_proto(tensor),
        "sparse": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
        "nothing": onnx.TypeProto(),
        "undefined": helper.make_tensor_type_proto(TensorProto.UNDEFINED, [2]),
        "unknown": helper.make_tensor_type_proto(999, [2]),
        **{
            name: helper.make_tensor_type_proto(getattr(TensorProto, name), [2])
            for name in ("FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4", "COMPLEX64", "COMPLEX128")
        },
    }[kind]


@pytest.mark.parametrize(
    ("kind", "sentence", "hint"),
    [
        ("sequence", "a sequence of tensors", "ConcatFromSequence"),
        ("sequence of maps", "a sequence of maps that no ZipMap makes", "'zipmap': False"),
        ("map", "a map", "'zipmap': False"),
        ("optional", "an optional", "plain tensor"),
        ("sparse", "a sparse tensor", "plain tensor"),
        ("nothing", "declared without a type", "infer_shapes"),
        ("undefined", "declared without a type", "infer_shapes"),
        ("unknown", "a tensor of element type 999", "Cast"),
        ("FLOAT8E4M3FN", "a tensor of FLOAT8E4M3FN", "Cast"),
        ("FLOAT8E5M2", "a tensor of FLOAT8E5M2", "Cast"),
        ("INT4", "a tensor of INT4", "Cast"),
        ("UINT4", "a tensor of UINT4", "Cast"),
        ("COMPLEX64", "a tensor of COMPLEX64", "Cast"),
        ("COMPLEX128", "a tensor of COMPLEX128", "Cast"),
    ],
)
@pytest.mark.parametrize("place", ["input", "output"])
def test_unsupported_type_is_rejected_by_name(place: str, kind: str, sentence: str, hint: str) -> None:
    odd = helper.make_value_info("odd", type_of(kind))
    model = model_of([odd], [value("y", "FP32", [2])]) if place == "input" else model_of([], [odd])
    with pytest.raises(ArtifactError) as caught:
        signature_of(model, "model.onnx")
    assert caught.value.message == f"model.onnx: {place} `odd` is {sentence}: not served"
    assert hint in caught.value.hint


def test_all_rejected_types_are_reported_together() -> None:
    outputs = [helper.make_value_info(kind, type_of(kind)) for kind in ("sequence", "INT4", "UINT4")]
    with pytest.raises(ArtifactError) as caught:
        signature_of(model_of([], outputs), "model.onnx")
    assert all(f"output `{kind}`" in caught.value.message for kind in ("sequence", "INT4", "UINT4"))
    assert caught.value.hint.count("Cast") == 1


def test_model_without_outputs_is_rejected() -> None:
    with pytest.raises(ArtifactError, match="no outputs"):
        signature_of(model_of([value("x", "FP32", [1])], []), "model.onnx")


def test_output_without_a_type_gets_the_inferred_type() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["y"])]
    model = model_of([value("x", "FP32", ["n", 4])], [onnx.ValueInfoProto(name="y")], nodes)
    assert signature_of(model, "model.onnx").outputs == (TensorSpec("y", "INT64", (2,)),)


def test_foreign_domains_functions_and_subgraphs_are_accepted(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"])], "then", [], [value("inner", "FP32", None)]
    )
    twice = helper.make_function(
        "ours", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("If", ["on"], ["chosen"], then_branch=inner, else_branch=inner),
        helper.make_node("Twice", ["chosen"], ["doubled"], domain="ours"),
        helper.make_node("Secret", ["doubled"], ["y"], domain="com.nobody.knows"),
    ]
    model = model_of([value("x", "FP32", [2]), value("on", "BOOL", [])], [value("y", "FP32", [2])], nodes)
    model.functions.append(twice)
    model.opset_import.extend([helper.make_opsetid("ours", 1), helper.make_opsetid("com.nobody.knows", 7)])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    signature = read_signature(path)
    assert signature == Signature(
        (TensorSpec("x", "FP32", (2,)), TensorSpec("on", "BOOL", ())),
        (TensorSpec("y", "FP32", (2,)),),
        {"ir_version": "9", "opsets": "ai.onnx 17, com.nobody.knows 7, ours 1"},
    )


def test_metadata_is_short_and_lists_the_locales() -> None:
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["a"], case_change_action="LOWER"),
        helper.make_node("StringNormalizer", ["a"], ["b"], case_change_action="LOWER", locale="C"),
        helper.make_node("StringNormalizer", ["b"], ["y"], case_change_action="LOWER", locale="de_DE"),
    ]
    model = model_of([value("x", "BYTES", ["n"])], [value("y", "BYTES", ["n"])], nodes)
    model.producer_name, model.producer_version, model.doc_string = "maker", "1.2", "Line one\n\n  line two " * 50
    metadata = signature_of(model, "model.onnx").metadata
    assert metadata["producer"] == "maker 1.2"
    assert metadata["locales"] == "de_DE, en_US"
    assert metadata["description"].startswith("Line one line two Line one")
    assert len(metadata["description"]) == 200


def test_an_empty_locale_means_the_locale_of_the_environment() -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale="")
    model = model_of([value("x", "BYTES", ["n"])], [value("y", "BYTES", ["n"])], [node])
    assert signature_of(model, "model.onnx").metadata["locales"] == '"" (that of LANG)'


def emptied(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in tensors_of(model):
        for field in ("float_data", "raw_data", "string_data", "int64_data", "int32_data", "double_data"):
            if tensor.ByteSize() >= KEEP_BELOW_BYTES // 2:
                tensor.ClearField(field)
    return model


@pytest.mark.parametrize("raw", [False, True])
def test_graph_is_read_completely_except_for_data_of_large_tensors(tmp_path: Path, raw: bool) -> None:
    large = numpy_helper.from_array(np.ones(5000, np.float32), "large")
    if not raw:
        large = helper.make_tensor("large", TensorProto.FLOAT, [5000], [1.0] * 5000)
    texts = helper.make_tensor("texts", TensorProto.STRING, [1000], [b"a text"] * 1000)
    small = numpy_helper.from_array(np.arange(3), "small")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=large)], "then", [], [value("c", "FP32", [5000])], [texts]
    )
    nodes = [
        helper.make_node("If", ["on"], ["c"], then_branch=inner, else_branch=inner),
        helper.make_node("Constant", [], ["d"], value=large),
        helper.make_node("Tree", ["c"], ["y"], domain="ai.onnx.ml", floats=[0.5] * 3000, ints=list(range(3000))),
    ]
    path = write_graph(
        tmp_path / "model.onnx", nodes, [value("on", "BOOL", [])], [value("y", "FP32", None)], [large, texts, small]
    )
    assert read_graph(path) == emptied(onnx.load(str(path)))


def test_weights_of_a_large_file_are_not_read(tmp_path: Path) -> None:
    path = write_external(tmp_path / "model.onnx", write_data=False)
    model = onnx.load(str(path), load_external_data=False)
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString()
    # Besides the graph, the file holds one tensor whose raw data, field 9, is a hole of nearly 2 GB in a sparse file.
    size = 2_000_000_000
    tensor = TensorProto(name="w0", data_type=TensorProto.FLOAT, dims=[size // 4]).SerializeToString()
    tensor_head = tensor + b"\x4a" + varint(size)
    graph_head = graph + b"\x2a" + varint(len(tensor_head) + size) + tensor_head
    model.ClearField("graph")
    with path.open("wb") as file:
        file.write(model.SerializeToString() + b"\x3a" + varint(len(graph_head) + size) + graph_head)
        file.truncate(file.tell() + size)
    read_signature(write_identity(tmp_path / "warm.onnx"))  # import onnx before the count starts
    tracemalloc.start()
    try:
        signature = read_signature(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [tensor.name for tensor in signature.inputs] == ["x"]
    assert [list(tensor.dims) for tensor in read_graph(path).graph.initializer] == [[size // 4]]
    assert peak < 1_000_000


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
