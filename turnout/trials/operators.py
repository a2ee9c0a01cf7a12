"""Operators that were tried one by one and that no request crashes.

They were tried with onnxruntime 1.32, with no rows, sizes of 0, and the smallest and largest integers.
tests/trials/test_operators.py tries them with the installed release. A model that contains only these operators needs
no trial of its own.
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
