"""What the program asks of the account: old versions to delete, and layers to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.account import find_old
from infra.packages import KeptLayer, find_kept
from tests.builders.deployed import deployed, packages_of
from tests.builders.manifests import artifacts_of, manifest, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.parser import Canary
from turnout.plan.planner import make_plan

LAYER = "turnout-test_layer_arm64_python3-13"
PRESENT = "d" * 64


def alias(version: str, *weighted: str) -> dict[str, Any]:
    routing = {"RoutingConfig": {"AdditionalVersionWeights": dict.fromkeys(weighted, 0.1)}} if weighted else {}
    return {"FunctionVersion": version, **routing}


@pytest.mark.parametrize(
    ("versions", "aliases", "keep", "old"),
    [
        (["1"], [alias("1")], 0, []),
        (["1", "2", "3", "4", "5", "6", "7"], [alias("7"), alias("7")], 2, ["1", "2", "3", "4"]),
        (["1", "2", "3", "4", "5"], [alias("1"), alias("5")], 0, ["2", "3", "4"]),
        (["1", "2", "3", "4", "5"], [alias("1"), alias("5")], 2, ["2"]),
        (["1", "2", "3"], [alias("3", "1")], 0, ["2"]),
        (["8", "9", "10", "11"], [alias("11")], 1, ["8", "9"]),
        (["1", "2", "3"], [], 0, ["1", "2"]),
        (["1", "2"], [alias("$LATEST")], 0, ["1"]),
    ],
)
def test_versions_that_nothing_needs_are_old(
    versions: Sequence[str], aliases: Sequence[Mapping[str, Any]], keep: int, old: list[str]
) -> None:
    assert find_old(versions, aliases, keep) == old


numbers = st.lists(st.integers(1, 50).map(str), unique=True, min_size=1)


@given(numbers, st.data(), st.integers(0, 5))
def test_versions_named_by_an_alias_and_the_newest_are_never_old(
    versions: list[str], data: st.DataObject, keep: int
) -> None:
    named = data.draw(st.lists(st.sampled_from(versions), max_size=3))
    old = find_old(versions, [alias(name) for name in named], keep)
    assert not {*named, max(versions, key=int)} & {*old}
    left = set(versions) - set(old)
    assert len(left) >= min(len(versions), keep + 1)
    assert len(left) <= keep + 1 + len(set(named))


def kept(there: Mapping[str, Sequence[str]], keep: int | None) -> list[str]:
    place = deployed_place()
    of = manifest()
    built = packages_of(make_plan(of, artifacts_of(of)))
    return [entry.digest for entry in find_kept(built, there, place, keep)]


def deployed_place() -> Any:
    from infra.naming import Place

    return Place("aws", "eu-west-1", "123456789012", "turnout-test")


@pytest.mark.parametrize(
    ("digests", "keep", "expected"),
    [
        ([PRESENT], 2, []),
        (["a", "b", "c"], 2, ["a", "b"]),
        ([PRESENT, "a", "b", "c"], 2, ["a", "b"]),
        (["a", PRESENT, "a", "b"], 1, ["a"]),
        (["a", "b", "c"], 0, []),
        (["a", "b", "c"], None, ["a", "b", "c"]),
    ],
)
def test_layers_that_stay_in_addition_to_the_current_one(
    digests: list[str], keep: int | None, expected: list[str]
) -> None:
    assert kept({LAYER: digests}, keep) == expected


def test_unused_layer_stays_as_long_as_the_others() -> None:
    other = "turnout-test_layer_arm64_python3-13_0123"
    rows = find_kept(
        packages_of(make_plan(manifest(), artifacts_of(manifest()))), {other: ["a", "b"]}, deployed_place(), 1
    )
    assert rows == [KeptLayer(other, "a")]


def layers_of(program: Program) -> set[str]:
    return set(program.of("lambda/layerVersion:LayerVersion"))


def test_all_layers_are_declared_while_a_release_is_on_and_the_old_ones_do_not_change() -> None:
    there = {LAYER: ["e" * 64, "f" * 64, "9" * 64]}
    released = manifest(stages=(stage(canary=Canary(10, {}, release=True)),))
    present = f"layer_arm64_python3-13-{PRESENT[:16]}"
    names = {f"layer_arm64_python3-13-{digit * 16}" for digit in "ef9"}
    program = deployed(released, layers=there, keep_versions="0")
    assert layers_of(program) == {present, *names}
    for name in names:
        assert {"code", "s3Key", "s3Bucket"} <= set(program.of("lambda/layerVersion:LayerVersion")[name].ignored)
    assert layers_of(deployed(manifest(), layers=there, keep_versions="0")) == {present}
    assert len(layers_of(deployed(manifest(), layers=there))) == 3


def test_copies_are_sent_to_shadows_once() -> None:
    from dataclasses import replace

    from tests.builders.manifests import model
    from turnout.manifest.parser import Routing

    assert deployed(manifest()).of("lambda/functionEventInvokeConfig:FunctionEventInvokeConfig") == {}
    shadowed = manifest((replace(model(), routing=Routing(shadow_version="v2", shadow_percent=5)),))
    made = deployed(shadowed).of("lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
    assert made.keys() == {"iris_v2_live"}
    released = deployed(shadowed, next_alias="true").of("lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
    assert released.keys() == {"iris_v2_live", "iris_v2_next"}
    for name, entry in released.items():
        assert (entry.inputs["maximumRetryAttempts"], entry.inputs["maximumEventAgeInSeconds"]) == (0, 60)
        assert entry.inputs["qualifier"] == name.rpartition("_")[2]
