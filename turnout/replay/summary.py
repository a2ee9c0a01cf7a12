"""Summarizes a replay: agreement by output, latency and errors of each version, requests that disagree."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnout.client.captured_lines import Sample
from turnout.protocol.tensors.datatypes import Array
from turnout.replay.comparison import OutputComparison
from turnout.replay.replay import Pair, SampleReply

MOST_DISAGREEMENTS = 50
"""Most outputs that are shown, with the rest of the last one's request; all are counted."""

_SHOWN_VALUES = 8
_SHOWN_CHARACTERS = 40


@dataclass(slots=True)
class Side:
    """The replies of one version, or of the versions that answered when the requests were captured.

    Args:
        name: name for people.
        statuses: status -> number of replies; 0 for replies without a readable answer.
        durations_ms: durations of the replies.
        digests: version -> the digests of the artifacts that answered for it. A version with two has changed meanwhile.
    """

    name: str
    statuses: Counter[int] = field(default_factory=Counter)
    durations_ms: array[float] = field(default_factory=lambda: array("d"))
    digests: dict[str, dict[str, None]] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Return the number of replies that are no answers of the model."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    def add(self, reply: SampleReply, version: str = "") -> None:
        """Count a version's reply; the duration is ignored if there was none."""
        digests = self.digests.setdefault(version, {})
        if reply.digest:
            digests[reply.digest] = None
        self.statuses[reply.status if reply.outputs is not None or reply.status != 200 else 0] += 1
        if reply.status:
            self.durations_ms.append(reply.duration_ms)

    def quantile_ms(self, share: float) -> float | None:
        """Return the duration that this share of the replies did not exceed; None without replies."""
        return quantile(sorted(self.durations_ms), share)


@dataclass(slots=True)
class OutputTally:
    """The results of one output over all requests that both versions answered.

    Args:
        name: name of the output.
        measure: measure of its rule.
        compared: number of comparisons.
        agreed: number of comparisons that satisfied the rule.
        argmax_equal: number of comparisons in which every row had its largest element at the same index.
        max_absolute: the largest difference.
        max_relative: the largest relative difference.
        cosine: the lowest cosine.
        differences: the largest difference of each request, if it could be measured.
        problems: reason why nothing could be measured -> how often it occurred.
    """

    name: str
    measure: str
    compared: int = 0
    agreed: int = 0
    argmax_equal: int = 0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    cosine: float = 1.0
    differences: array[float] = field(default_factory=lambda: array("d"))
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, comparison: OutputComparison) -> None:
        """Count one comparison."""
        self.measure = comparison.measure
        self.compared += 1
        self.agreed += comparison.agrees
        self.argmax_equal += comparison.argmax_equal
        if comparison.problem:
            self.problems[comparison.problem] += 1
            return
        self.max_absolute = max(self.max_absolute, comparison.max_absolute)
        self.max_relative = max(self.max_relative, comparison.max_relative)
        self.cosine = min(self.cosine, comparison.cosine)
        self.differences.append(comparison.max_absolute)


@dataclass(slots=True)
class Captured:
    """The time and place of the captured requests, as far as known.

    Args:
        first: time of the earliest one, in seconds of Unix time; infinite without any.
        last: time of the latest one.
        stages: the stages that answered them.
    """

    first: float = math.inf
    last: float = -math.inf
    stages: dict[str, None] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Count one captured request."""
        self.first, self.last = min(self.first, sample.time), max(self.last, sample.time)
        self.stages[sample.stage] = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One request about which the versions disagree: its line, what differs, and both values as texts."""

    number: int
    output: str
    baseline: str
    canary: str


