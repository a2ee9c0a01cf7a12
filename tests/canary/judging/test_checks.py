from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders.observations import BAD, EVERY, GOOD, LITTLE, NOTHING, arm, observation
from turnout.canary.judging import checks as canary_checks
from turnout.canary.judging.checks import CHECKS, Check, Verdict, judge, shares_of, verdict_of
from turnout.canary.judging.observed import AgreementCounts, Arm, Observation, quantile_s
from turnout.manifest.judgement import Agreement, Judgement

JUDGEMENT = Judgement()
ALL_AT_ONCE = Judgement(strategy="all_at_once")
AGREEING = Judgement(agreement=Agreement(5, 0.98))


def check(name: str, judgement: Judgement, seen: Observation) -> Check:
    (result,) = (entry for entry in judge(judgement, seen) if entry.name == name)
    return result


@pytest.mark.parametrize(
    ("baseline", "canary", "verdict", "sentence"),
    [
        (arm(0), arm(0), "inconclusive", "no requests to the baseline yet"),
        (arm(0), arm(50), "inconclusive", "no requests to the baseline yet"),
        (arm(900), arm(0), "inconclusive", "no requests to the canary yet; about 1,200 are needed to decide"),
        (
            arm(900, 9),
            arm(100, 1),
            "inconclusive",
            "1% of the canary's 100 requests failed, 1% of the baseline's 900; about 3,300 more are needed to decide",
        ),
        (
            arm(9000, 90),
            arm(1000, 50),
            "failed",
            "5% of the canary's 1,000 requests failed, 1% of the baseline's 9,000",
        ),
        (
            arm(90_000, 900),
            arm(10_000, 100),
            "successful",
            "1% of the canary's 10,000 requests failed, 1% of the baseline's 90,000",
        ),
        # Certainly worse, and certainly by less than the margin.
        (
            arm(9_000_000, 9_000),
            arm(1_000_000, 3_000),
            "successful",
            "0.3% of the canary's 1,000,000 requests failed, 0.1% of the baseline's 9,000,000",
        ),
    ],
)
def test_error_rate_is_compared_with_the_baseline(baseline: Arm, canary: Arm, verdict: str, sentence: str) -> None:
    result = check("errors", JUDGEMENT, observation(baseline, canary))
    assert (result.verdict, result.sentence) == (verdict, sentence)


@pytest.mark.parametrize(
    ("baseline", "canary", "verdict", "sentence"),
    [
        (
            arm(9000, slow=90),
            arm(1000, slow=10),
            "successful",
            "1% of the canary's 1,000 requests took longer than 10 ms, 1% of the baseline's 9,000",
        ),
        (
            arm(9000, slow=90),
            arm(1000, slow=200),
            "failed",
            "20% of the canary's 1,000 requests took longer than 10 ms, 1% of the baseline's 9,000",
        ),
        # One in ten of the baseline's requests is slow: the check counts requests that are slower than these.
        (
            arm(9000, slow=900),
            arm(1000, slow=900),
            "successful",
            "0% of the canary's 1,000 requests took longer than 1000 ms, 0% of the baseline's 9,000",
        ),
        (
            Arm(100, 0, (0, 0, 0, 100)),
            Arm(100, 0, (0, 0, 0, 100)),
            "inconclusive",
            "100% of the canary's 100 requests took longer than 1000 ms, 100% of the baseline's 100; "  # noqa: ISC004
            "about 2,600 more are needed to decide",
        ),
    ],
)
def test_latency_is_compared_at_the_p95_of_the_baseline(
    baseline: Arm, canary: Arm, verdict: str, sentence: str
) -> None:
    result = check("latency", JUDGEMENT, observation(baseline, canary))
    assert (result.verdict, result.sentence) == (verdict, sentence)


@pytest.mark.parametrize(
    ("states", "verdict", "sentence"),
    [
        ({"a": "OK", "b": "OK", "c": "ALARM"}, "successful", "a, b: OK"),
        ({"a": "ALARM", "b": "INSUFFICIENT_DATA"}, "failed", "a: in alarm"),
        ({"a": "ALARM"}, "failed", "a: in alarm"),
        ({"a": "OK"}, "error", "b: not found"),
        ({}, "error", "a, b: not found"),
        ({"a": "OK", "b": "INSUFFICIENT_DATA"}, "inconclusive", "b: no data yet"),
    ],
)
def test_configured_alarms_are_judged(states: dict[str, str], verdict: str, sentence: str) -> None:
    result = check("alarms", Judgement(alarms=("a", "b")), replace(GOOD, alarms=states))
    assert (result.verdict, result.sentence) == (verdict, sentence)


