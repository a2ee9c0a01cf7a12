"""The interface between a model's runtime and the function around it.

A runtime is a folder beside this one. One module in it has a class `Model`, which opens a version: `Model(spec)`.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from turnout.protocol.tensors.datatypes import Array, Signature
from turnout.protocol.tensors.fatal_requests import FatalRequest

if TYPE_CHECKING:
    from turnout.protocol.tensors.image_input import ImageInput


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One model version as its function serves it.

    Args:
        model: the model's name.
        version: the version's name.
        sha256: the artifact's digest, 64 hex digits.
        signature: the model's own inputs and outputs.
        artifact: the file named in models.yaml.
        transform: the Python file with `preprocess` / `postprocess`, or None.
        memory_mb: the function's memory size, which determines its CPU share.
        external_files: the other files of the artifact, next to it.
        copies: where a runtime that maps files into memory copies them first. The version then owns its bytes, and
            their digest is checked while they are read. None opens the files in place: on Lambda or in an isolated
            environment they belong to the function, and no other process writes to them.
        transform_files: the files that the transform may import, relative to its folder; None for all files there.
        fatal: requests that would end the process; they are rejected.
        public: the inputs and outputs that clients see, if they are declared for the transform.
        image: how images become the model's input, or None.
    """

    model: str
    version: str
    sha256: str
    signature: Signature
    artifact: Path
    transform: Path | None = None
    memory_mb: int = 1024
    external_files: tuple[Path, ...] = ()
    copies: Path | None = None
    transform_files: tuple[str, ...] | None = None
    fatal: tuple[FatalRequest, ...] = ()
    public: Signature | None = None
    image: ImageInput | None = None


class ModelError(Exception):
    """A version cannot be opened, or its file does not match its signature; the message names the version."""


class RunCancelled(Exception):  # noqa: N818 - not a failure: the cancellation was requested
    """A run was ended by `Cancellation.cancel`.

    Neither the client's nor the model's fault: the handler passes it on.
    """


class Stoppable(Protocol):
    """Options that a runtime checks during a run: the run ends once `terminate` is true."""

    terminate: bool


class Cancellation:
    """Ends a run from another thread: call `cancel()` before the run or during it.

    The runtime decides how soon: onnxruntime checks between two nodes, Python code does not check at all. One
    cancellation may serve several runs in sequence, until it is used.
    """

    __slots__ = ("_cancelled", "_lock", "_options")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._options: Any = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End the current run or the next one; may be called at any time, from any thread."""
        with self._lock:
            self._cancelled = True
            if self._options is not None:
                self._options.terminate = True

    def options(self, make: Callable[[], Stoppable]) -> Any:
        """Return the options that stop the run, made once. Raises RunCancelled if `cancel` was called before.

        For runtimes.
        """
        options = self._options
        if options is not None and not self._cancelled:
            return options  # a later `cancel` sets its `terminate`, so no lock is needed
        with self._lock:
            if self._cancelled:
                raise RunCancelled
            if self._options is None:
                self._options = make()
            return self._options


class Model(Protocol):
    """An open version. `run` may be called from several threads at once."""

    def run(
        self, inputs: Mapping[str, Array], names: Sequence[str] = (), cancellation: Cancellation | None = None
    ) -> dict[str, Array]:
        """Return the outputs called `names`, or all of them if no names are given.

        Args:
            inputs: as accepted by `Interface.check_inputs`, BYTES as object arrays of `bytes` or `str`.
            names: outputs of the signature.
            cancellation: ends the run early.

        Raises:
            RequestError: the model rejects the values, a 422.
            RunCancelled: the run was canceled through `cancellation`.
        """
        ...


OpenModel = Callable[[FunctionSpec], Model]
"""Opens a version; raises a ModelError if it cannot be opened."""


def find_opener(name: str) -> OpenModel:
    """Return the `Model` of a runtime's module; `name` is relative to the folder of all runtimes: `folder.module`."""
    runtimes = __name__.rsplit(".", 2)[0]
    opener: OpenModel = importlib.import_module(f"{runtimes}.{name}").Model
    return opener
