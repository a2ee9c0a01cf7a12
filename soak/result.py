"""A run's result, printed as one row of a table, or as JSON."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MOST_PRINTED = 10
"""Most broken promises that are printed for one run, because they often have one cause."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run.

    Args:
        seconds: duration of the attack, without its preparation and end.
        seed: seed of all randomness.
        command: the command of Turnout without a subcommand: `(".venv/bin/turnout",)`.
        folder: an empty folder for this run.
        requests: for runs that count requests: end the attack after this many instead of `seconds`; 0 for `seconds`.
    """

    seconds: float
    seed: int
    command: tuple[str, ...]
    folder: Path
    requests: int = 0

    def random(self, number: int = 0) -> random.Random:
        """Return the random source of one of the run's clients."""
        return random.Random(f"{self.seed}-{number}")  # noqa: S311 - repeatable on purpose


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Args:
        run: name of the run.
        requests: how many were sent.
        seconds: how long it took.
        seen: the measured numbers of its promise, in words.
        broken: each promise that did not hold, and the request that shows it.
    """

    run: str
    requests: int
    seconds: float
    seen: str
    broken: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every promise held."""
        return not self.broken


class Findings:
    """Collects broken promises: the first examples and the count of each kind."""

    def __init__(self, most_of_a_kind: int = 2) -> None:
        self._most = most_of_a_kind
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str = "") -> None:
        """Record one broken promise."""
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if example and len(examples) < self._most:
            examples.append(example)

    def lines(self) -> tuple[str, ...]:
        """Return one line for each kind."""
        return tuple(
            f"{kind} ({count} times){''.join(f'; e.g. {example}' for example in self._examples[kind])}"
            for kind, count in self._counts.items()
        )


def render_table(results: Sequence[Result]) -> str:
    """Return rows under a heading; broken promises follow their row."""
    wide = max((len(result.run) for result in results), default=3)
    lines = [f"{'RUN':{wide}}  {'REQUESTS':>9}  {'SECONDS':>7}  HOLDS  SEEN"]
    for result in results:
        lines.append(
            f"{result.run:{wide}}  {result.requests:>9,}  {result.seconds:>7.1f}  "
            f"{'yes' if result.holds else 'NO ':5}  {result.seen}"
        )
        lines += [f"    broken: {line}" for line in result.broken[:MOST_PRINTED]]
        if len(result.broken) > MOST_PRINTED:
            lines.append(f"    and {len(result.broken) - MOST_PRINTED} more")
    return "\n".join(lines)


def make_json(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Return the results of the whole soak as one JSON object."""
    rows = [{**asdict(result), "holds": result.holds} for result in results]
    return {"seed": seed, "holds": all(result.holds for result in results), "runs": rows}
