"""A version's examples: requests with their expected answers and the allowed differences.

The format is described in examples/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from turnout.protocol.tensors.datatypes import DATATYPES

_MOST_DIFFERENCES = 5
_DEEPEST = 100  # the limit of nested lists; no numpy array has more than 64 dimensions
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class ExamplesError(ValueError):
    """An examples file does not follow examples/README.md; the message names the place."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The allowed difference of a float: `absolute + relative * |expected|`. Everything else must be equal."""

    absolute: float = 1e-5
    relative: float = 1e-5

    def allows(self, expected: float, got: float) -> bool:
        """Whether `got` is near enough. NaN is near NaN, and an infinity is near itself."""
        if math.isnan(expected) or math.isnan(got):
            return math.isnan(expected) and math.isnan(got)
        if math.isinf(expected) or math.isinf(got):
            return expected == got
        return abs(got - expected) <= self.absolute + self.relative * abs(expected)


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """One output: `data` is flat, in row-major order, with as many values as `shape` requires.

    Special values are floats.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One request and its answer.

    Args:
        name: unique in its file.
        request: the body as it is sent: the Open Inference Protocol's JSON or a short form.
        outputs: the expected outputs, for any form of the request; outputs that are not named are not compared.
        tolerance: the tolerance of float outputs.
        written: the entry as it is written in the file.
    """

    name: str
    request: Mapping[str, Any]
    outputs: tuple[ExpectedOutput, ...]
    tolerance: Tolerance = Tolerance()
    written: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def read_examples(path: Path) -> tuple[Example, ...]:
    """Return the examples in a file, in its order.

    Raises:
        ExamplesError: the file cannot be read or does not follow examples/README.md; the message names the place.
    """
    try:
        listed = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ExamplesError(f"{path} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ExamplesError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(listed, list):
        raise ExamplesError(f"{path.name}: must be a list of examples, got {_kind(listed)}")
    if _is_deep(listed):
        raise ExamplesError(f"{path.name}: is nested more than {_DEEPEST} levels deep")
    examples = tuple(_example(example, f"{path.name}: example {number}") for number, example in enumerate(listed))
    names = [example.name for example in examples]
    for name in names:
        if names.count(name) > 1:
            raise ExamplesError(f"{path.name}: two examples are called `{name}`")
    return examples


def _is_deep(value: Any) -> bool:
    """Whether the value is nested too deeply for the functions here."""
    level = [value]
    for _ in range(_DEEPEST):
        inner = [container.values() if isinstance(container, dict) else container for container in level]
        level = [item for container in inner for item in container if isinstance(item, list | dict)]
    return bool(level)


def matches(expected: Example, got: Mapping[str, Any]) -> list[str]:
    """Return the differences between the expected outputs and an answer's body, as sentences.

    Args:
        expected: the example.
        got: the parsed body: `{"outputs": [{name, shape, data}, ...]}`, or a short form's `{"outputs": {name: nested
            lists}}`, or `{"predictions": [...]}`.
    """
    answers = _answers(expected, got)
    differences: list[str] = []
    for output in expected.outputs:
        if output.name not in answers:
            differences.append(f"output `{output.name}` is missing")
            continue
        differences += _compare(output, answers[output.name], expected.tolerance)
    return differences


def _compare(output: ExpectedOutput, answer: _Answer, tolerance: Tolerance) -> list[str]:
    place = f"output `{output.name}`"
    if answer.datatype not in {None, output.datatype}:
        return [f"{place}: expected datatype {output.datatype}, got {answer.datatype}"]
    if answer.shape is not None and answer.shape != output.shape:
        return [f"{place}: expected shape {list(output.shape)}, got {list(answer.shape)}"]
    if len(answer.data) != len(output.data):
        return [f"{place}: expected {len(output.data)} values, got {len(answer.data)}"]
    is_float = DATATYPES[output.datatype].kind == "float"
    wrong = [
        f"{place}: value {number}: expected {want!r}, got {have!r}"
        for number, (want, have) in enumerate(zip(output.data, answer.data, strict=True))
        if not (_near(want, have, tolerance) if is_float else _same(want, have))
    ]
    if len(wrong) > _MOST_DIFFERENCES:
        return [*wrong[:_MOST_DIFFERENCES], f"{place}: {len(wrong) - _MOST_DIFFERENCES} more values differ"]
    return wrong


def _near(want: float, have: Any, tolerance: Tolerance) -> bool:
    number = _float(have)
    return number is not None and tolerance.allows(want, number)


def _same(want: Any, have: Any) -> bool:
    return type(want) is type(have) and bool(want == have)


def _float(value: Any) -> float | None:
    """Return a JSON value of a float tensor as a float; None if it is not one. `null` is read as NaN."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return _SPECIAL.get(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class _Answer:
    """An output as the answer describes it; None for what its form omits."""

    datatype: str | None
    shape: tuple[int, ...] | None
    data: list[Any]


def _answers(expected: Example, got: Mapping[str, Any]) -> dict[str, _Answer]:
    outputs = got.get("outputs")
    if isinstance(outputs, list):
        named = [output for output in outputs if isinstance(output, Mapping)]
        return {
            str(output.get("name")): _Answer(output.get("datatype"), _shape_of(output), _flat(output.get("data")))
            for output in named
        }
    if isinstance(outputs, Mapping):
        return {name: _Answer(None, None, _flat(values)) for name, values in outputs.items()}
    predictions = got.get("predictions")
    if not isinstance(predictions, list):
        return {}
    if predictions and all(isinstance(prediction, Mapping) for prediction in predictions):
        return {
            name: _Answer(None, None, _flat([prediction.get(name) for prediction in predictions]))
            for name in predictions[0]
        }
    return {output.name: _Answer(None, None, _flat(predictions)) for output in expected.outputs[:1]}


def _shape_of(fields: Mapping[str, Any]) -> tuple[int, ...] | None:
    shape = fields.get("shape")
    return tuple(shape) if isinstance(shape, list) else None


def _flat(values: Any) -> list[Any]:
    """Return nested lists as one list, in row-major order; a single value as a list of one."""
    if not isinstance(values, list):
        return [values]
    return [leaf for value in values for leaf in _flat(value)]


def _example(fields: Any, place: str) -> Example:
    if not isinstance(fields, dict):
        raise ExamplesError(f"{place}: must be an object, got {_kind(fields)}")
    _check_keys(fields, {"name", "request", "response"}, {"tolerance", "description"}, place)
    name = fields["name"]
    if not isinstance(name, str) or not name:
        raise ExamplesError(f"{place}: `name` must be a non-empty string, got {_kind(name)}")
    place = f"{place} (`{name}`)"
    request = fields["request"]
    if not isinstance(request, dict) or not {"inputs", "instances"} & request.keys():
        raise ExamplesError(f"{place}: `request` must be an object with `inputs` or `instances`")
    response = fields["response"]
    if not isinstance(response, dict) or not isinstance(response.get("outputs"), list) or not response["outputs"]:
        raise ExamplesError(f"{place}: `response` must be an object with a non-empty list of `outputs`")
    outputs = tuple(_output(output, f"{place}: output {number}") for number, output in enumerate(response["outputs"]))
    return Example(name, request, outputs, _tolerance(fields.get("tolerance", {}), place), fields)


def _output(fields: Any, place: str) -> ExpectedOutput:
    if not isinstance(fields, dict):
        raise ExamplesError(f"{place}: must be an object, got {_kind(fields)}")
    _check_keys(fields, {"name", "datatype", "shape", "data"}, set(), place)
    datatype, shape = fields["datatype"], fields["shape"]
    if not isinstance(fields["name"], str):
        raise ExamplesError(f"{place}: `name` must be a string, got {_kind(fields['name'])}")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise ExamplesError(f"{place}: unknown datatype {datatype!r}; known are {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ExamplesError(f"{place}: `shape` must be a list of whole numbers, got {shape!r}")
    data = _flat(fields["data"])
    if len(data) != math.prod(shape):
        raise ExamplesError(f"{place}: shape {shape} needs {math.prod(shape)} values, got {len(data)}")
    kind = DATATYPES[datatype].kind
    values: list[Any] = [_float(value) for value in data] if kind == "float" else data
    wanted = {"float": float, "int": int, "bool": bool, "bytes": str}[kind]
    for value, written in zip(values, data, strict=True):
        if type(value) is not wanted or (kind == "int" and not _fits(value, datatype)):
            raise ExamplesError(f"{place}: {written!r} is not valid {datatype}")
    return ExpectedOutput(fields["name"], datatype, tuple(shape), tuple(values))


def _fits(value: Any, datatype: str) -> bool:
    """Whether an integer is within the datatype's range."""
    bits = 8 * DATATYPES[datatype].size
    low, high = (0, 1 << bits) if datatype.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
    return bool(low <= value < high)


def _tolerance(fields: Any, place: str) -> Tolerance:
    if not isinstance(fields, dict):
        raise ExamplesError(f"{place}: `tolerance` must be an object, got {_kind(fields)}")
    _check_keys(fields, set(), {"absolute", "relative"}, f"{place}: tolerance")
    for key, value in fields.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise ExamplesError(f"{place}: tolerance: `{key}` must be a number of at least 0, got {value!r}")
    return Tolerance(**{key: float(value) for key, value in fields.items()})


def _check_keys(fields: Mapping[str, Any], required: set[str], optional: set[str], place: str) -> None:
    if missing := sorted(required - fields.keys()):
        raise ExamplesError(f"{place}: `{missing[0]}` is missing")
    if unknown := sorted(fields.keys() - required - optional):
        raise ExamplesError(f"{place}: unknown key `{unknown[0]}`; known are {', '.join(sorted(required | optional))}")


_KINDS: Sequence[tuple[type, str]] = (
    (bool, "a boolean"),
    (dict, "an object"),
    (list, "a list"),
    (str, "a string"),
    (int, "a number"),
    (float, "a number"),
)


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
