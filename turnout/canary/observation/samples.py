"""Requests that a stage's canary decided about, to be answered by both versions.

Comes in: a stage, a moment. Goes out: samples that came since then, each once. `Samples` is what
turnout.canary.agreement sees of a local gateway (here) and of CloudWatch Logs
(turnout.canary.observation.logged_samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnout.client.captured_lines import Sample
from turnout.replay.replay import fetch_samples

MOST_SAMPLES = 100
"""Taken at one look, so that a look takes no longer than a moment."""


class Samples(Protocol):
    """Whoever keeps requests."""

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Those of a stage's canary since a moment, in seconds since 1970, that were not taken before.

        Raises:
            ObservationError, UnreachableError: it cannot be asked.
        """
        ...


class GatewaySamples:
    """What a local gateway sampled; it forgets what is taken.

    Args:
        url: `http://127.0.0.1:8080`.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Those that it hands out."""
        return [sample for sample in fetch_samples(self._url, stage, MOST_SAMPLES) if sample.time >= since_s]
