"""Whose requests measure a canary's agreement on AWS, and what is reported if there are none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders.manifests import manifest, stage
from turnout.manifest.parser import Canary, Capture, Manifest, Model, Version
from turnout.plan.checks.agreement_gaps import find_gap, find_logging

SOME, HIDDEN = Capture(5), Capture(5, ("x",))
NOTHING_LOGGED = "no request is logged: set `capture: {percent: 5}` at models.iris.versions.v1"


def capturing(**captures: Capture | None) -> Manifest:
    """`iris` with three versions, some of which capture requests."""
    versions = (Version("iris", name, "a.onnx", capture=captures.get(name)) for name in ("v1", "v2", "v3"))
    return manifest((Model("iris", tuple(versions)),))


@pytest.mark.parametrize(
    ("captures", "fields", "logging", "gap"),
    [
        ({"v1": SOME, "v2": SOME}, {}, ["v1", "v2"], ""),
        ({"v2": SOME}, {"auth": "api_key"}, ["v2"], ""),
        ({"v2": SOME}, {"serve": {}, "weights": {"iris": {"v3": 50, "v2": 50}}}, ["v2"], ""),
        ({}, {}, [], NOTHING_LOGGED),
        ({"v3": SOME, "v1": Capture(0)}, {}, [], NOTHING_LOGGED),
        ({"v1": HIDDEN, "v2": SOME}, {}, ["v2"], "requests to v1 are logged redacted"),
        ({"v1": HIDDEN, "v2": HIDDEN}, {}, [], "requests to v1 and v2 are logged redacted"),
        ({"v1": SOME}, {"auth": "iam"}, [], "no credentials for a stage with `auth: iam`"),
        ({"v1": SOME}, {"auth": "jwt"}, [], "no credentials for a stage with `auth: jwt`"),
        ({"v1": SOME}, {"canary": Canary(10, {"iris": "v2"}, release=True)}, [], "a release's share or the baseline"),
    ],
)
def test_gap_in_the_captures_is_reported(
    captures: dict[str, Capture], fields: dict[str, Any], logging: list[str], gap: str
) -> None:
    of = capturing(**captures)
    canaried = stage(**{"canary": Canary(10, {"iris": "v2"}), **fields})
    assert sorted(entry.name for entry in find_logging(of, canaried, "iris")) == logging
    result = find_gap(of, canaried, "iris")
    assert gap in result
    assert bool(result) == bool(gap)
