"""A version's own Python around the session: `preprocess(inputs)` before it, `postprocess(outputs)` after it.

Both functions take and return a dict of name -> numpy array, and either may be left out:

- Arrays have the types of the wire format: BYTES are object arrays of `bytes`, BF16 is its bits in `uint16`
  (`turnout.protocol.bfloat16` converts). They may be written to.
- `preprocess` gets what the client sent, checked only for well-formed tensors: any names, datatypes and shapes. Its
  result is checked against the signature and passed to the session. In the short forms, which name no datatypes, an
  input of the signature has its declared datatype; any other input is BYTES, BOOL, INT64 or FP64, depending on its
  values.
- `postprocess` gets all outputs of the session; its result is the response. Texts may be `str`, `bytes` or numpy's.
- `raise Refused("sentence")`, from `turnout.protocol.errors`, rejects the client's request: a 422 with that sentence.
- Exceptions that Python raises in `preprocess` for values that it cannot use (`VALUE_ERRORS`) are a 422, too. The
  message is logged, not returned, because it would not help a client. A `preprocess` that has never worked since the
  version was loaded, and has failed more often than `DOUBT`, counts as a failure of the version instead.
- Any other exception, and any exception in `postprocess`, is a 500; only the log contains the traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from turnout.protocol.errors import Refused
from turnout.protocol.tensors.datatypes import Array

from .own_code import VALUE_ERRORS, Doubt, Hook, OwnCode, as_bytes, check_returned, make_writable
from .runtime import ModelError


class Transform:
    """The two functions of one file, each None if the file does not define it.

    Args:
        path: the file.
        owner: `iris v1`, for messages.
        files: the files that it may import, relative to its folder; None for all files there.

    Raises:
        ModelError: the file cannot be run, or defines neither function.
    """

    def __init__(self, path: Path, owner: str, files: Iterable[str] | None = None) -> None:
        code = self._code = OwnCode(path, owner, files)
        self._name = owner
        self._doubt = Doubt(owner, "preprocess")
        self._preprocess: Hook | None = code.function("preprocess")
        self._postprocess: Hook | None = code.function("postprocess")
        if self._preprocess is None and self._postprocess is None:
            raise ModelError(f"{owner}: {path.name} has neither a function `preprocess` nor `postprocess`")

    @property
    def has_preprocess(self) -> bool:
        """Whether `preprocess` runs before the session."""
        return self._preprocess is not None

    @property
    def has_postprocess(self) -> bool:
        """Whether `postprocess` runs after the session."""
        return self._postprocess is not None

    def preprocess(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the file's `preprocess` on the client's tensors. Exceptions are passed on, except `VALUE_ERRORS`.

        Raises:
            Refused: it could not use the values.
        """
        assert self._preprocess is not None
        try:
            returned = self._preprocess(make_writable(inputs))
        except VALUE_ERRORS as error:
            kind = self._doubt.judge(error)
            message = f"{self._name}: the transform cannot use these values ({kind}); see the function's log"
            raise Refused(message, exception=kind) from error
        arrays = check_returned("preprocess", returned)
        self._doubt.note_success()
        return arrays

    def postprocess(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the file's `postprocess` on the session's outputs. Exceptions are passed on."""
        assert self._postprocess is not None
        taken = {name: as_bytes(values) if values.dtype.kind == "O" else values for name, values in outputs.items()}
        return check_returned("postprocess", self._postprocess(taken))
