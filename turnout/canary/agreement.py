"""Measures how often two versions agree: both answer the same requests, and their outputs are compared.

Anything that prevents a comparison is a note, not an error: the other checks must still be able to roll back a bad
canary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from turnout.canary.judging.observed import AgreementCounts
from turnout.canary.observation.logged_samples import LoggedSamples
from turnout.canary.observation.samples import GatewaySamples, Samples
from turnout.canary.observation.source import ObservationError
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_canaries import views_of
from turnout.canary.rollout.stage_control import StageControlError, StageTarget, make_client
from turnout.canary.run import Compare
from turnout.client.captured_lines import Sample
from turnout.client.connection import UnreachableError, read_local_key
from turnout.manifest.judgement import Agreement, OutputRule
from turnout.manifest.parser import Canary, Manifest, Stage
from turnout.plan.checks.agreement_gaps import find_gap, find_logging
from turnout.plan.checks.pools import find_pool_functions
from turnout.project.project import Project
from turnout.protocol.naming import function_name, function_prefix
from turnout.replay.replay import Replay, replay_headers
from turnout.system.service_tokens import find_token


def compare_for(
    project: Project, stage: Stage, target: StageTarget, connection: StageConnection, api_key: str = ""
) -> Compare | None:
    """Return the comparison of outputs for a stage's canaries; None if none of them needs one."""
    asking = [
        view
        for view in views_of(stage).values()
        if view.canary is not None and view.canary.judgement.agreement is not None
    ]
    comparisons = [_compare_one(project, view, target, connection, api_key) for view in asking]
    if len(comparisons) < 2:
        return comparisons[0] if comparisons else None
    return lambda since_s: {model: counts for one in comparisons for model, counts in one(since_s).items()}


def _compare_one(
    project: Project, stage: Stage, target: StageTarget, connection: StageConnection, api_key: str
) -> Compare:
    if target.is_local:
        folder = project.manifest.path.parent
        key = api_key or read_local_key(target.endpoint_url, folder, stage.name)
        return compare_here(stage, target.endpoint_url, key, find_token(folder, target.endpoint_url))
    logs = make_client("logs", replace(target, endpoint_url=""))
    return compare_on_aws(project.manifest, stage, target.stack, logs, connection.control.url, api_key)


def compare_here(stage: Stage, url: str, api_key: str, token: str = "") -> Compare:
    """Return the comparison for a stage that a local gateway serves, which samples requests itself.

    Args:
        stage: a stage with a canary that checks agreement.
        url: the gateway's URL.
        api_key: sent with each request, or empty.
        token: the token that the gateway's services require, or empty.
    """
    canary, _ = _asked(stage)
    return _make_compare(stage, GatewaySamples(url, token, tuple(canary.serve)), lambda: url, api_key, {}, token)


def compare_on_aws(
    manifest: Manifest,
    stage: Stage,
    stack: str,
    logs: Any,
    url: Callable[[], str],
    api_key: str,
    *,
    clock: Callable[[], float] = time.time,
) -> Compare:
    """Return the comparison for a stage on AWS, using requests that its functions log.

    Args:
        manifest: says which functions log requests.
        stage: a stage with a canary that checks agreement.
        stack: the Pulumi stack, part of the functions' names.
        logs: `boto3.client("logs")`.
        url: the API's URL; called when there is something to send.
        api_key: sent with each request, or empty.
        clock: seconds since 1970.
    """
    canary, agreement = _asked(stage)
    gaps = {model: find_gap(manifest, stage, model) for model in canary.serve}
    versions = [version for model in canary.serve for version in find_logging(manifest, stage, model)]
    if versions and stage.auth == "api_key" and not api_key:
        gaps, versions = dict.fromkeys(canary.serve, f"{stage.name} requires an API key: pass --api-key"), []
    prefix = function_prefix(manifest.platform, stack)
    functions = {
        function_name(prefix, function.model, function.name): min(1.0, agreement.percent / function.capture.percent)
        for function in versions
        if function.capture
    }
    return _make_compare(
        stage, LoggedSamples(logs, functions, clock, pools=find_pool_functions(manifest, prefix)), url, api_key, gaps
    )


def _make_compare(
    stage: Stage, samples: Samples, url: Callable[[], str], api_key: str, gaps: Mapping[str, str], token: str = ""
) -> Compare:
    canary, agreement = _asked(stage)

    def compare_model(taken: Sequence[Sample], model: str, version: str) -> AgreementCounts:
        counts = AgreementCounts(0, 0)
        if taken:
            baseline = main_version(stage, model)
            at = url()
            headers = replay_headers(at, api_key, token)
            counts = replay_pair(
                at, taken, model, baseline, version, stage=stage.name, headers=headers, rules=agreement.rules
            )
        return replace(counts, note=counts.note or gaps.get(model, ""))

    def compare(since_s: float) -> dict[str, AgreementCounts]:
        try:
            taken = samples.take(stage.name, since_s)
            return {model: compare_model(taken, model, version) for model, version in canary.serve.items()}
        except (ObservationError, StageControlError, UnreachableError) as error:
            return dict.fromkeys(canary.serve, AgreementCounts(0, 0, str(error).rstrip(".")))

    return compare


def _asked(stage: Stage) -> tuple[Canary, Agreement]:
    """Return the stage's canary and its agreement settings."""
    assert stage.canary is not None
    assert stage.canary.judgement.agreement is not None
    return stage.canary, stage.canary.judgement.agreement


def main_version(stage: Stage, model: str) -> str:
    """Return the baseline's version of a model; of several versions the one with the most weight."""
    weights = stage.weights.get(model)
    return stage.serve[model] if weights is None else max(weights, key=lambda version: weights[version])


def replay_pair(
    url: str,
    samples: Iterable[Sample],
    model: str,
    baseline: str,
    canary: str,
    *,
    stage: str = "",
    headers: Mapping[str, str] | None = None,
    rules: Mapping[str, OutputRule] | None = None,
) -> AgreementCounts:
    """Count how often the two versions agree on the model's samples; `Pair.agrees` defines which are not counted.

    Args:
        url: see `Replay`, also for the other arguments.
        samples: samples of any models.
        model: the model whose samples are sent.
        baseline: the baseline's version.
        canary: the canary's version.
        stage: the stage whose paths are called.
        headers: headers of each request.
        rules: output -> when two of its values agree.

    Raises:
        UnreachableError: no request was answered.
        ValueError: `url` is not a valid address.
    """
    with closing(Replay(url, model, canary, baseline, stage=stage, headers=headers, rules=rules)) as replay:
        pairs = list(replay.run(enumerate(samples)))
    if pairs and all(pair.canary.status == 0 for pair in pairs):
        raise UnreachableError(pairs[0].canary.error)
    verdicts = [pair.agrees for pair in pairs if pair.agrees is not None]
    refused = next((pair.canary for pair in pairs if pair.canary.outputs is None), None)
    note = f"HTTP {refused.status}: {refused.error[:120]}" if refused and not verdicts else ""
    if note and refused and refused.hint:
        note = f"{note}: {refused.hint}"
    return AgreementCounts(len(verdicts), sum(verdicts), note)
