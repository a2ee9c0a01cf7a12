"""Checks whether one version of a model may replace another, and yields each reason against it as a sentence.

There are two conditions. First, every request that is valid for the baseline is valid for the other version: the
other's required inputs are among the baseline's required ones, it has all inputs of the baseline with equal datatypes,
and if it fixes a rank or a dimension, the baseline fixes the same one. Second, every client that reads the baseline's
answers can read the other's: each output exists with the same datatype and labels, and the other declares every part of
its shape that the baseline declares.

Additional outputs are allowed, since clients choose by name; so are new optional inputs. The short form `{"instances":
[...]}` must keep working: bare values must still mean the same input; a model with one output, whose predictions are
bare values, must not get a second one; and if every output has a row per instance, no output may lack them. The
relation is reflexive and transitive. Dimension names are not compared: they do not restrict anything.
"""

from __future__ import annotations

from turnout.protocol.tensors.datatypes import Signature, TensorSpec


def check_drop_in(baseline: Signature, other: Signature) -> tuple[str, ...]:
    """Return each reason why `other` cannot replace `baseline`, in the order of the baseline's tensors."""
    return (*_check_inputs(baseline, other), *_check_outputs(baseline, other))


def _check_inputs(baseline: Signature, other: Signature) -> tuple[str, ...]:
    reasons: list[str] = []
    theirs = {tensor.name: tensor for tensor in other.inputs}
    ours = {tensor.name: tensor for tensor in baseline.inputs}
    for tensor in baseline.inputs:
        if tensor.name not in theirs:
            reasons.append(f"input `{tensor.name}` is missing")
            continue
        counterpart = theirs[tensor.name]
        if counterpart.required and not tensor.required:
            reasons.append(f"input `{tensor.name}` is optional in the baseline and required here")
        reasons += _check_tensor("input", tensor, counterpart, strict=counterpart)
    extra = [tensor for tensor in other.inputs if tensor.name not in ours]
    reasons += [
        f"input `{tensor.name}` is required here and unknown to the baseline" for tensor in extra if tensor.required
    ]
    bare = _bare_input(baseline)
    if not reasons and bare is not None and bare != _bare_input(other):
        reasons.append(f"input `{bare}` receives bare values in `instances` in the baseline, but not here")
    return tuple(reasons)


def _bare_input(signature: Signature) -> str | None:
    """Return the input that bare rows belong to, by the rules of turnout/protocol/codecs/short_forms.py."""
    names = [tensor.name for tensor in signature.inputs if tensor.required] or [
        tensor.name for tensor in signature.inputs
    ]
    return names[0] if len(names) == 1 else None


def _check_outputs(baseline: Signature, other: Signature) -> tuple[str, ...]:
    reasons: list[str] = []
    theirs = {tensor.name: tensor for tensor in other.outputs}
    for tensor in baseline.outputs:
        if tensor.name not in theirs:
            reasons.append(f"output `{tensor.name}` is missing")
            continue
        counterpart = theirs[tensor.name]
        reasons += _check_tensor("output", tensor, counterpart, strict=tensor)
        if tensor.labels and tensor.labels != counterpart.labels:
            reasons.append(
                f"output `{tensor.name}` has the labels {_labels(counterpart)}, the baseline's are {_labels(tensor)}"
            )
    if not reasons and all(_has_rows(tensor) for tensor in baseline.outputs):
        detail = "with no row per instance: `instances` cannot be answered"
        reasons += [
            f"output `{output.name}` has the shape {_shape(output)}, {detail}"
            for output in other.outputs
            if not _has_rows(output)
        ]
    if len(baseline.outputs) == 1 and len(other.outputs) > 1:
        reasons.append("there is more than one output: `predictions` of a model with one output are bare values")
    return tuple(reasons)


def _has_rows(tensor: TensorSpec) -> bool:
    """Whether an output may have as many rows as a request has instances."""
    return tensor.shape is None or tensor.shape[:1] == (-1,)


def _check_tensor(kind: str, baseline: TensorSpec, other: TensorSpec, *, strict: TensorSpec) -> list[str]:
    """Compare datatype and shape; a dimension that `strict` (one of the two) fixes must be fixed by both."""
    place = f"{kind} `{baseline.name}`"
    reasons: list[str] = []
    if baseline.datatype != other.datatype:
        reasons.append(f"{place} is {other.datatype}, the baseline's is {baseline.datatype}")
    if strict.shape is None:
        return reasons
    if baseline.shape is None or other.shape is None:
        return [*reasons, f"{place} has {_shape(other)}, the baseline's has {_shape(baseline)}"]
    if len(baseline.shape) != len(other.shape):
        ranks = f"rank {len(other.shape)} {_shape(other)}, the baseline's has rank {len(baseline.shape)}"
        return [*reasons, f"{place} has {ranks} {_shape(baseline)}"]
    pairs = zip(strict.shape, baseline.shape, other.shape, strict=True)
    if any(fixed != -1 and ours != theirs for fixed, ours, theirs in pairs):
        reasons.append(f"{place} has the shape {_shape(other)}, the baseline's is {_shape(baseline)}")
    return reasons


def _shape(tensor: TensorSpec) -> str:
    return "no declared rank" if tensor.shape is None else str(list(tensor.shape))


def _labels(tensor: TensorSpec) -> str:
    """Return labels for a sentence: all if they are few, else the first ones."""
    few = [str(label) for label in tensor.labels[:8]]
    return f"[{', '.join(few)}{', …' if len(tensor.labels) > 8 else ''}]"
