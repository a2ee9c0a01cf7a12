"""Converts exported programs of PyTorch (`torch.export.save`) with PyTorch's own exporter to ONNX."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..convert import Progress
from ..exchange import Arrays
from ..start import RefusedJob
from .tensors import FREE_LENGTH, ROWS, TensorInput, convert_tensors, draw_tensors
from .torch_archive import EXPORT_HINT, check_archive

PACKAGES = ("torch", "onnxscript", "onnx")

MOST_OPSET = 20
"""The opset that the exporter of PyTorch 2.15 writes by default; it converts to newer ones only in part."""

_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")

LARGEST = 2**31
"""The largest size of a dimension that the program leaves open."""

_STEPS = 64
"""Most calls between an embedding and the input that it reads."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file."""
    path, trusted = Path(job["path"]), bool(job["trust_pickle"])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not trusted:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    check_archive(path, trusted=trusted)
    progress(f"loading {path.name}")
    model = Program(path)
    return convert_tensors(model, job, PACKAGES, progress, examples=model.examples)


class Program:
    """An exported program."""

    def __init__(self, path: Path) -> None:
        """Load it and read its inputs."""
        import torch
        from torch.export.graph_signature import InputKind

        self.notes: list[str] = []
        try:
            self.program = torch.export.load(path)
        except Exception as error:
            raise RefusedJob(f"{path.name} cannot be loaded: {_first_line(error)}", _load_hint(str(error))) from error
        signature = self.program.graph_signature
        if changed := [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]:
            raise RefusedJob(
                f"{path.name} changes {changed[0]!r} when it answers, so an answer depends on other requests",
                "Return new tensors in the model, and export it again.",
            )
        if operator := next(filter(None, map(_trains, self.program.graph.nodes)), ""):
            raise RefusedJob(f"{path.name} was exported in training mode: {operator} trains", EXPORT_HINT)
        values = {node.name: node.meta.get("val") for node in self.program.graph.nodes if node.op == "placeholder"}
        given = [row.arg for row in signature.input_specs if row.kind == InputKind.USER_INPUT]
        self.constants = {row.name: row.value for row in given if hasattr(row, "value")}
        self.order = [row.name for row in given]
        tensors = {name: values[name] for name in self.order if name not in self.constants}
        if not tensors:
            raise RefusedJob(f"{path.name} has no input that is a tensor", EXPORT_HINT)
        self.batch = _batch_of(tensors)
        lengths = _Lengths(self.program.range_constraints)
        self.least, self.most = lengths.limits(self.batch)
        if self.least > 1 or self.most < ROWS:
            upper = f" and at most {self.most}" if self.most < ROWS else ""
            self.notes.append(f"the program was exported for batches of at least {self.least}{upper} rows")
        examples = self._example_inputs()
        self.inputs: Sequence[TensorInput] = [
            TensorInput(
                name,
                _dtype_of(name, value),
                tuple(size if isinstance(size, int) else None for size in value.shape[1:]),
                self._values_of(name, examples),
                tuple(lengths.length(size) for size in value.shape[1:]),
            )
            for name, value in tensors.items()
        ]
        self.module = self.program.module(check_guards=False)  # guards are code in the file
        self.output_names: list[str] = []
        fixed = all(None not in row.shape for row in self.inputs)
        self.examples = examples if fixed and examples.keys() == tensors.keys() else None
        self._check_answers()

    def _example_inputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the tensors with which it was exported."""
        import torch
        from torch.utils import _pytree as pytree

        given = pytree.tree_leaves(self.program.example_inputs or ())
        if len(given) != len(self.order):
            return {}
        pairs = [
            (name, value) for name, value in zip(self.order, given, strict=True) if isinstance(value, torch.Tensor)
        ]
        try:
            return {name: value.detach().cpu().numpy() for name, value in pairs}
        except TypeError:
            return {}  # a datatype that numpy lacks, which `_dtype_of` reports

    def _values_of(self, name: str, examples: Arrays) -> int:
        """Return how many integers an input may have: the rows of the embedding that reads it, else by its example."""
        sizes = [size for source, size in self._embeddings() if source == name]
        if sizes:
            return min(sizes)
        example = examples.get(name)
        return int(example.max()) + 1 if example is not None and example.dtype.kind in "iu" and example.size else 0

    def _embeddings(self) -> Iterator[tuple[str, int]]:
        """Yield the input that each embedding reads, and the number of its rows."""
        for node in self.program.graph.nodes:
            if not str(node.target).startswith("aten.embedding"):
                continue
            source = node.args[1]
            for _ in range(_STEPS):
                if source.op != "call_function" or not source.all_input_nodes:
                    break
                source = source.all_input_nodes[0]
            yield source.name, int(node.args[0].meta["val"].shape[0])

    def _check_answers(self) -> None:
        """Refuse a program whose answers are random."""
        group = draw_tensors(self.inputs, None)[0][1]
        few = {name: rows[: max(self.least, 4)] for name, rows in group.items()}
        try:
            first, second = self.predict(few), self.predict(few)
        except RefusedJob:
            raise
        except Exception:
            return  # the comparison reports it with its rows
        if any(
            not np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f") for name in first
        ):
            raise RefusedJob(
                "the program returns different answers to the same rows", "Leave random numbers out of the model."
            )

    def predict(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Return the program's results, in batches of sizes that it was exported for."""
        count = len(next(iter(feed.values())))
        parts = []
        for start in range(0, count, self.most):
            rows = {name: values[start : start + self.most] for name, values in feed.items()}
            here = len(next(iter(rows.values())))
            if here < self.least:
                rows = {name: np.resize(values, (self.least, *values.shape[1:])) for name, values in rows.items()}
            parts.append({name: value[:here] for name, value in self._run(rows).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        import torch
        from torch.utils import _pytree as pytree

        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in feed.items()}
        flat = [self.constants[name] if name in self.constants else tensors[name] for name in self.order]
        arguments, named = pytree.tree_unflatten(flat, self.program.call_spec.in_spec)
        with torch.inference_mode():
            results = pytree.tree_flatten_with_path(self.module(*arguments, **named))[0]
        answers: dict[str, np.ndarray[Any, Any]] = {}
        for path, value in results:
            if value is None:
                continue
            name = _output_name(path, answers)
            if not isinstance(value, torch.Tensor):
                raise RefusedJob(f"its output {name!r} is a {type(value).__name__}, not a tensor", EXPORT_HINT)
            if value.dtype == torch.bfloat16 or value.is_complex():
                kind = str(value.dtype).removeprefix("torch.")
                raise RefusedJob(f"its output {name!r} has the type {kind}", "Convert it in the model: .float()")
            answers[name] = value.numpy()
        return answers

    def convert(self, opset: int) -> onnx.ModelProto:
        """Return the graph of the program."""
        import torch

        try:
            exported = torch.onnx.export(
                self.program, (), dynamo=True, opset_version=min(opset, MOST_OPSET), verbose=False, external_data=False
            )
        except Exception as error:
            names = sorted(set(_MISSING.findall(str(error))))
            if not names:
                raise
            raise RefusedJob(
                f"this program cannot be converted: ONNX has no form of {', '.join(names)}",
                "Replace the operator in the model, or do this step in a transform (docs/transforms.md).",
            ) from error
        model: onnx.ModelProto = exported.model_proto
        kept = [value for value in model.graph.input if value.name not in self.constants]
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
        del model.graph.input[:]
        model.graph.input.extend(copies)
        return model


class _Lengths:
    """Lengths for the free dimensions of drawn rows: each symbol gets its own, in the range that the program allows."""

    def __init__(self, ranges: Mapping[Any, Any]) -> None:
        self.ranges = ranges
        self.symbols: dict[Any, int] = {}

    def length(self, size: Any) -> int:
        """Return the length of a dimension, fixed or an expression of symbols."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        for symbol in sorted(expression.free_symbols, key=str):
            least, most = self._range(symbol)
            self.symbols.setdefault(symbol, min(max(FREE_LENGTH + len(self.symbols), least), most))
        return int(expression.subs(self.symbols))

    def limits(self, size: Any) -> tuple[int, int]:
        """Return the smallest and the largest batch, at least 1."""
        expression = size.node.expr
        if not expression.is_Symbol:
            raise RefusedJob(f"the first dimension of its inputs is {expression}, and must be any number", EXPORT_HINT)
        least, most = self._range(expression)
        return max(least, 1), most

    def _range(self, symbol: Any) -> tuple[int, int]:
        allowed = self.ranges.get(symbol)
        if allowed is None:
            return 1, LARGEST
        return int(allowed.lower), int(allowed.upper) if allowed.upper < LARGEST else LARGEST


def _trains(node: Any) -> str:
    """Return the operator of a call that behaves as in training; empty for others."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return ""
    given = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)} | node.kwargs
    is_training = given.get("training") is True or given.get("train") is True
    return str(schema.name).replace("::", ".") if is_training else ""


