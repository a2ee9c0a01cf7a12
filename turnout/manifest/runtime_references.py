"""Rules between a version's runtime and its other keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from turnout.manifest.schema import Finding
from turnout.manifest.tree import Tree
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES, find_runtime
from turnout.runtimes.runtime import Runtime
from turnout.wording import listed
from turnout.yaml_text.reader import KeyPath

SIGNATURE = "signature: {inputs: {x: {datatype: FP32, shape: [-1, 4]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}"

NEED_TRANSFORM = {
    "requirements": "needs a `transform` that imports it",
    "inputs": "needs a `transform` that reads them: without one, the inputs are those of the ONNX file",
    "outputs": "needs a `transform` that makes them: without one, the outputs are those of the ONNX file",
}


def check_runtime(path: KeyPath, fields: Tree) -> Iterator[Finding]:
    """Yield problems between the keys of the version at `path`; nothing if its runtime is unknown."""
    name = fields.get("runtime", DEFAULT_RUNTIME)
    runtime = RUNTIMES.get(name) if isinstance(name, str) else None
    if runtime is None:
        return
    yield from _artifact(path, fields, runtime)
    yield from _signature(path, fields, runtime)
    if runtime.runs_own_code and "transform" in fields:
        message = f"`runtime: {runtime.name}` takes no transform: it runs your own code anyway"
        yield Finding((*path, "transform"), message, "Do it in `predict`, and delete `transform`.")
    if "input" in fields:
        yield from _image(path, fields, runtime)
    for key, message in NEED_TRANSFORM.items():
        if key not in fields or "transform" in fields or (key == "requirements" and runtime.runs_own_code):
            continue
        if "input" in fields and key in {"inputs", "requirements"}:
            continue  # `_image` reports the first; the second may pin Pillow
        if runtime.declares_signature:
            misplaced = f"is for the transform of other runtimes: `runtime: {runtime.name}` has a signature"
            yield Finding((*path, key), misplaced, f"Move it to `signature.{key}`.")
        else:
            yield Finding((*path, key), message, "Add `transform`, or delete it.")


def _image(path: KeyPath, fields: Tree, runtime: Runtime) -> Iterator[Finding]:
    """`input` makes the only input of a model that has a graph."""
    if runtime.runs_own_code:
        message = f"is for models in ONNX: `runtime: {runtime.name}` gets what clients send"
        yield Finding((*path, "input"), message, "Decode the images in `predict`, and delete `input`.")
    elif "inputs" in fields:
        yield Finding((*path, "inputs"), "cannot be used with `input`, which declares what clients send", "Delete one.")


def _artifact(path: KeyPath, fields: Tree, runtime: Runtime) -> Iterator[Finding]:
    """The artifact must be a file that the runtime reads."""
    artifact = fields.get("artifact")
    if not isinstance(artifact, str) or not artifact:
        return
    other = find_runtime(PurePosixPath(artifact))
    if artifact.startswith("s3://") and not runtime.in_s3:
        message = f"must be a path with `runtime: {runtime.name}`, got an object in S3"
        hint = "Copy its folder to below this file's: what is too large for a zip goes to S3 by itself."
        yield Finding((*path, "artifact"), message, hint)
    elif runtime.takes_folder and other is not runtime:
        message = f"must be the path of {runtime.artifact}, `*{runtime.suffix}`, with `runtime: {runtime.name}`"
        yield Finding((*path, "artifact"), message, "Name the file that defines `load` and `predict`.")
    elif other is not runtime and other.takes_folder:
        message = f"is {other.artifact}, and `runtime: {runtime.name}` reads {runtime.artifact}"
        yield Finding((*path, "artifact"), message, f"Add `runtime: {other.name}` and its `signature`.")


def _signature(path: KeyPath, fields: Tree, runtime: Runtime) -> Iterator[Finding]:
    """The signature must be declared if the files do not contain it."""
    if runtime.declares_signature and "signature" not in fields:
        message = f"`signature` is missing: with `runtime: {runtime.name}` models.yaml declares inputs and outputs"
        yield Finding(path, message, f"For example: {SIGNATURE}")
    if not runtime.declares_signature and "signature" in fields:
        others = listed(f"`runtime: {runtime.name}`" for runtime in RUNTIMES.values() if runtime.declares_signature)
        message = f"is for {others}: the signature of {runtime.artifact} is in the file"
        yield Finding((*path, "signature"), message, "Delete it, or name the runtime.")
