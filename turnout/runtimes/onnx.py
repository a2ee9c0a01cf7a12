"""The row of ONNX: models are read without running them, and onnxruntime runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnout.artifacts.artifact import Artifact, Reading, digest_of, load_artifact
from turnout.protocol.tensors.datatypes import Signature
from turnout.runtimes.runtime import Arrays, Layer, Runtime, VersionFiles

BARE_SCRIPT = """
import json, sys, time
row = json.load(sys.stdin)
start = time.perf_counter()
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = row["threads"]
options.inter_op_num_threads = 1
onnxruntime.InferenceSession(row["artifact"], options, providers=["CPUExecutionProvider"])
json.dump({"bare_ms": time.perf_counter() - start}, sys.stdout)
"""


def inspect(source: VersionFiles, cache_dir: Path | None, *, reading: Reading) -> Artifact:
    """Return the data of an ONNX file and its external data."""
    return load_artifact(source.path, cache_dir, reading=reading)


def optimize(given: Path, target: Path, signature: Signature, requests: Sequence[Arrays]) -> str:
    """Write the optimized graph; return empty text, or why the given one is kept."""
    from turnout.runtimes.onnx_graphs import optimize_graph

    return optimize_graph(given, target, signature, requests).kept


ONNX = Runtime(
    name="onnx",
    package="onnx_model",
    opener="onnx_model.session",
    platform="onnxruntime_onnx",
    artifact="an ONNX file",
    suffix=".onnx",
    model_file="model.onnx",
    inspect=inspect,
    digest_of=digest_of,
    layer=Layer(
        lock=Path(__file__).with_name("onnx_layer.lock"),
        # Converters, and the C library, which the Python module does not link against.
        left_out=(
            "onnxruntime/capi/libonnxruntime.so*",
            "onnxruntime/backend/*",
            "onnxruntime/datasets/*",
            "onnxruntime/quantization/*",
            "onnxruntime/tools/*",
            "onnxruntime/transformers/*",
            "onnxruntime/ThirdPartyNotices.txt",
        ),
        unzipped_bytes={"x86_64": 74_000_000, "arm64": 68_000_000},
        own_bytes=40_000_000,  # tokenizers with huggingface-hub 25 MB, Pillow 19 MB
    ),
    imports=("onnxruntime",),
    bare_script=BARE_SCRIPT,
    is_tried=True,
    in_s3=True,
    engine="onnxruntime",
    optimize=optimize,
)
