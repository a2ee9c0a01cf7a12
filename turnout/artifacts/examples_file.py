"""Adds an example to the text of an examples file and leaves the rest of the text unchanged.

Loading and dumping the whole list would reformat the other entries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from turnout.artifacts.examples import ExamplesError
from turnout.protocol.tensors.datatypes import TensorSpec

KEPT_KEYS = frozenset({"inputs", "instances", "outputs", "parameters"})
"""Keys of a request that an example keeps. Others, such as an id, belong to one caller."""


def make_row(
    name: str, request: Mapping[str, Any], answer: Mapping[str, Any], outputs: Iterable[TensorSpec]
) -> dict[str, Any]:
    """Return an example as an entry of its file.

    Args:
        name: the example's name.
        request: the request's body.
        answer: the response's body, in any of its forms.
        outputs: the outputs of the version's signature, because the short forms omit datatypes.

    Raises:
        ExamplesError: the answer lacks something that an example needs.
    """
    kept = {key: value for key, value in request.items() if key in KEPT_KEYS}
    return {"name": name, "request": kept, "response": {"outputs": list(_outputs(answer, tuple(outputs)))}}


def insert_row(text: str, example: Mapping[str, Any]) -> str:
    """Append an entry to the text of an examples file. An empty text becomes a list of one entry.

    Raises:
        ExamplesError: the text is not a JSON list.
    """
    if not text.strip():
        return f"[\n{_spell(example, '  ')}\n]\n"
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ExamplesError(f"the file is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise ExamplesError("the file must be a list of examples")
    end = text.rindex("]")
    if not rows:
        return f"[\n{_spell(example, '  ')}\n]{text[end + 1 :] or ''}"
    before = text[:end].rstrip()
    opening = re.match(r"\s*\[(\s*)", text)
    assert opening is not None  # the text is a list
    indent = opening[1].rpartition("\n")[2] if "\n" in opening[1] else "  "
    return f"{before},\n{_spell(example, indent)}\n{text[end:]}"


def _spell(example: Mapping[str, Any], indent: str) -> str:
    """Return an entry with one line for each key: a line for each number of a tensor would fill pages."""
    inner = [f"{indent}{indent}{json.dumps(key)}: {_dump(value)}" for key, value in example.items()]
    return f"{indent}{{\n" + ",\n".join(inner) + f"\n{indent}}}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _outputs(answer: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> Iterator[dict[str, Any]]:
    outputs = answer.get("outputs")
    if isinstance(outputs, list):
        for tensor in outputs:
            if "data" not in tensor:
                raise ExamplesError(f"output `{tensor.get('name')}` is binary: send the request as JSON")
            yield {key: tensor[key] for key in ("name", "shape", "datatype", "data")}
        return
    for name, values in _named(answer, specs):
        datatype = next((spec.datatype for spec in specs if spec.name == name), "")
        if not datatype:
            message = f"the answer does not say the datatype of `{name}`: send the request in the protocol's format"
            raise ExamplesError(message)
        shape = shape_of(values)
        flat = _flatten(values)
        if math.prod(shape) != len(flat):
            raise ExamplesError(f"output `{name}` is not rectangular")
        yield {"name": name, "shape": shape, "datatype": datatype, "data": flat}


def _named(answer: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> Iterator[tuple[str, Any]]:
    outputs, rows = answer.get("outputs"), answer.get("predictions")
    if isinstance(outputs, dict):
        yield from outputs.items()
    elif isinstance(rows, list) and rows and all(isinstance(prediction, dict) for prediction in rows):
        yield from ((name, [prediction[name] for prediction in rows]) for name in rows[0])
    elif isinstance(rows, list) and len(specs) == 1:
        yield specs[0].name, rows
    else:
        raise ExamplesError("the answer has no outputs that an example can contain")


def shape_of(values: Any) -> list[int]:
    """Return the shape of nested lists, taken from their first elements."""
    if not isinstance(values, list):
        return []
    return [len(values), *(shape_of(values[0]) if values else [])]


def _flatten(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    return [leaf for value in values for leaf in _flatten(value)]
