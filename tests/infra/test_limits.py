"""What AWS would refuse is told before the first resource, all of it."""

from __future__ import annotations

import pulumi
import pytest

from tests.builders.deployed import deployed, packages_of
from tests.builders.manifests import manifest, stage
from turnout.manifest import Canary


def test_package_too_large_with_its_layer_is_told() -> None:
    with pytest.raises(pulumi.RunError) as raised:
        deployed(manifest(), build=lambda _project, plan: packages_of(plan, unzipped_bytes=200_000_000))
    first, second = str(raised.value).splitlines()
    assert first.startswith("iris_v1: 381.5 MB unzipped with its layer, 250.0 MB allowed: take packages out")
    assert second.startswith("iris_v2: ")


@pytest.mark.parametrize(("characters", "fits"), [(40, True), (41, False)])
def test_name_of_a_guard_rails_rule_has_64_characters_at_most(characters: int, fits: bool) -> None:
    of = manifest(stages=(stage("production", canary=Canary(10.0, {"iris": "v2"})),), platform="p" * characters)
    if fits:
        rule = deployed(of, stack="a").one("cloudwatch/eventRule:EventRule")
        assert len(rule.inputs["name"]) == 64
    else:
        with pytest.raises(pulumi.RunError, match="65 characters, 64 allowed: shorten `platform` or the stack's name"):
            deployed(of, stack="a")


def test_name_of_the_bucket_counts_where_there_is_one() -> None:
    of = manifest(platform="p" * 40)
    assert deployed(of).of("s3/bucket:Bucket") == {}
    with pytest.raises(pulumi.RunError, match=r"`p+-test-123456789012-eu-west-1`: 68 characters, 63 allowed"):
        deployed(of, build=lambda _project, plan: packages_of(plan, zip_bytes=60_000_000))
