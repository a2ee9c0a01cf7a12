"""The comparison of a canary with its baseline: which requests are sent, and what is reported if none can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from tests.builders.logs import line_of, log_lines, logs_client
from tests.builders.manifests import manifest, stage
from turnout.canary.agreement import compare_here, compare_on_aws, main_version
from turnout.canary.judging.observed import AgreementCounts
from turnout.canary.observation.logged_samples import LAG_S
from turnout.canary.rollout.stage_control import StageControlError
from turnout.client.captured_lines import Sample
from turnout.manifest.judgement import Agreement, Judgement
from turnout.manifest.parser import Canary, Capture, Manifest, Model, Stage, Version

NOWHERE = "http://127.0.0.1:1"
CANARY = Canary(10, {"iris": "v2"}, judgement=Judgement(agreement=Agreement(5, 0.98)))


def capturing(capture: Capture | None) -> Manifest:
    return manifest((Model("iris", tuple(Version("iris", name, "a.onnx", capture=capture) for name in ("v1", "v2"))),))


class NoCredentials:
    """A client of AWS without credentials."""

    def get_paginator(self, _name: str) -> Any:
        raise NoCredentialsError


def unasked() -> str:
    pytest.fail("nothing is to be sent")


def unknown() -> str:
    raise StageControlError("stack live has no REST API called turnout-live_none")


def noted(of: Manifest, canaried: Stage, logs: Any, url: Callable[[], str] = unasked, now_s: float = 1e9) -> str:
    """Return the note of a comparison in which nothing was compared."""
    result = compare_on_aws(of, canaried, "live", logs, url, "", clock=lambda: now_s)(0.0)
    assert result == {"iris": AgreementCounts(0, 0, result["iris"].note)}
    return result["iris"].note


@pytest.mark.parametrize(
    ("capture", "fields", "note"),
    [
        (None, {}, "`capture: {percent: 5}` at models.iris.versions.v1"),
        (Capture(5, ("x",)), {}, "redacted"),
        (Capture(5), {"auth": "iam"}, "auth: iam"),
        (Capture(5), {"auth": "api_key"}, "prod requires an API key: pass --api-key"),
        (Capture(5), {}, "CloudWatch Logs cannot be read: Unable to locate credentials"),
    ],
)
def test_a_reason_against_comparing_on_aws_becomes_a_note(
    capture: Capture | None, fields: dict[str, Any], note: str
) -> None:
    result = noted(capturing(capture), stage(canary=CANARY, **fields), NoCredentials())
    assert note in result
    assert not result.endswith(".")


@pytest.mark.parametrize(
    ("url", "note"),
    [(lambda: NOWHERE, "no server listens at http://127.0.0.1:1"), (unknown, "no REST API called turnout-live_none")],
)
def test_an_unreachable_place_becomes_a_note(url: Callable[[], str], note: str) -> None:
    now_s = float(round(time.time()))  # the present, because moto accepts no lines of other weeks
    sample = Sample(now_s, "prod", "iris", "v1", False, "", None, b"{}", 200, 2.5, "/models/iris/inference")
    with logs_client() as logs:
        for version in ("v1", "v2"):
            log_lines(logs, f"turnout-live_iris_{version}", [line_of(sample)])
        assert note in noted(capturing(Capture(5)), stage(canary=CANARY), logs, url, now_s + LAG_S + 1)


def test_an_unreachable_gateway_becomes_a_note() -> None:
    result = compare_here(stage(canary=CANARY), NOWHERE, "")(0.0)
    assert result == {"iris": AgreementCounts(0, 0, "no server listens at http://127.0.0.1:1")}


def test_the_version_with_the_most_weight_is_the_baseline() -> None:
    assert main_version(stage(), "iris") == "v1"
    assert main_version(stage(serve={}, weights={"iris": {"v1": 10, "v2": 80, "v3": 10}}), "iris") == "v2"
