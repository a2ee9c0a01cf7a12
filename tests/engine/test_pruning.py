"""Old versions of functions and layers: which ones stay, which ones are deleted, and which ones a release still
uses.
"""

from __future__ import annotations

import boto3
import pytest

from tests.engine.life import LEAVES_LOOPS, Life, touched

pytestmark = LEAVES_LOOPS

IRIS = "turnout-test_iris_v1"
LAYER = "turnout-test_layer_arm64_python3-13"


def versions(function: str = IRIS) -> list[str]:
    rows = boto3.client("lambda").list_versions_by_function(FunctionName=function)["Versions"]
    return sorted((entry["Version"] for entry in rows if entry["Version"] != "$LATEST"), key=int)


def layers() -> list[int]:
    result = boto3.client("lambda").list_layer_versions(LayerName=LAYER)["LayerVersions"]
    return sorted(entry["Version"] for entry in result)


def layer_of(function: str, alias: str) -> int:
    made = boto3.client("lambda").get_function_configuration(FunctionName=function, Qualifier=alias)
    return int(made["Layers"][0]["Arn"].rpartition(":")[2])


def release(life: Life, number: int, *, layer: bool = False) -> None:
    life.project.code = str(number)
    if layer:
        life.project.layer = f"layer {number}"
    life.up()


def test_after_seven_deployments_three_versions_remain(life: Life) -> None:
    for number in range(1, 8):
        release(life, number)
    assert versions() == ["5", "6", "7"]
    assert life.alias(IRIS, "live") == "7"
    assert versions("turnout-test_router") == ["5", "6", "7"]
    assert life.up() == []
    assert versions() == ["5", "6", "7"]


@pytest.mark.parametrize(("keep", "left"), [("0", ["4"]), ("9", ["1", "2", "3", "4"])])
def test_a_stack_configures_how_many_versions_stay(life: Life, keep: str, left: list[str]) -> None:
    from pulumi.automation import ConfigValue

    life.stack.set_config("turnout:keep_versions", ConfigValue(keep))
    for number in range(1, 5):
        release(life, number)
    assert versions() == left


def test_a_preview_deletes_nothing(life: Life) -> None:
    for number in range(1, 4):
        release(life, number)
    client = boto3.client("lambda")
    client.publish_version(FunctionName=IRIS)
    client.update_function_code(FunctionName=IRIS, ZipFile=b"another")
    client.publish_version(FunctionName=IRIS)
    before = versions()
    life.stack.preview(on_output=lambda _: None)
    assert versions() == before


def test_layers_follow_the_same_number_and_are_deleted_with_the_stack(life: Life) -> None:
    for number in range(1, 6):
        release(life, number, layer=True)
    assert layers() == [3, 4, 5]
    assert layer_of(IRIS, "live") == 5
    assert life.up() == []
    life.stack.destroy(on_output=lambda _: None)
    assert layers() == []


def test_layer_and_version_of_the_baseline_stay_during_a_release(life: Life) -> None:
    from pulumi.automation import ConfigValue

    life.stack.set_config("turnout:keep_versions", ConfigValue("0"))
    life.up()
    prod = life.project.prod
    prod["canary"] = {"percent": 10, "release": True}
    for number in range(2, 6):
        release(life, number, layer=True)
    # The baseline runs its old version, the canary the newest; nothing uses those in between.
    assert (life.alias(IRIS, "live"), life.alias(IRIS, "next")) == ("1", "5")
    assert versions() == ["1", "5"]
    assert {1, 5} <= set(layers())
    assert (layer_of(IRIS, "live"), layer_of(IRIS, "next")) == (1, 5)

    # Promoted: the baseline's versions are old now.
    del prod["canary"]
    life.up()
    assert versions() == ["5"]
    assert layers() == [5]
    assert {entry[:2] for entry in touched(life.up())} == {("delete", "Alias")}
    assert life.up() == []


def test_shadow_copies_are_sent_only_once_and_only_to_possible_shadows(life: Life) -> None:
    versions_of_iris = life.project.tree["models"]["iris"]
    versions_of_iris["versions"]["v2"] = {"artifact": "models/iris/v2/model.onnx"}
    versions_of_iris["routing"] = {"shadow": {"version": "v2", "percent": 5}}
    life.up()
    once = (0, 60)
    assert life.world.aws.event_configs == {"turnout-test_iris_v2:live": once}
    assert life.up() == []
    del versions_of_iris["routing"]
    life.up()
    assert life.world.aws.event_configs == {}
