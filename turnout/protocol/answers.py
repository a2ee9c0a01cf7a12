"""An answer's body, and JSON that holds arrays.

Called by the forms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(slots=True, eq=False)
class Answer:
    """A body: JSON, or where `json_length` is not None that much JSON with binary tensors behind it."""

    body: bytes
    json_length: int | None = None


def write_json(build: Callable[..., dict[str, Any]], *arguments: Any) -> bytes:
    """JSON of what `build` makes of the arguments; with `spelled=True` where orjson wrote NaN or infinity as null."""
    text = orjson.dumps(build(*arguments), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:
        text = orjson.dumps(build(*arguments, spelled=True), option=orjson.OPT_SERIALIZE_NUMPY)
    return text
