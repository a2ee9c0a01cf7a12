"""The checks of a canary: is it as good as the baseline, worse, or undecided?

Pure functions.

Each check that counts requests makes one of two claims, by the tests of turnout.canary.judging.sequential:
*successful*, the canary is less than a margin worse than the baseline; *failed*, it is worse than the baseline. Either
claim is wrong in at most 1 - confidence of all runs, even though every step and every check is evaluated repeatedly:
the probability is divided among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from turnout.canary.judging.observed import Observation
from turnout.canary.judging.sequential import (
    ArmTrials,
    evidence_of_more,
    evidence_of_over,
    evidence_of_under,
    evidence_of_within,
    project,
    threshold,
)
from turnout.manifest.judgement import Judgement

ALL_AT_ONCE = "all_at_once"

ERROR_MARGIN = 0.01
"""A canary is good if its error rate is less than one percentage point above the baseline's."""

LATENCY_MARGIN = 0.05
"""The same for the share of slow requests: five percentage points."""

SLOW_SHARE = 0.05
"""A request is slow if it takes longer than the baseline's p95, the bound that at most this share of requests
exceeds.
"""

AGREEMENT_MARGIN = 0.01
"""An agreement is good once it is proved to be above the floor minus this margin; a rate exactly at the floor would
otherwise never be decided.
"""

MISSING = "MISSING"
"""The state of an alarm that does not exist."""

REQUESTS = "requests to the canary"
"""The unit that most checks count."""


class Verdict(StrEnum):
    """The verdicts on a canary."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"  # no traffic, or too little
    ERROR = "error"  # nothing could be observed


@dataclass(frozen=True, slots=True)
class Evidence:
    """Logarithms of e-values: a claim is made once its evidence reaches `enough`.

    Args:
        count: requests or comparisons so far.
        successful: evidence for "the canary is not worse than allowed".
        failed: evidence for "the canary is worse".
        enough: the evidence that either claim needs.
    """

    count: float
    successful: float
    failed: float
    enough: float


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Args:
        name: `errors`, `latency`, `alarms`, `agreement` (`agreement of iris`).
        verdict: the answer.
        sentence: the answer with its numbers, for users.
        needed: for an inconclusive check, about how many more requests to the canary (for `agreement`: comparisons) are
            needed for a decision if the rates stay the same; None if unknown.
        evidence: the evidence for both claims; None if the check counts nothing, or nothing yet.
    """

    name: str
    verdict: Verdict
    sentence: str
    needed: int | None = None
    evidence: Evidence | None = None


Question = Callable[[float], Check]
"""Makes a check, given the evidence that a claim needs."""


def judge(judgement: Judgement, observation: Observation) -> tuple[Check, ...]:
    """Return every check that the judgement configures, in `CHECKS`' order."""
    asked = [question for ask in CHECKS.values() for question in ask(judgement, observation)]
    enough = threshold((1 - judgement.confidence) / len(asked) / max(1, len(shares_of(judgement))))
    return tuple(question(enough) for question in asked)