@dataclass(slots=True)
class Summary:
    """The results of a replay.

    Args:
        baseline: replies of the version that is compared with.
        canary: replies of the version to judge.
        outputs: by name, in the order of the answers.
        compared: requests for which it is known whether the versions agree.
        agreed: requests for which they agree.
        undecided: requests to both for which it is unknown: neither answered, or a reply was missing or throttled.
        disagreements: the first disagreements.
        captured: time and place of the captured requests.
    """

    baseline: Side
    canary: Side
    outputs: dict[str, OutputTally] = field(default_factory=dict)
    compared: int = 0
    agreed: int = 0
    undecided: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    captured: Captured = field(default_factory=Captured)

    @property
    def agreement(self) -> float | None:
        """Return the share that agrees, 0-1; None if nothing was compared."""
        return self.agreed / self.compared if self.compared else None

    def add(self, pair: Pair) -> None:
        """Count one pair."""
        self.captured.add(pair.sample)
        self.canary.add(pair.canary, pair.versions[1])
        if pair.baseline is None:
            return
        self.baseline.add(pair.baseline, pair.versions[0])
        agrees = pair.agrees
        if agrees is None:
            self.undecided += 1
            return
        self.compared += 1
        self.agreed += agrees
        for name, output in pair.comparison.outputs.items() if pair.comparison else ():
            self.outputs.setdefault(name, OutputTally(name, output.measure)).add(output)
        if not agrees and len(self.disagreements) < MOST_DISAGREEMENTS:
            self.disagreements += _disagreements(pair)

    def to_json(self) -> dict[str, Any]:
        """Return the summary for programs; an infinity is null."""
        return {
            "agreement": self.agreement,
            "compared": self.compared,
            "agreed": self.agreed,
            "undecided": self.undecided,
            "captured": {
                "first": _finite(self.captured.first),
                "last": _finite(self.captured.last),
                "stages": list(self.captured.stages),
            },
            "versions": [_side_json(side) for side in (self.baseline, self.canary)],
            "outputs": [_output_json(output) for output in self.outputs.values()],
            "disagreements": [
                {
                    "line": disagreement.number,
                    "output": disagreement.output,
                    "baseline": disagreement.baseline,
                    "canary": disagreement.canary,
                }
                for disagreement in self.disagreements
            ],
        }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest of the ordered values that this share of them does not exceed; None if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def share_text(part: int, whole: int) -> str:
    """Return a share in percent, rounded down: less than all is always below `100.00%`."""
    return f"{part * 10_000 // whole / 100:.2f}%"


def floor_text(floor: float) -> str:
    """Return a required share, in percent with all its digits."""
    return f"{floor * 100:.10g}%"


def error_text(error: float) -> str:
    """Return a largest difference for people; texts have none."""
    return f"{error:.3g}" if math.isfinite(error) else "-"


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "version": side.name,
        "digests": {version: list(digests) for version, digests in side.digests.items()},
        "requests": side.statuses.total(),
        "errors": side.errors,
        "statuses": {str(status): count for status, count in sorted(side.statuses.items())},
        **{f"p{percent}_ms": side.quantile_ms(percent / 100) for percent in (50, 95, 99)},
    }


def _output_json(output: OutputTally) -> dict[str, Any]:
    return {
        "name": output.name,
        "measure": output.measure,
        "compared": output.compared,
        "agreed": output.agreed,
        "argmax_equal": output.argmax_equal,
        "max_absolute": _finite(output.max_absolute),
        "max_relative": _finite(output.max_relative),
        "cosine": output.cosine,
        "problems": dict(output.problems),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _disagreements(pair: Pair) -> Iterable[Disagreement]:
    assert pair.baseline is not None
    baseline, canary = pair.baseline, pair.canary
    if pair.comparison is None:
        yield Disagreement(pair.number, "-", _reply_text(baseline), _reply_text(canary))
        return
    for name, output in pair.comparison.outputs.items():
        if not output.agrees:
            yield Disagreement(
                pair.number, name, _values_text(baseline.outputs, name), _values_text(canary.outputs, name)
            )


def _reply_text(reply: SampleReply) -> str:
    return "answered" if reply.outputs is not None else f"HTTP {reply.status}: {reply.error[: _SHOWN_CHARACTERS * 3]}"


def _values_text(outputs: Mapping[str, Array] | None, name: str) -> str:
    if outputs is None or name not in outputs:
        return "missing"
    flat = outputs[name].reshape(-1)
    shown = ", ".join(map(_value_text, flat[:_SHOWN_VALUES].tolist()))
    return f"{shown}, ... ({flat.size:,} values)" if flat.size > _SHOWN_VALUES else shown


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
