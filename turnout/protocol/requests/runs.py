"""The part of an event about an asynchronous run, under its key `turnout`, which no client can send.

Bodies and answers that are too large for an event are in files that the event names. A random number drawn at
acceptance replaces a router's own draw, so a repeated run reaches the same version.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "asynchronous"
"""The same as `turnout.protocol.routing.choice.ASYNCHRONOUS`, which routers forward."""

LARGE_BYTES = 1024 * 1024
"""Larger answers are written to the file."""


@dataclass(frozen=True, slots=True)
class AsyncRun:
    """One asynchronous run.

    Args:
        body_file: file of the body; empty if the event contains it.
        answer_file: file for a large answer; empty if it must fit into the function's answer.
        max_answer_bytes: the largest answer.
    """

    body_file: str = ""
    answer_file: str = ""
    max_answer_bytes: int = 0


def spell_run(run: AsyncRun, draw: float) -> dict[str, Any]:
    """Return the value of an event's key `turnout` for a run."""
    said: dict[str, Any] = {"draw": draw, "max_answer_bytes": run.max_answer_bytes}
    if run.body_file:
        said["body_file"] = run.body_file
    if run.answer_file:
        said["answer_file"] = run.answer_file
    return {KEY: said}


def read_run(event: Mapping[str, Any]) -> AsyncRun | None:
    """Return the asynchronous run of an event; None for a synchronous call."""
    said = (event.get("turnout") or {}).get(KEY)
    if said is None:
        return None
    return AsyncRun(said.get("body_file", ""), said.get("answer_file", ""), said.get("max_answer_bytes", 0))


def is_asynchronous(event: Mapping[str, Any]) -> bool:
    """Whether an event is for an asynchronous run."""
    said = event.get("turnout")
    return said is not None and KEY in said


def read_draw(event: Mapping[str, Any], model: str) -> float | None:
    """Return a number in [0, 1), the same for each run of a request; None for a synchronous call."""
    drawn = ((event.get("turnout") or {}).get(KEY) or {}).get("draw")
    if drawn is None:
        return None
    from hashlib import blake2b  # takes milliseconds to import, and few calls need it

    digest = blake2b(f"{drawn!r}\0{model}".encode(), digest_size=8).digest()
    return float((int.from_bytes(digest) >> 11) / 2**53)


def map_file(path: str) -> Any:
    """Return a file's content as an object that can be sliced and buffered like `bytes`, without reading it."""
    with open(path, "rb") as file:  # noqa: PTH123 - routers start without importing pathlib
        if not os.fstat(file.fileno()).st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
