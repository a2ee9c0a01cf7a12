"""A version of the `python` runtime, made from a model without an ONNX form, and compared with its original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from turnout.artifacts.examples import Tolerance
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import install_packages, run_script
from turnout.conversion.proof import Proof, compare_folder
from turnout.conversion.registry import LOCKS, PYTHON_CONVERTERS, Converter
from turnout.manifest.parser import build_signature
from turnout.project.project import make_signature
from turnout.runtimes.registry import RUNTIMES

SIGNATURE_FILE = "signature.json"
RUNTIME = "python"

SCRIPT = """
import json, os, sys
reports = os.dup(1)
os.dup2(2, 1)
job = json.load(sys.stdin)
sys.path[:0] = [job["code"], job["site"], job["converters"]]
import numpy as np
from pathlib import Path
from exchange import as_objects, read_arrays, write_arrays
from model_lambdas.function.runtime import FunctionSpec, find_opener
from turnout.protocol.tensors.datatypes import Signature

artifact, folder = Path(job["artifact"]), Path(job["folder"])
beside = tuple(path for path in sorted(artifact.parent.iterdir()) if path != artifact)
spec = FunctionSpec(
    "model", "version", job["sha256"], Signature.from_json(job["signature"]), artifact, external_files=beside,
    copies=artifact.parent,
)
model = find_opener(job["opener"])(spec)
inputs = read_arrays(folder / "inputs")
count = len(next(iter(inputs.values())))

def encoded(values):
    texts = np.empty(values.size, object)
    texts[:] = [text.encode() for text in values.ravel().tolist()]
    return texts.reshape(values.shape)

def run(at):
    feed = {name: encoded(array[at]) if array.dtype == object else array[at] for name, array in inputs.items()}
    return {name: as_objects(array) for name, array in model.run(feed).items()}

write_arrays(folder / "whole", run(np.arange(count)))
alone = np.unique(np.linspace(0, count - 1, min(count, job["alone"])).astype(int))
answers = [run(alone[at : at + 1]) for at in range(len(alone))]
joined = {name: np.concatenate([row[name] for row in answers]) for name in answers[0]}
write_arrays(folder / "alone", {"row": alone, **joined})
hundred = np.arange(job["batch"]) % count
write_arrays(folder / "hundred", {"row": hundred, **run(hundred)})
os.write(reports, b"done")
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class PythonVersion:
    """The files of a Python version, and its proof.

    Args:
        path: predict.py, in a folder with everything that belongs to it.
        signature: a file with its inputs and outputs.
        requirements: its pinned packages.
        proof: the comparison with the original.
    """

    path: Path
    signature: Path
    requirements: tuple[str, ...]
    proof: Proof


def check_converter(converter: Converter | None, name: str) -> Converter:
    """Return the converter of a file for which predict.py can be written; raise a ConversionError for others."""
    if converter is not None and converter.name in PYTHON_CONVERTERS:
        return converter
    if converter is None:
        raise ConversionError(f"{name} is an ONNX file, which needs no Python", "Leave --runtime out.")
    raise ConversionError(
        f"Turnout writes no Python code for {converter.title}",
        "Leave --runtime out to convert it to ONNX. "
        "Or write predict.py with `load` and `predict`, and add that file: see docs/runtimes.md.",
    )


def prove_python(
    out: Path,
    done: Mapping[str, Any],
    extra: Sequence[str],
    tolerance: Tolerance,
    imports: Path,
    *,
    seconds: float,
) -> PythonVersion:
    """Run predict.py with the packages that it gets on Lambda, and compare its answers with the original's.

    Args:
        out: the converter's folder, with `python`, `inputs` and `expected`.
        done: the converter's result.
        extra: requirements that the user adds.
        tolerance: for floats.
        imports: installs packages.
        seconds: time limit.

    Raises:
        ConversionError: its packages cannot be installed, or it cannot be run.
    """
    path, signature = out / "python" / "predict.py", out / SIGNATURE_FILE
    signature.write_bytes(orjson.dumps(done["signature"]))
    requirements = (*done["requirements"], *extra)
    code, site = install_packages(requirements, RUNTIME, imports)
    runtime = RUNTIMES[RUNTIME]
    beside = [file for file in path.parent.iterdir() if file != path]
    job = {
        "code": str(code),
        "site": str(site),
        "converters": str(LOCKS),
        "folder": str(out),
        "artifact": str(path),
        "sha256": runtime.digest_of(path, beside),
        "signature": make_signature(build_signature(done["signature"])).to_json(),
        "opener": runtime.opener,
        "alone": 60,
        "batch": 100,
    }
    result = run_script(SCRIPT, job, seconds, subject="predict.py", task="the rows of the proof")
    if result.printed != "done":
        hint = "Add the package that is missing: --requirement NAME." if "No module named" in result.reason else ""
        raise ConversionError(f"predict.py cannot be run: {result.reason}", hint, code=1)
    proof = compare_folder(out, done["groups"], done["refused"], tolerance)
    return PythonVersion(path, signature, requirements, proof)
