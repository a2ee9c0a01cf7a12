"""All runs, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from soak.result import Result, Settings
from soak.runs import abandoned, asynchronous, bodies, crashes, document, fuzz, growth, overload, raw_http, reloads

RUNS: Mapping[str, tuple[Callable[[Settings], Result], float]] = {
    "fuzz": (fuzz.run, 0.15),
    "raw-http": (raw_http.run, 0.08),
    "document": (document.run, 0.12),
    "crashes": (crashes.run, 0.1),
    "growth": (growth.run, 0.2),
    "reloads": (reloads.run, 0.12),
    "overload": (overload.run, 0.08),
    "bodies": (bodies.run, 0.05),
    "abandoned": (abandoned.run, 0.05),
    "asynchronous": (asynchronous.run, 0.05),
}
"""Name -> function that performs the run, and its share of the time."""