@pytest.mark.parametrize(
    ("floor", "counts", "verdict", "sentence"),
    [
        (0.98, (1000, 1000), "successful", "100% of 1,000 answers agreed; at least 98% must"),
        (0.98, (1000, 900), "failed", "90% of 1,000 answers agreed; at least 98% must"),
        (
            0.98,
            (50, 49),
            "inconclusive",
            "98% of 50 answers agreed; at least 98% must; about 3,500 more are needed to decide",
        ),
        (0.98, (0, 0), "inconclusive", "no answers compared yet; about 190 are needed to decide"),
        # Between the floor and the margin below it, the configured value counts.
        (0.98, (100_000, 97_500), "failed", "97.5% of 100,000 answers agreed; at least 98% must"),
        (0.99, (10_000, 9_997), "successful", "99.97% of 10,000 answers agreed; at least 99% must"),
        (1.0, (5, 4), "failed", "80% of 5 answers agreed; at least 100% must"),
        (1.0, (1000, 1000), "successful", "100% of 1,000 answers agreed; at least 100% must"),
    ],
)
def test_agreement_is_compared_with_the_floor(
    floor: float, counts: tuple[int, int], verdict: str, sentence: str
) -> None:
    seen = replace(GOOD, agreement={"iris": AgreementCounts(*counts)})
    result = check("agreement of iris", Judgement(agreement=Agreement(5, floor)), seen)
    assert (result.verdict, result.sentence) == (verdict, sentence)


def test_agreement_is_inconclusive_until_answers_are_compared() -> None:
    assert check("agreement", AGREEING, GOOD).verdict is Verdict.INCONCLUSIVE
    assert verdict_of(judge(AGREEING, GOOD)) is Verdict.INCONCLUSIVE


def test_only_configured_checks_are_made() -> None:
    def names(judgement: Judgement) -> list[str]:
        return [check.name for check in judge(judgement, GOOD)]

    assert names(JUDGEMENT) == ["errors", "latency"]
    assert names(ALL_AT_ONCE) == ["errors"]
    assert names(replace(AGREEING, alarms=("a",))) == list(CHECKS)


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [(arm(0), "inconclusive"), (arm(100), "inconclusive"), (arm(2000), "successful"), (arm(2000, 100), "failed")],
)
def test_strategy_all_at_once_is_judged_without_a_baseline(canary: Arm, verdict: str) -> None:
    assert verdict_of(judge(ALL_AT_ONCE, observation(arm(0), canary))) == verdict


def test_no_traffic_is_inconclusive() -> None:
    assert {check.verdict for check in judge(AGREEING, NOTHING)} == {Verdict.INCONCLUSIVE}


def test_needed_requests_decrease_as_requests_arrive() -> None:
    needed = [check("errors", JUDGEMENT, observation(arm(9 * n), arm(n))).needed for n in (10, 100, 500, 900)]
    assert needed == sorted(needed, key=lambda number: -(number or 0))
    assert check("errors", JUDGEMENT, observation(arm(9000), arm(1000 + (needed[-1] or 0)))).needed is None


@pytest.mark.parametrize("seen", EVERY)
def test_only_inconclusive_checks_need_more_requests(seen: Observation) -> None:
    for check in judge(AGREEING, seen):
        assert check.needed is None or check.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ("", "inconclusive"),
        ("successful", "successful"),
        ("successful inconclusive", "inconclusive"),
        ("successful inconclusive error", "error"),
        ("successful inconclusive error failed", "failed"),
    ],
)
def test_the_worst_check_decides(verdicts: str, whole: str) -> None:
    assert verdict_of(Check("", Verdict(verdict), "") for verdict in verdicts.split()) == whole


