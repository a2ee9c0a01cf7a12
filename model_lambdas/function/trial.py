"""Opens one version and runs it once, for commands such as `turnout validate`; reports problems as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from turnout.protocol.codecs.codecs import decode_request
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.interface import build_interface

from .own_code import ReturnError
from .runtime import FunctionSpec, ModelError, find_opener

BUGS = (NameError, AttributeError, ImportError, NotImplementedError, AssertionError)
"""Exceptions that are never caused by generated values."""


def try_model(artifact: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Open a version and send it a request.

    Args:
        artifact: the file named in models.yaml.
        fields: the content of its `function.json`, and `request`; `is_example` says that the request must work.

    Returns:
        `fault`: why it cannot be opened or fails; `returned`: a returned value that contradicts its signature. Both are
        empty if there is no problem.

    Raises:
        ModuleNotFoundError: it imports a missing module.
    """
    spec = FunctionSpec(
        model=fields["model"],
        version=fields["version"],
        sha256=fields["sha256"],
        signature=Signature.from_json(fields["signature"]),
        artifact=Path(artifact),
        memory_mb=fields["memory_mb"],
        external_files=tuple(map(Path, fields["external_files"])),
        copies=Path(artifact).parent,
    )
    owner = f"{spec.model} {spec.version}: "
    try:
        model = find_opener(fields["opener"])(spec)
    except ModelError as error:
        _raise_missing(error)
        return {"fault": str(error).removeprefix(owner)}
    interface = build_interface(spec.signature, spec.model, spec.version)
    try:
        model.run(decode_request({}, orjson.dumps(fields["request"]), interface).inputs)
    except RequestError as error:
        return (
            {"fault": f"its first example is refused: {error.message.removeprefix(owner)}"}
            if fields["is_example"]
            else {}
        )
    except ReturnError as error:
        return {"returned": str(error)}
    except ModuleNotFoundError:
        raise
    except Exception as error:
        if fields["is_example"] or isinstance(error, BUGS):
            return {"fault": f"predict fails: {type(error).__name__}: {error}"}
    return {}


def _raise_missing(error: BaseException) -> None:
    """Raise the ModuleNotFoundError that made opening fail, if it was one."""
    cause = error.__cause__
    if isinstance(cause, ModuleNotFoundError):
        raise cause
