"""A digit, 0-9, from an 8x8 image: v1 one convolution of 8 channels, v2 two of 8 and 16.

    python -m examples.digits.train [FOLDER]

Data: scikit-learn's `load_digits`. Input `image` FP32 [-1,1,8,8]: grey values from 0 (paper) to 16 (ink). Outputs
`label` INT64 [-1] and `probabilities` FP32 [-1,10].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from examples.digits.network import Weights, initial_weights, probabilities, train
from examples.writing import OPSETS, example, folder_argument, plain, protocol_request, write_version

SEED = 20240502
WHITEST = 16.0
CHANNELS = {"v1": (8,), "v2": (8, 16)}
EPOCHS = 12


def main(folder: Path) -> None:
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8)
    split = train_test_split(images, digits, test_size=0.3, random_state=SEED, stratify=digits)
    for name, channels in CHANNELS.items():
        train_images, test_images, train_digits, test_digits = split
        random = np.random.default_rng(SEED)
        weights = initial_weights(channels, random)
        # such small matrices gain nothing from threads, which would only wait for each other
        with threadpool_limits(1):
            train(weights, train_images / WHITEST, train_digits, EPOCHS, random)
        right = probabilities(weights, test_images / WHITEST).argmax(axis=1) == test_digits
        print(f"digits {name}: {right.mean():.3f} right of {len(right)} held out")
        write_version(folder / name, build_model(weights, name), examples_of(weights, test_images[right]))


def build_model(weights: Weights, version: str) -> onnx.ModelProto:
    """Return the ONNX graph of a network."""
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array(WHITEST, np.float32), "whitest"))
    nodes = [helper.make_node("Div", ["image", "whitest"], ["scaled"])]
    before = "scaled"
    for number in range(len(weights) // 2 - 1):
        inputs = [before, f"conv{number}.weight", f"conv{number}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"conv{number}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"]))
        before = f"relu{number}"
    nodes += [
        helper.make_node("MaxPool", [before], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        f"digits_{version}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
        ],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSETS[""])]
    return helper.make_model(graph, producer_name="turnout", opset_imports=opsets)


def examples_of(weights: Weights, images: NDArray[np.float64]) -> list[dict[str, Any]]:
    def outputs(rows: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        answer = probabilities(weights, rows / WHITEST)
        return {"label": answer.argmax(axis=1).astype(np.int64), "probabilities": answer.astype(np.float32)}

    shown = images[:3].astype(np.float32)
    blank = np.zeros((1, 1, 8, 8), np.float32)
    return [
        example("one-image", protocol_request({"image": shown[:1]}), outputs(images[:1])),
        example("two-images", {"inputs": {"image": plain(shown[1:])}}, outputs(images[1:3])),
        example("blank", protocol_request({"image": blank}), outputs(np.zeros((1, 1, 8, 8)))),
    ]


if __name__ == "__main__":
    main(folder_argument("digits"))
