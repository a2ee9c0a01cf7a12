"""Everything that AWS would reject is reported before the first resource is made."""

from __future__ import annotations

import pulumi
import pytest

from infra.account import AccountSettings
from tests.builders.deployed import deployed, packages_of
from tests.builders.manifests import manifest, stage
from turnout.manifest.parser import Canary, Model, Version, Warm


def test_package_too_large_with_its_layer_is_reported() -> None:
    with pytest.raises(pulumi.RunError) as raised:
        deployed(manifest(), build=lambda _project, plan: packages_of(plan, unzipped_bytes=200_000_000))
    first, second = str(raised.value).splitlines()
    assert first.startswith("iris_v1: 381.5 MB unzipped with its layer, 250.0 MB allowed: take packages out")
    assert second.startswith("iris_v2: ")


@pytest.mark.parametrize(("characters", "fits"), [(34, True), (35, False)])
def test_name_of_the_guard_rail_rule_has_at_most_64_characters(characters: int, fits: bool) -> None:
    of = manifest(stages=(stage("production", canary=Canary(10.0, {"iris": "v2"})),), platform="p" * characters)
    if fits:
        rules = deployed(of, stack="a").of("cloudwatch/eventRule:EventRule")
        assert len(rules["production.check"].inputs["name"]) == 64
    else:
        with pytest.raises(pulumi.RunError, match="65 characters, 64 allowed: shorten `platform` or the stack's name"):
            deployed(of, stack="a")


def test_name_of_the_bucket_is_checked_if_there_is_one() -> None:
    of = manifest(platform="p" * 40)
    assert deployed(of).of("s3/bucket:Bucket") == {}
    with pytest.raises(pulumi.RunError, match=r"`p+-test-123456789012-eu-west-1`: 68 characters, 63 allowed"):
        deployed(of, build=lambda _project, plan: packages_of(plan, zip_bytes=60_000_000))


def account(code_gb: float = 75, used_gb: float = 0, concurrency: int = 1000) -> AccountSettings:
    return AccountSettings(int(code_gb * 2**30), int(used_gb * 2**30), concurrency)


@pytest.mark.parametrize(("keep", "fits"), [(3, True), (4, False)])
def test_code_storage_of_the_account_includes_every_kept_version(keep: int, fits: bool) -> None:
    def deploy() -> object:
        return deployed(
            manifest(),
            build=lambda _project, plan: packages_of(plan, zip_bytes=2**28),  # four packages: 1 GB
            account=account(code_gb=5),
            keep_versions=str(keep),
        )

    if fits:
        deploy()
    else:
        with pytest.raises(pulumi.RunError, match=r"code storage: 6.0 GB with 4 old versions .* 5.0 GB allowed: keep"):
            deploy()


@pytest.mark.parametrize(("concurrency", "refused"), [(1000, False), (400, False), (399, True), (10, True)])
def test_reserved_concurrency_is_checked_against_the_limit_of_the_account(concurrency: int, refused: bool) -> None:
    versions = tuple(Version("iris", name, "a.onnx", reserved_concurrency=150) for name in ("v1", "v2"))
    of = manifest((Model("iris", versions),))
    if refused:
        with pytest.raises(pulumi.RunError, match="reserved_concurrency: 300 in all"):
            deployed(of, account=account(concurrency=concurrency))
    else:
        deployed(of, account=account(concurrency=concurrency))
    deployed(of)  # the limit is unknown


def test_provisioned_concurrency_is_checked_against_the_limit_of_the_account() -> None:
    versions = tuple(Version("iris", name, "a.onnx", warm=Warm(provisioned=150)) for name in ("v1", "v2"))
    of = manifest((Model("iris", versions),))
    deployed(of, account=account(concurrency=400))
    with pytest.raises(pulumi.RunError, match=r"300 in all, 299 allowed .* `provisioned` without"):
        deployed(of, account=account(concurrency=399))


def test_key_of_another_region_is_rejected() -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1"
    version = Version("iris", "v1", "s3://ours/a.onnx", "a" * 64, kms_key_arn=key)
    with pytest.raises(pulumi.RunError, match="kms_key_arn: the key is in us-east-1, the stack in eu-west-1"):
        deployed(manifest((Model("iris", (version,)),)))


@pytest.mark.parametrize("value", ["-1", "1001"])
def test_number_of_kept_versions_is_checked(value: str) -> None:
    with pytest.raises(pulumi.RunError, match=f"turnout:keep_versions: must be 0-1000, got {value}"):
        deployed(manifest(), keep_versions=value)


@pytest.mark.parametrize(
    ("stack", "remedy"),
    [
        ("eu-prod", "run `pulumi stack rename prod` and set `platform: turnout-eu` in models.yaml"),
        ("Prod", "To accept that, run `pulumi config set turnout:new_names true`"),
    ],
)
def test_stack_of_an_older_version_keeps_its_names_unless_the_user_asks_for_new_ones(stack: str, remedy: str) -> None:
    before = {"functions": [f"turnout-{stack}_iris_v1"]}
    with pytest.raises(pulumi.RunError) as raised:
        deployed(manifest(), stack=stack, before=before)
    assert f"the names of this stack start with `turnout-{stack}`" in str(raised.value)
    assert remedy in str(raised.value)

    moved = deployed(manifest(), stack=stack, before=before, new_names="true")
    (name,) = (
        entry.inputs["name"] for entry in moved.of("lambda/function:Function").values() if entry.name == "iris_v1"
    )
    assert name.startswith(f"turnout-{stack}--")
    assert deployed(manifest(), stack=stack, before={"functions": [name]}).outputs["functions"]


def test_stack_that_is_renamed_as_advised_keeps_every_name() -> None:
    before = {"functions": ["turnout-eu-prod_iris_v1"]}
    renamed = deployed(manifest(platform="turnout-eu"), stack="prod", before=before)
    assert "turnout-eu-prod_iris_v1" in renamed.outputs["functions"]
