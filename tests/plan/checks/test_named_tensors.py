"""Tensors that captures and agreements name must exist."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.parser import Agreement, Canary, Capture, Judgement, Manifest, Model, OutputRule, Version
from turnout.plan.checks.named_tensors import check_named_tensors
from turnout.plan.planner import make_plan
from turnout.problems import ProblemsError

EQUAL = OutputRule("equal")


def problems_of(of: Manifest) -> list[str]:
    signatures = {key: artifact.signature for key, artifact in artifacts_of(of).items()}
    return [str(problem) for problem in check_named_tensors(of, signatures)]


def judged(*outputs: str) -> Judgement:
    return Judgement(agreement=Agreement(5, 0.9, dict.fromkeys(outputs, EQUAL)))


def with_canary(judgement: Judgement) -> Manifest:
    return manifest(stages=(stage(canary=Canary(10, {"iris": "v2"}, judgement=judgement)),))


def test_existing_tensors_are_accepted() -> None:
    versions = (Version("iris", "v1", "a.onnx", capture=Capture(1, ("x",))),)
    assert problems_of(manifest((Model("iris", versions),))) == []
    assert problems_of(with_canary(judged("y"))) == []
    assert problems_of(replace(with_canary(judged("y")), judgement=judged("y"))) == []


def test_unknown_input_is_reported_with_the_existing_ones() -> None:
    versions = (Version("iris", "v1", "a.onnx", capture=Capture(1, ("x", "age"))),)
    (problem,) = problems_of(manifest((Model("iris", versions),)))
    assert "models.iris.versions.v1.capture.redact.1: unknown input `age`" in problem
    assert "Known inputs: x." in problem


def test_unknown_output_of_a_canary_is_reported() -> None:
    (problem,) = problems_of(with_canary(judged("y", "label")))
    assert "stages.prod.canary.agreement.rules.label: unknown output `label`" in problem


def test_unknown_output_of_the_defaults_is_reported_there_once() -> None:
    rules = judged("label")
    (problem,) = problems_of(replace(with_canary(rules), judgement=rules))
    assert "defaults.canary.agreement.rules.label: unknown output `label`" in problem


def test_nothing_is_reported_if_a_version_was_not_read() -> None:
    of = replace(with_canary(judged("label")), judgement=judged("other"))
    assert list(check_named_tensors(of, {})) == []


def test_plan_is_rejected() -> None:
    of = replace(manifest((model(),)), judgement=judged("label"))
    with pytest.raises(ProblemsError, match="unknown output `label`"):
        make_plan(of, artifacts_of(of))
