"""One open ONNX model: takes arrays and returns arrays.

Pitfalls of onnxruntime 1.32: strings must be `str` in object arrays (`bytes` become the text "b'...'", fixed-width
dtypes lose trailing zero bytes); a big-endian array and, in an OrtValue, a column-major one are read as if they were
little-endian and row-major; BF16 is passed and returned only as OrtValues.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from turnout.protocol.errors import RequestError
from turnout.protocol.sentences import shorten_text
from turnout.protocol.telemetry import disable_telemetry
from turnout.protocol.tensors.datatypes import DATATYPES, Array
from turnout.protocol.tensors.fatal_requests import refuse_fatal

from ..function.runtime import Cancellation, FunctionSpec, ModelError, RunCancelled
from .private_files import OtherContentError, private_files

if TYPE_CHECKING:
    import onnxruntime

MEMORY_PER_VCPU_MB = 1769

NO_MEMORY = "not enough memory"

LONGEST_REASON = 1000
"""Most characters of onnxruntime's own message that are passed on."""


def threads_for(memory_mb: int) -> int:
    """Return the number of threads of a run: one per vCPU of Lambda's memory size, at least one."""
    return max(1, round(memory_mb / MEMORY_PER_VCPU_MB))


def open_session(model: Path | bytes, memory_mb: int) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session on the CPU.

    It has no memory arena, which would keep the memory of the largest run as long as the session lives. malloc gives
    the memory back, and none of the measured runs is slower without an arena (docs/performance.md).

    Its log shows only fatal errors. Otherwise it would warn on each call about a wrong declared output shape, and write
    a line for each request whose values it rejects; both are reported as exceptions or do not matter. Some of those
    lines (a size that overflows) come from the process's own log, not the session's.
    """
    disable_telemetry()
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_for(memory_mb)
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    given = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    session._model_bytes = None  # onnxruntime's wrapper keeps it for providers that are not used here
    return session


def _open(spec: FunctionSpec) -> onnxruntime.InferenceSession:
    if spec.copies is None:
        return open_session(spec.artifact, spec.memory_mb)
    with private_files(spec.artifact, spec.external_files, spec.sha256, spec.copies) as model:
        return open_session(model, spec.memory_mb)


class Model:
    """An open model. `run` may be called from several threads at once.

    Raises:
        ModelError: onnxruntime cannot open the file, or it has a combination of datatypes that cannot be run.
    """

    def __init__(self, spec: FunctionSpec) -> None:
        disable_telemetry()
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        self._name = f"{spec.model} {spec.version}"
        try:
            self._session = _open(spec)
        except OtherContentError as error:
            raise ModelError(f"{self._name}: {error}") from error
        except OSError as error:
            message = f"{self._name}: {spec.artifact.name} cannot be copied to be opened: {error.strerror or error}"
            raise ModelError(message) from error
        except Exception as error:
            message = f"{self._name}: onnxruntime cannot open {spec.artifact.name}: {_without_folder(error, spec)}"
            raise ModelError(message) from error
        # The method that `InferenceSession.run` calls after checking the names, which were checked against the
        # signature already, and making the options anew for each run: together these take a third of a short run.
        self._run = getattr(self._session, "_sess", self._session).run
        self._options = onnxruntime.RunOptions()
        self._fatal = spec.fatal
        self._onnxruntime = onnxruntime
        # numpy raises ValueError for an output without elements whose shape is too large.
        self._refusals = (
            state.InvalidArgument,
            state.Fail,
            state.RuntimeException,
            UnicodeDecodeError,
            ValueError,
            MemoryError,
        )
        self._outputs = {output.name: output for output in spec.signature.outputs}
        self._names = tuple(self._outputs)
        self._texts = frozenset(tensor.name for tensor in spec.signature.inputs if tensor.datatype == "BYTES")
        self._halves = frozenset(tensor.name for tensor in spec.signature.inputs if tensor.datatype == "BF16")
        self._by_value = any(tensor.datatype == "BF16" for tensor in spec.signature.outputs)
        self._labelled = any(tensor.labels for tensor in spec.signature.outputs)
        if self._by_value and (self._texts or self._labelled):
            message = (
                f"{self._name}: a model with BF16 outputs can have neither BYTES inputs nor ZipMap outputs: "
                "onnxruntime's Python interface cannot run it"
            )
            raise ModelError(message)

    def run(
        self, inputs: Mapping[str, Array], names: Sequence[str] = (), cancellation: Cancellation | None = None
    ) -> dict[str, Array]:
        """Return the outputs called `names`, or all of them if no names are given.

        Args:
            inputs: as accepted by `Interface.check_inputs`, BYTES as object arrays of `bytes` or `str`.
            names: outputs of the signature.
            cancellation: ends the run early.

        Returns:
            Arrays: BYTES as object arrays of `str`, BF16 as `uint16` bits, a ZipMap as `[rows, labels]`.

        Raises:
            RequestError: REFUSED_BY_MODEL, also for what would end the process, or INVALID_VALUE for BYTES that are not
                UTF-8.
            RunCancelled: the run was canceled through `cancellation`.
        """
        names = names or self._names
        if self._fatal:
            refuse_fatal(self._name, self._fatal, inputs)
        options = self._options if cancellation is None else cancellation.options(self._onnxruntime.RunOptions)
        feed: Mapping[str, Any] = inputs
        if self._texts or self._halves:
            feed = {name: self._prepare(name, values) for name, values in inputs.items()}
        try:
            if self._by_value:
                return self._run_by_value(feed, names, options)
            results = self._run(names, feed, options)
        except self._refusals as error:
            if cancellation is not None and cancellation.cancelled:
                raise RunCancelled from error
            raise self._refusal(error) from error
        outputs = dict(zip(names, results))  # noqa: B905 - a name and an array; `strict` costs as much as the rest
        if self._labelled:
            outputs = {name: self._tabulate(name, values) for name, values in outputs.items()}
        return outputs

    def _prepare(self, name: str, values: Array) -> Any:
        """Return an input in the form that onnxruntime accepts."""
        if name in self._texts:
            return _as_texts(name, values)
        if name in self._halves:
            return self._as_value(values, DATATYPES["BF16"].onnx)
        return values

    def _as_value(self, values: Array, onnx_type: int | None = None) -> Any:
        make = self._onnxruntime.OrtValue
        if onnx_type is None:
            return make.ortvalue_from_numpy(np.ascontiguousarray(values).reshape(values.shape))
        contiguous = np.ascontiguousarray(values).reshape(values.shape)
        return make.ortvalue_from_numpy_with_onnx_type(contiguous, onnx_type)

    def _run_by_value(self, feed: Mapping[str, Any], names: Sequence[str], options: Any) -> dict[str, Array]:
        values = {
            name: self._as_value(given) if isinstance(given, np.ndarray) else given for name, given in feed.items()
        }
        results = self._session.run_with_ort_values(names, values, options)
        return {name: _as_array(value) for name, value in zip(names, results, strict=True)}

    def _tabulate(self, name: str, rows: Any) -> Array:
        output = self._outputs[name]
        if not output.labels:
            return np.asarray(rows)
        table = [[row[label] for label in output.labels] for row in rows]
        return np.array(table, DATATYPES[output.datatype].dtype).reshape(len(table), len(output.labels))

    def _refusal(self, error: Exception) -> RequestError:
        if isinstance(error, UnicodeDecodeError):
            reason = "its response contains text that is not UTF-8"
        elif isinstance(error, MemoryError):
            reason = NO_MEMORY
        else:
            reason = reason_of(str(error))
        return RequestError("REFUSED_BY_MODEL", f"{self._name} rejected the values: {reason}", reason=reason)


def _as_texts(name: str, values: Array) -> Array:
    texts = np.empty(values.size, object)
    for index, value in enumerate(values.reshape(-1).tolist()):
        try:
            texts[index] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            expected, got = "UTF-8 (onnxruntime's strings are text)", "other bytes"
            message = f"input `{name}`, element {index}: expected {expected}, got {got}"
            raise RequestError("INVALID_VALUE", message, tensor=name, expected=expected, got=got, index=index) from None
    return texts.reshape(values.shape)


def _as_array(value: Any) -> Array:
    """Return a copy of an OrtValue's elements; onnxruntime itself makes no array of BF16."""
    if value.element_type() != DATATYPES["BF16"].onnx:
        return np.asarray(value.numpy())
    array = np.empty(value.shape(), np.uint16)
    if array.size:
        ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array


_PREFIX = re.compile(r"^(?:\[ONNXRuntimeError\] : \d+ : \w+ : )?")
_NODE = re.compile(r"^Non-zero status code returned while running (\w+) node\. Name:'.*?' Status Message: ", re.DOTALL)
_SOURCE = re.compile(r"\S+\.(?:cc|cpp|h|hpp|cuh?):\d+\s*")
_CPP_SIGNATURE = re.compile(r"[\w:<>~*&, ]*::~?\w+\([^()]*\)(?: const)?(?:::<lambda\([^()]*\)>)?:? ")


def reason_of(message: str) -> str:
    """Return onnxruntime's own message about a rejection, without its source paths and C++ signatures."""
    text, operator = _PREFIX.sub("", message), ""
    node = _NODE.match(text)
    if node is not None:
        text, operator = text[node.end() :], f"{node[1]}: "
    text = _CPP_SIGNATURE.sub("", _SOURCE.sub("", text)).replace("std::bad_alloc", NO_MEMORY)
    return operator + shorten_text(text, LONGEST_REASON)


def _without_folder(error: Exception, spec: FunctionSpec) -> str:
    return reason_of(str(error).replace(f"{spec.artifact.parent}/", ""))