@pytest.mark.parametrize(
    ("judgement", "shares"),
    [
        (JUDGEMENT, ()),
        (Judgement(steps=(5, 25, 50)), (5, 25, 50)),
        (Judgement(steps=(5, 100)), (5,)),
        (Judgement(strategy="linear", step_percent=30), (30, 60, 90)),
        (Judgement(strategy="linear", step_percent=25), (25, 50, 75)),
        (Judgement(strategy="linear", step_percent=33.3), (33.3, 66.6, 99.9)),
        (Judgement(strategy="linear", steps=(5, 25, 50)), (5, 25, 50)),
        (ALL_AT_ONCE, (100,)),
    ],
)
def test_shares_of_each_strategy(judgement: Judgement, shares: tuple[float, ...]) -> None:
    assert shares_of(judgement) == shares


def test_more_steps_checks_and_confidence_require_more_evidence() -> None:
    def needed(judgement: Judgement) -> int:
        return check("errors", judgement, observation(arm(9000), arm(100))).needed or 0

    many = Judgement(steps=tuple(range(1, 51)))
    assert needed(JUDGEMENT) < needed(AGREEING) < needed(many)
    assert needed(JUDGEMENT) < needed(Judgement(confidence=0.999))


def test_an_equal_canary_fails_in_fewer_runs_than_the_confidence_allows() -> None:
    """With errors, latency, three steps, and continuous checking."""
    judgement = Judgement(confidence=0.9, steps=(5, 25, 50))
    runs = 60
    failed = sum(any(_fails(judgement, share, seed) for share in judgement.steps) for seed in range(runs))
    assert failed <= 0.1 * runs


def _fails(judgement: Judgement, share: float, seed: int) -> bool:
    rng = random.Random(f"{seed} {share}")
    arms = [[0, 0, 0], [0, 0, 0]]
    for number in range(600):
        one = arms[rng.random() * 100 < share]
        one[0] += 1
        one[1] += rng.random() < 0.02
        one[2] += rng.random() < 0.04
        if number % 50 == 49:
            seen = observation(arm(*arms[0]), arm(*arms[1]))
            if verdict_of(judge(judgement, seen)) is Verdict.FAILED:
                return True
    return False


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.01), (0.9, 0.01), (0.91, 1.0), (0.99, 1.0)])
def test_a_quantile_is_the_upper_bound_of_its_bucket(share: float, bound: float) -> None:
    assert quantile_s(arm(100, slow=10), LITTLE.bounds_s, share) == bound


def test_a_quantile_without_requests_is_none_and_in_the_last_bucket_infinite() -> None:
    assert quantile_s(arm(0), LITTLE.bounds_s, 0.5) is None
    assert quantile_s(Arm(), LITTLE.bounds_s, 0.5) is None
    assert quantile_s(Arm(3, 0, (0, 0, 0, 3)), LITTLE.bounds_s, 0.5) == float("inf")


def test_a_bad_canary_fails_and_a_good_one_passes() -> None:
    assert [verdict_of(judge(JUDGEMENT, seen)) for seen in (GOOD, BAD, LITTLE)] == [
        "successful",
        "failed",
        "inconclusive",
    ]


def test_every_check_and_margin_is_documented(root: Path) -> None:
    page = (root / "docs" / "judgement.md").read_text()
    assert [name for name in CHECKS if f"| {name} |" not in page] == []
    margins = [name for name in vars(canary_checks) if name.endswith(("_MARGIN", "_SHARE"))]
    assert len(margins) == 4
    assert [name for name in margins if f"`{name}`" not in page] == []


def test_the_reason_why_answers_are_not_compared_is_reported() -> None:
    result = check("agreement of iris", AGREEING, replace(GOOD, agreement={"iris": AgreementCounts(0, 0, "none came")}))
    assert result == Check("agreement of iris", Verdict.INCONCLUSIVE, "none came")
    some = check("agreement of iris", AGREEING, replace(GOOD, agreement={"iris": AgreementCounts(9, 9, "few came")}))
    assert some.sentence.startswith("100% of 9 answers agreed; at least 98% must (few came); about ")


def test_counts_are_added_and_the_latest_note_is_kept() -> None:
    result = AgreementCounts(10, 9, "no key").plus(AgreementCounts(5, 4, "no log"))
    assert result == AgreementCounts(15, 13, "no log")
