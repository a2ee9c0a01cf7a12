"""How two versions agree on requests that a local gateway sampled: both answer each of them, and outputs are compared.

Comes in: a stage with a canary, the gateway's address. Goes out: counts by model. Called by `turnout canary` while it
judges; on AWS there are no samples at hand, and `turnout replay` does the same on captured requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from turnout.canary_run import Compare
from turnout.client import UnreachableError
from turnout.judgement import Agreement
from turnout.manifest import Canary, Stage
from turnout.observation.source import ObservationError
from turnout.observed import AgreementCounts
from turnout.replay import fetch_samples, replay_pair

MOST_SAMPLES = 100
"""Compared at one look, so that a look takes no longer than a moment."""


def make_compare(url: str, stage: Stage, canary: Canary, agreement: Agreement, headers: Mapping[str, str]) -> Compare:
    """The comparison of a stage's canary with its baseline.

    Args:
        url: of the gateway.
        stage: whose samples are taken.
        canary: its canary.
        agreement: with the rules for its outputs.
        headers: of each request, an API key say.
    """

    def compare() -> dict[str, AgreementCounts]:
        try:
            samples = fetch_samples(url, stage.name, MOST_SAMPLES)
            return {
                model: replay_pair(
                    url,
                    samples,
                    model,
                    main_version(stage, model),
                    version,
                    stage=stage.name,
                    headers=headers,
                    rules=agreement.rules,
                )
                for model, version in canary.serve.items()
            }
        except UnreachableError as error:
            raise ObservationError(str(error)) from error

    return compare


def main_version(stage: Stage, model: str) -> str:
    """What the baseline serves of a model; of several versions the one with the most weight."""
    weights = stage.weights.get(model)
    return stage.serve[model] if weights is None else max(weights, key=lambda version: weights[version])