def _batch_of(tensors: Mapping[str, Any]) -> Any:
    """Return the first dimension of all inputs, which must be one symbol."""
    first = None
    for name, value in tensors.items():
        shape = [size if isinstance(size, int) else "any" for size in value.shape]
        if not shape or shape[0] != "any":
            wide = "[" + ", ".join(map(str, shape)) + "]"
            raise RefusedJob(
                f"input {name!r} has the shape {wide}, so the batch has a fixed size",
                f"Export it with a batch of any size for each input:\n{EXPORT_HINT.partition(chr(10))[2]}",
            )
        if first is not None and str(value.shape[0]) != str(first):
            raise RefusedJob(
                f"the batch of input {name!r} may differ from the batch of the others",
                "Use the same torch.export.Dim('batch') for the first dimension of each input.",
            )
        first = value.shape[0] if first is None else first
    return first


def _dtype_of(name: str, value: Any) -> np.dtype[Any]:
    import torch

    try:
        dtype: np.dtype[Any] = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        kind = str(value.dtype).removeprefix("torch.")
        raise RefusedJob(f"input {name!r} has the type {kind}", "Convert it in the model, and export float32 inputs.")
    return dtype


def _output_name(path: Sequence[Any], taken: Mapping[str, Any]) -> str:
    """Return an output's name: its keys in dictionaries, its attribute, or its number."""
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
    joined = re.sub(r"\W", "_", "_".join(parts))
    name = f"output_{joined}" if joined[:1].isdigit() else joined or "output"
    while name in taken:
        name += "_"
    return name


def _load_hint(reason: str) -> str:
    if "CUDA" in reason or "cuda" in reason:
        return "It was exported on a GPU. Export it on the CPU: model.cpu(), and example inputs on the CPU."
    if "weights_only" in reason.lower() or "Weights only" in reason:
        return "It holds pickled objects. If you know who wrote it, add --trust-pickle."
    return "Export it again with the newest PyTorch.\n    " + EXPORT_HINT


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