def verdict_of(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict: a failed check outweighs one that could not be made; successful means all of them."""
    verdicts = {check.verdict for check in checks}
    for verdict in (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.SUCCESSFUL if verdicts else Verdict.INCONCLUSIVE


def shares_of(judgement: Judgement) -> tuple[float, ...]:
    """Return the percentages of a run, increasing; empty if the canary's own percentage is the only step.

    100 is not among them, except for `all_at_once`: it is the promotion, and leaves no baseline to compare with.
    """
    if judgement.strategy == ALL_AT_ONCE:
        return (100.0,)
    steps = judgement.steps
    if judgement.strategy == "linear" and not steps:
        numbers = range(1, int(100 / judgement.step_percent) + 1)
        steps = tuple(round(number * judgement.step_percent, 6) for number in numbers)
    return tuple(share for share in steps if share < 100)


def ask_errors(judgement: Judgement, observation: Observation) -> Iterator[Question]:
    """Check the canary's error rate against the baseline's or, if everything moves at once, against the margin."""
    baseline = ArmTrials(observation.baseline.requests, observation.baseline.errors)
    canary = ArmTrials(observation.canary.requests, observation.canary.errors)
    if judgement.strategy == ALL_AT_ONCE:
        measured = f"{_rate_text(canary, 'failed')}; at most {_percent(ERROR_MARGIN)} may"
        yield partial(_hold, "errors", canary, ERROR_MARGIN, 0.0, measured=measured)
    else:
        yield partial(_compare, "errors", baseline, canary, ERROR_MARGIN, fault="failed")


def ask_latency(judgement: Judgement, observation: Observation) -> Iterator[Question]:
    """Check the share of the canary's requests that are slower than the baseline's p95."""
    if judgement.strategy == ALL_AT_ONCE:
        return
    bounds_s, total = observation.bounds_s, sum(observation.baseline.durations)
    slow_at_most = SLOW_SHARE * total
    bound = next((i for i in range(len(bounds_s)) if observation.baseline.slower(i) <= slow_at_most), len(bounds_s) - 1)
    baseline = ArmTrials(total, observation.baseline.slower(bound))
    canary = ArmTrials(sum(observation.canary.durations), observation.canary.slower(bound))
    fault = f"took longer than {bounds_s[bound] * 1000:g} ms"
    # The bound is derived from the same requests that are tested against it, so the claim must hold at all bounds
    # together.
    more = threshold(1 / len(bounds_s))
    yield lambda enough: _compare("latency", baseline, canary, LATENCY_MARGIN, enough + more, fault)


def ask_alarms(judgement: Judgement, observation: Observation) -> Iterator[Question]:
    """Check CloudWatch's alarms: one in ALARM is a failure, one that cannot be read an error."""
    if judgement.alarms:
        states = {name: observation.alarms.get(name, MISSING) for name in judgement.alarms}
        yield lambda _enough: _check_alarms(states)


def ask_agreement(judgement: Judgement, observation: Observation) -> Iterator[Question]:
    """Check how often the two versions' outputs agree, against the floor."""
    if judgement.agreement is None:
        return
    floor = judgement.agreement.floor
    if not observation.agreement:
        yield partial(_wait, "agreement", "no answers compared yet")
    for model, counts in observation.agreement.items():
        name = f"agreement of {model}"
        if counts.note and not counts.compared:
            yield partial(_wait, name, counts.note)
            continue
        trials = ArmTrials(counts.compared, counts.compared - counts.agreed)
        measured = f"{_percent(1 - trials.rate)} of {counts.compared:,} answers agreed; at least {_percent(floor)} must"
        measured += f" ({counts.note})" if counts.note else ""
        yield partial(_hold, name, trials, 1 - floor, AGREEMENT_MARGIN, measured=measured, counted="answers compared")


CHECKS: Mapping[str, Callable[[Judgement, Observation], Iterator[Question]]] = {
    "errors": ask_errors,
    "latency": ask_latency,
    "alarms": ask_alarms,
    "agreement": ask_agreement,
}
"""The checks of a canary that the judgement asks for."""


def _wait(name: str, sentence: str, _enough: float) -> Check:
    return Check(name, Verdict.INCONCLUSIVE, sentence)


def _check_alarms(states: Mapping[str, str]) -> Check:
    for state, verdict, measured in (
        ("ALARM", Verdict.FAILED, "in alarm"),
        (MISSING, Verdict.ERROR, "not found"),
        ("INSUFFICIENT_DATA", Verdict.INCONCLUSIVE, "no data yet"),
    ):
        if names := [name for name in states if states[name] == state]:
            return Check("alarms", verdict, f"{', '.join(names)}: {measured}")
    return Check("alarms", Verdict.SUCCESSFUL, f"{', '.join(states)}: OK")


def _compare(name: str, baseline: ArmTrials, canary: ArmTrials, margin: float, enough: float, fault: str) -> Check:
    """Check whether the canary's fault rate is within the margin of the baseline's, or above it."""

    def claim(canary: ArmTrials, factor: float) -> Verdict:
        arms = baseline.scaled(factor), canary.scaled(factor)
        # Success is checked first: with very many requests a difference within the margin is significant, and still
        # harmless.
        if evidence_of_within(*arms, margin) >= enough:
            return Verdict.SUCCESSFUL
        return Verdict.FAILED if evidence_of_more(*arms) >= enough else Verdict.INCONCLUSIVE

    if not baseline.count:
        return Check(name, Verdict.INCONCLUSIVE, "no requests to the baseline yet")
    measured = f"{_rate_text(canary, fault)}, {_percent(baseline.rate)} of the baseline's {baseline.count:,}"
    within, more = evidence_of_within(baseline, canary, margin), evidence_of_more(baseline, canary)
    evidence = Evidence(canary.count, within, more, enough)
    return replace(_answer(name, canary, claim, measured), evidence=evidence)


def _hold(
    name: str, trials: ArmTrials, limit: float, margin: float, enough: float, measured: str, counted: str = REQUESTS
) -> Check:
    """Check whether the fault rate is above the limit, or at most the margin above it."""

    def claim(trials: ArmTrials, factor: float) -> Verdict:
        trials = trials.scaled(factor)
        # Failure is checked first: the limit is what the user configured.
        if evidence_of_over(trials, limit) >= enough:
            return Verdict.FAILED
        return Verdict.SUCCESSFUL if evidence_of_under(trials, limit + margin) >= enough else Verdict.INCONCLUSIVE

    under, over = evidence_of_under(trials, limit + margin), evidence_of_over(trials, limit)
    evidence = Evidence(trials.count, under, over, enough)
    return replace(_answer(name, trials, claim, measured, counted), evidence=evidence)


def _answer(
    name: str, trials: ArmTrials, claim: Callable[[ArmTrials, float], Verdict], measured: str, counted: str = REQUESTS
) -> Check:
    """Return the check that a claim makes.

    Args:
        name: the check's name.
        trials: the counts that decide.
        claim: returns the verdict on trials multiplied by a factor.
        measured: the sentence about the measured values.
        counted: what the trials are.
    """
    verdict = claim(trials, 1)
    if verdict is not Verdict.INCONCLUSIVE:
        return Check(name, verdict, measured)
    imagined = trials if trials.count else ArmTrials(1, 0)
    needed = project(imagined, lambda factor: claim(imagined, factor) is not Verdict.INCONCLUSIVE)
    number = "unknown how many" if needed is None else f"about {needed:,}"
    sentence = f"{measured}; {number} more" if trials.count else f"no {counted} yet; {number}"
    return Check(name, verdict, f"{sentence} are needed to decide", needed)


def _rate_text(canary: ArmTrials, fault: str) -> str:
    return f"{_percent(canary.rate)} of the canary's {canary.count:,} requests {fault}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.2g}%" if percent < 1 else f"{round(percent, 2):g}%"
