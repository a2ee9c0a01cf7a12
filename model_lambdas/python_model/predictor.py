"""One open Python model: `load(folder)` has run, and `predict(inputs)` answers requests.

- `load` gets the version's folder, once, before the first call. It keeps what it opens in its module.
- `predict` takes and returns a dict of name -> numpy array, and may be called from several threads at once. The inputs
  are those of the signature, already checked; the result is checked against the signature's outputs.
- `raise Refused("sentence")` rejects the client's values: a 422 with that sentence.
- Exceptions that Python raises for values that it cannot use (`VALUE_ERRORS`) are a 422, too, unless `predict` has
  never worked.
- Any other exception, and outputs that do not match their declaration, are the version's fault: a 500, with the
  traceback in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from turnout.protocol.artifact_digest import combine_named_digests
from turnout.protocol.errors import Refused, RequestError
from turnout.protocol.tensors.datatypes import Array, TensorSpec
from turnout.protocol.tensors.interface import datatype_of

from ..function.own_code import (
    VALUE_ERRORS,
    Doubt,
    Hook,
    OwnCode,
    ReturnError,
    as_bytes,
    check_returned,
    make_writable,
)
from ..function.runtime import Cancellation, FunctionSpec, ModelError, RunCancelled


class PredictError(Exception):
    """`predict` failed, and the client's values are not the cause; for the log."""


class Model:
    """An open version. `run` may be called from several threads at once.

    Raises:
        ModelError: the file cannot be run, lacks a function, or `load` fails.
    """

    def __init__(self, spec: FunctionSpec) -> None:
        self._name = f"{spec.model} {spec.version}"
        self._outputs = spec.signature.outputs
        self._names = tuple(output.name for output in spec.signature.outputs)
        self._texts = frozenset(tensor.name for tensor in spec.signature.inputs if tensor.datatype == "BYTES")
        self._doubt = Doubt(self._name, "predict")
        check_digest(spec)
        self._code = _open_code(spec, self._name)
        load, self._predict = self._find("load", spec), self._find("predict", spec)
        try:
            load(spec.artifact.parent)
        except (Exception, SystemExit) as error:
            reason = self._code.restate(f"{type(error).__name__}: {error}")
            raise ModelError(f"{self._name}: `load` of {spec.artifact.name} failed: {reason}") from error
        check_digest(spec)

    def _find(self, name: str, spec: FunctionSpec) -> Hook:
        function = self._code.function(name)
        if function is None:
            raise ModelError(f"{self._name}: {spec.artifact.name} has no function `{name}`")
        return function

    def run(
        self, inputs: Mapping[str, Array], names: Sequence[str] = (), cancellation: Cancellation | None = None
    ) -> dict[str, Array]:
        """Return the outputs called `names`, or all of them if no names are given; see `Model` of `function.runtime`.

        Raises:
            RequestError: REFUSED_BY_MODEL.
            RunCancelled: `cancellation` was used before the run; a run of Python code that has started is not ended.
            PredictError, ReturnError: `predict` is broken.
        """
        if cancellation is not None and cancellation.cancelled:
            raise RunCancelled
        try:
            returned = self._predict(make_writable(self._as_wire(inputs)))
        except Refused as error:
            raise RequestError("REFUSED_BY_MODEL", error.message, **error.details) from error
        except VALUE_ERRORS as error:
            kind = self._doubt.judge(error)
            message = f"{self._name}: predict cannot use these values ({kind}); the function's log says more"
            raise RequestError("REFUSED_BY_MODEL", message, exception=kind) from error
        except SystemExit as error:
            raise PredictError(f"predict raised SystemExit: {error}") from error
        outputs = check_returned("predict", returned)
        for spec in self._outputs:
            _check_output(spec, outputs)
        self._doubt.note_success()
        return {name: outputs[name] for name in names or self._names}

    def _as_wire(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the inputs with texts as `bytes`; a graph's step may pass them as `str`."""
        return {name: as_bytes(values) if name in self._texts else values for name, values in inputs.items()}


def _open_code(spec: FunctionSpec, owner: str) -> OwnCode:
    try:
        return OwnCode(spec.artifact, owner, _files_of(spec))
    except ModelError as error:
        if spec.copies is None or not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        remedy = "Install it where Turnout runs, or serve with --isolated, which installs `requirements`"
        raise ModelError(f"{error}. {remedy}") from error.__cause__


def _check_output(spec: TensorSpec, outputs: Mapping[str, Array]) -> None:
    """Raise a ReturnError unless the output matches its declaration in the signature."""
    values = outputs.get(spec.name)
    if values is None:
        got = ", ".join(f"`{name}`" for name in list(outputs)[:10]) or "nothing"
        raise ReturnError(f"predict returned no `{spec.name}`, declared in the signature; it returned {got}")
    datatype = datatype_of(values, spec.datatype)
    if datatype != spec.datatype:
        raise ReturnError(f"predict returned {datatype} for `{spec.name}`, declared {spec.datatype}")
    declared = spec.shape or ()
    if len(values.shape) != len(declared) or any(
        size not in {-1, got} for size, got in zip(declared, values.shape, strict=True)
    ):
        raise ReturnError(
            f"predict returned the shape {list(values.shape)} for `{spec.name}`, declared {list(declared)}"
        )


def _files_of(spec: FunctionSpec) -> tuple[str, ...] | None:
    """Return the modules that the file may import; None for all, in a function that has its folder for itself."""
    if spec.copies is None:
        return None
    folder = spec.artifact.parent
    return tuple(file.relative_to(folder).as_posix() for file in spec.external_files)


def check_digest(spec: FunctionSpec) -> None:
    """Raise a ModelError unless the files have the expected digest, if other processes may write to them."""
    if spec.copies is None:
        return
    folder = spec.artifact.parent
    files = (spec.artifact, *spec.external_files)
    try:
        digest = combine_named_digests({file.relative_to(folder).as_posix(): _sha256(file) for file in files})
    except OSError as error:
        raise ModelError(f"{spec.model} {spec.version}: {error.filename} cannot be read: {error.strerror}") from error
    if digest != spec.sha256:
        message = f"the files of {spec.artifact.name} have changed since models.yaml was read: "
        raise ModelError(
            f"{spec.model} {spec.version}: {message}their digest is {digest}, not {spec.sha256}. SIGHUP, a restart or "
            "--watch reads them again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
