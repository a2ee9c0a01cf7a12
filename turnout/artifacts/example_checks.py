"""Checks whether a version's examples match its inputs and outputs, without running it.

An example that cannot be right fails every test of its version, and misleads every reader who tries it. Therefore it is
rejected when it is added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import orjson

from turnout.artifacts.examples import Example, ExpectedOutput
from turnout.protocol.codecs.codecs import InferenceRequest, decode_request
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface


def check_examples(
    examples: Sequence[Example], signature: Signature, hooks: Collection[str] = (), *, source: str
) -> tuple[str, ...]:
    """Return the problems as sentences.

    Args:
        examples: the examples of one version.
        signature: the version's inputs and outputs.
        hooks: the functions that its transform defines: with `preprocess` requests may contain other tensors, with
            `postprocess` answers may.
        source: the file's name, for the messages.
    """
    return tuple(
        f"{source}: example {number} (`{example.name}`): {sentence}"
        for number, example in enumerate(examples)
        for sentence in _check_example(example, signature, hooks)
    )


def _check_example(example: Example, signature: Signature, hooks: Collection[str]) -> Iterator[str]:
    interface = build_interface(signature, free_inputs="preprocess" in hooks, free_outputs="postprocess" in hooks)
    try:
        request = decode_request({"content-type": "application/json"}, orjson.dumps(example.request), interface)
    except RequestError as error:
        yield f"request: {error}"
        return
    yield from _check_asked(example, request)
    if "postprocess" in hooks:
        return
    known = {spec.name: spec for spec in signature.outputs}
    for output in example.outputs:
        if output.name not in known:
            yield f"unknown output `{output.name}`: expected {', '.join(f'`{other}`' for other in known)}"
    # Where a request's dimension is free, graphs often declare the output with the size of their own trial run.
    is_free = any(spec.shape is None or spec.shape[:1] == (-1,) for spec in signature.inputs)
    for output in example.outputs:
        if output.name in known:
            yield from _check_output(output, known[output.name], is_free=is_free or "preprocess" in hooks)


def _check_asked(example: Example, request: InferenceRequest) -> Iterator[str]:
    """Check the outputs that a request selects; the answer contains no others."""
    if request.outputs:
        for output in example.outputs:
            if output.name not in request.outputs:
                yield f"output `{output.name}` is expected, but the request does not select it"


def _check_output(output: ExpectedOutput, spec: TensorSpec, *, is_free: bool) -> Iterator[str]:
    if output.datatype != spec.datatype:
        yield f"output `{output.name}`: expected datatype {spec.datatype}, got {output.datatype}"
    if spec.shape is None:
        return
    declared = (-1, *spec.shape[1:]) if is_free and spec.shape else spec.shape
    fits = len(declared) == len(output.shape) and all(
        size in {-1, own} for size, own in zip(declared, output.shape, strict=True)
    )
    if not fits:
        yield f"output `{output.name}`: expected shape {list(spec.shape)}, got {list(output.shape)}"
