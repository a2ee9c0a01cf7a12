from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from model_lambdas.function.runtime import Cancellation, FunctionSpec, ModelError, RunCancelled
from model_lambdas.onnx_model.session import Model, open_session, reason_of, threads_for
from tests.builders.graphs import value, write_graph, write_identity
from turnout.gateway.functions.in_process.run_memory import RunMemory
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature, TensorSpec


def spec(artifact: Path, inputs: list[TensorSpec], outputs: list[TensorSpec], memory_mb: int = 1024) -> FunctionSpec:
    return FunctionSpec("emb", "v1", "0" * 64, Signature(tuple(inputs), tuple(outputs)), artifact, None, memory_mb)


@pytest.fixture(scope="module")
def gather(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that returns rows 0-4 of a table of 5, by id; its declared output shape is wrong."""
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32).reshape(5, 2), "table")
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"], name="/model/emb/Gather")]
    folder = tmp_path_factory.mktemp("gather")
    artifact = write_graph(
        folder / "g.onnx", nodes, [value("ids", "INT64", ["n"])], [value("rows", "FP32", ["n", 7])], [table]
    )
    return Model(spec(artifact, [TensorSpec("ids", "INT64", (-1,))], [TensorSpec("rows", "FP32", (-1, 7))]))


def test_values_that_onnxruntime_rejects_get_a_422_and_the_session_stays_usable(gather: Model) -> None:
    for _ in range(3):
        with pytest.raises(RequestError) as caught:
            gather.run({"ids": np.array([99])})
        assert (caught.value.code, caught.value.status) == ("REFUSED_BY_MODEL", 422)
        assert "idx=99 must be within the inclusive range [-5,4]" in caught.value.message
        assert "/" not in caught.value.message
        assert gather.run({"ids": np.array([1])})["rows"].tolist() == [[2.0, 3.0]]


def test_rejections_and_wrong_output_shapes_write_nothing_to_the_log(
    gather: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    gather.run({"ids": np.array([0])})
    gather.run({"ids": np.array([0])}, (), Cancellation())
    with pytest.raises(RequestError):
        gather.run({"ids": np.array([99])}, (), Cancellation())
    assert capfd.readouterr() == ("", "")


def test_a_size_that_overflows_writes_nothing_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    artifact = write_graph(tmp_path / "fill.onnx", nodes, [value("s", "INT64", ["n"])], [value("y", "FP32", None)])
    model = Model(spec(artifact, [TensorSpec("s", "INT64", (-1,))], [TensorSpec("y", "FP32", None)]))
    with pytest.raises(RequestError, match="overflow"):
        model.run({"s": np.array([2**63 - 1])})
    assert capfd.readouterr() == ("", "")


def test_the_memory_of_a_large_run_is_freed(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["y"]), helper.make_node("ReduceSum", ["y"], ["z"], keepdims=0)]
    artifact = write_graph(tmp_path / "fill.onnx", nodes, [value("s", "INT64", ["n"])], [value("z", "FP32", None)])
    model = Model(spec(artifact, [TensorSpec("s", "INT64", (-1,))], [TensorSpec("z", "FP32", None)]))
    model.run({"s": np.array([1])})
    before = resident_bytes()
    model.run({"s": np.array([100_000_000])})
    assert resident_bytes() - before < 50_000_000  # it took 400 MB


def test_values_that_need_more_memory_than_there_is_are_rejected(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    artifact = write_graph(tmp_path / "fill.onnx", nodes, [value("s", "INT64", ["n"])], [value("y", "FP32", None)])
    model = Model(spec(artifact, [TensorSpec("s", "INT64", (-1,))], [TensorSpec("y", "FP32", None)]))
    with RunMemory().limited(1_000_000), pytest.raises(RequestError) as caught:
        model.run({"s": np.array([2**31])})
    assert caught.value.message == "emb v1 rejected the values: ConstantOfShape: not enough memory"
    assert model.run({"s": np.array([3])})["y"].tolist() == [0, 0, 0]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("memory_mb", "threads"), [(128, 1), (1024, 1), (1769, 1), (2654, 2), (3538, 2), (5307, 3), (10240, 6)]
)
def test_the_number_of_threads_follows_the_memory_size(tmp_path: Path, memory_mb: int, threads: int) -> None:
    assert threads_for(memory_mb) == threads
    options = open_session(write_identity(tmp_path / "m.onnx"), memory_mb).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_file_that_cannot_be_opened_is_named_without_its_folder(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Model(spec(tmp_path / "bad.onnx", [], []))
    assert str(caught.value).startswith("emb v1: onnxruntime cannot open bad.onnx: ")
    assert str(tmp_path) not in str(caught.value)


def test_a_sequence_of_maps_becomes_a_tensor_in_the_order_of_its_labels(tmp_path: Path) -> None:
    for labels, attribute, key_type in ((("b", "a"), "classlabels_strings", 8), ((5, -7), "classlabels_int64s", 7)):
        node = helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", **{attribute: sorted(labels)})
        element = helper.make_map_type_proto(key_type, helper.make_tensor_type_proto(1, []))
        output = helper.make_value_info("maps", helper.make_sequence_type_proto(element))
        artifact = write_graph(tmp_path / f"{attribute}.onnx", [node], [value("x", "FP32", ["n", 2])], [output])
        specs = [TensorSpec("maps", "FP32", (-1, 2), labels=labels)]
        model = Model(spec(artifact, [TensorSpec("x", "FP32", (-1, 2))], specs))
        result = model.run({"x": np.array([[1, 2], [3, 4]], np.float32)})["maps"]
        assert (result.dtype, result.tolist()) == (np.float32, [[2, 1], [4, 3]])
        assert model.run({"x": np.empty((0, 2), np.float32)})["maps"].shape == (0, 2)


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)])
def test_bfloat16_is_passed_and_returned_as_bits_in_any_memory_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    inputs = [value("x", "BF16", None), value("k", "INT64", None)]
    outputs = [value("y", "BF16", None), value("l", "INT64", None)]
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["k"], ["l"])]
    artifact = write_graph(tmp_path / "b.onnx", nodes, inputs, outputs)
    names = [("x", "y", "BF16"), ("k", "l", "INT64")]
    model = Model(spec(
        artifact,
        [TensorSpec(name, datatype, None) for name, _, datatype in names],
        [TensorSpec(name, datatype, None) for _, name, datatype in names],
    ))  # fmt: skip
    bits = np.random.default_rng(1).integers(0, 65536, shape, np.uint16)
    for given in (np.asarray(bits), np.array(bits, order="F")):
        result = model.run({"x": given, "k": np.array([2**63 - 1])})
        assert (result["y"].dtype, result["y"].shape) == (np.uint16, shape)
        assert result["y"].tolist() == bits.tolist()
        assert result["l"].tolist() == [2**63 - 1]
    assert list(model.run({"x": bits, "k": np.array([1])}, ["l"])) == ["l"]


def test_bfloat16_together_with_bytes_is_rejected_when_opened(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    artifact = write_graph(
        tmp_path / "b.onnx",
        nodes,
        [value("x", "BF16", ["n"]), value("t", "BYTES", ["n"])],
        [value("y", "BF16", ["n"]), value("u", "BYTES", ["n"])],
    )
    with pytest.raises(ModelError, match="emb v1: a model with BF16 outputs"):
        Model(spec(
            artifact,
            [TensorSpec("x", "BF16", (-1,)), TensorSpec("t", "BYTES", (-1,))],
            [TensorSpec("y", "BF16", (-1,)), TensorSpec("u", "BYTES", (-1,))],
        ))  # fmt: skip


def test_an_input_with_an_initializer_may_be_sent_or_left_out(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.array([2], np.float32), "scale")
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    inputs = [value("x", "FP32", ["n"]), value("scale", "FP32", [1])]
    artifact = write_graph(tmp_path / "m.onnx", nodes, inputs, [value("y", "FP32", ["n"])], [scale])
    specs = [TensorSpec("x", "FP32", (-1,)), TensorSpec("scale", "FP32", (1,), required=False)]
    model = Model(spec(artifact, specs, [TensorSpec("y", "FP32", (-1,))]))
    x = np.array([3], np.float32)
    assert model.run({"x": x})["y"].tolist() == [6]
    assert model.run({"x": x, "scale": np.array([5], np.float32)})["y"].tolist() == [15]


def write_endless(path: Path) -> Path:
    """Write a loop that adds one to `x`, `n` times."""
    body = helper.make_graph(
        [helper.make_node("Add", ["acc", "one"], ["next"]), helper.make_node("Identity", ["go"], ["still"])],
        "body",
        [value("i", "INT64", []), value("go", "BOOL", []), value("acc", "FP32", [])],
        [value("still", "BOOL", []), value("next", "FP32", [])],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    return write_graph(
        path,
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [value("n", "INT64", []), value("x", "FP32", [])],
        [value("y", "FP32", [])],
    )


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Model:
    artifact = write_endless(tmp_path_factory.mktemp("loop") / "loop.onnx")
    inputs = [TensorSpec("n", "INT64", ()), TensorSpec("x", "FP32", ())]
    return Model(spec(artifact, inputs, [TensorSpec("y", "FP32", ())]))


def test_a_run_is_canceled_from_another_thread_and_the_session_stays_usable(endless: Model) -> None:
    cancellation = Cancellation()
    started, outcome = threading.Event(), []

    def run() -> None:
        started.set()
        try:
            endless.run({"n": np.array(2**62), "x": np.array(0, np.float32)}, (), cancellation)
        except RunCancelled as cancelled:
            outcome.append(cancelled)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    cancellation.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert len(outcome) == 1
    assert cancellation.cancelled
    assert endless.run({"n": np.array(3), "x": np.array(0, np.float32)})["y"] == 3


def test_a_run_canceled_in_advance_does_not_start(endless: Model) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RunCancelled):
        endless.run({"n": np.array(2**62), "x": np.array(0, np.float32)}, (), cancellation)


def test_a_finished_run_may_still_be_canceled(endless: Model) -> None:
    cancellation = Cancellation()
    assert endless.run({"n": np.array(3), "x": np.array(0, np.float32)}, (), cancellation)["y"] == 3
    cancellation.cancel()
    assert endless.run({"n": np.array(1), "x": np.array(0, np.float32)})["y"] == 1


RUNNING = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running "
RESHAPE = (
    f"{RUNNING}Reshape node. Name:'/a/b' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/"
    "reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, "
    "onnxruntime::TensorShapeVector&, bool) input_shape_size == requested_shape_size was false. Cannot be reshaped.\n"
)
EXPAND = (
    f"{RUNNING}Expand node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for "
    "requested buffer of size 140737488355328\n"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (RESHAPE, "Reshape: input_shape_size == requested_shape_size was false. Cannot be reshaped."),
        (EXPAND, "Expand: Failed to allocate memory for requested buffer of size 140737488355328"),
        (f"{RUNNING}Div node. Name:'' Status Message: element_wise_ops.cc:703 Compute By zero", "Div: Compute By zero"),
        ("something else", "something else"),
        ("x" * 9999, f"{'x' * 1000} …"),
        ("One sentence. " * 100, f"{('One sentence. ' * 71).strip()} …"),
    ],
)
def test_a_reason_contains_no_path_and_no_signature(message: str, reason: str) -> None:
    assert reason_of(message) == reason
