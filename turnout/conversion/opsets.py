"""Finds the newest operator sets that both the layer's onnxruntime and the installed one support, by trying them."""

from __future__ import annotations

from collections.abc import Mapping

MOST = {"": 26, "ai.onnx.ml": 5}
"""What the onnxruntime of the layer supports, whose release turnout/runtimes/onnx_layer.lock pins."""


def find_opsets() -> Mapping[str, int]:
    """Domain -> the newest opset that a session accepts. Newer ones are "under development" and rejected."""
    return {
        domain: next(number for number in range(most, 0, -1) if _opens(domain, number)) for domain, most in MOST.items()
    }


def _opens(domain: str, number: int) -> bool:
    from onnx import TensorProto, helper

    from turnout.protocol.telemetry import disable_telemetry

    disable_telemetry()
    import onnxruntime

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [value], [result])
    versions = {"": 13, domain: number}
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*row) for row in versions.items()], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True
