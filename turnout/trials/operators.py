"""Operators that were tried one by one: no request ends the process.

With onnxruntime 1.32, on each of these: no rows, sizes of 0, the least and largest integers. The test
tests/trials/test_operators.py tries them with the release that is installed. A model that consists of them needs no
trial of its own.
"""

from __future__ import annotations

SOUND_OPERATORS = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "Concat", "Constant", "Conv", "Equal", "Erf", "Exp", "Flatten",
    "Gather", "Gemm", "Greater", "Identity", "Less", "Log", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Not",
    "Or", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
    "ai.onnx.ml:LinearClassifier", "ai.onnx.ml:LinearRegressor", "ai.onnx.ml:Normalizer", "ai.onnx.ml:Scaler",
    "ai.onnx.ml:TreeEnsembleClassifier", "ai.onnx.ml:TreeEnsembleRegressor", "ai.onnx.ml:ZipMap",
})  # fmt: skip
