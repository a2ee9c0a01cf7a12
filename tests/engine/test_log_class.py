"""Another class of the access logs: CloudWatch cannot change the class of a log group."""

from __future__ import annotations

import boto3
from pulumi.automation import ConfigValue

from tests.engine.life import LEAVES_LOOPS, Life, touched

pytestmark = LEAVES_LOOPS

ACCESS_LOGS = "/aws/apigateway/turnout-test_api_key/prod"
WARNING = "turnout:access_log_class: the class of a log group cannot be changed: this deployment deletes"
REPLACED = {(verb, "LogGroup", name) for verb in ("delete", "create") for name in ("prod", "prod_canary")}


def test_another_class_replaces_the_access_logs_alone_and_the_preview_warns_of_it(life: Life) -> None:
    life.up()
    before = dict(life.world.aws.log_classes)
    boto3.client("logs").create_log_stream(logGroupName=ACCESS_LOGS, logStreamName="a")

    life.stack.set_config("turnout:access_log_class", ConfigValue("infrequent_access"))
    output: list[str] = []
    life.stack.preview(on_output=output.append)
    assert WARNING in "".join(output)
    assert has_logs()
    done = touched(life.up())
    assert {entry for entry in done if entry[1] == "LogGroup"} == REPLACED
    assert WARNING in life.result.stdout
    assert not has_logs()
    changed = {ACCESS_LOGS: "INFREQUENT_ACCESS", f"{ACCESS_LOGS}/Canary": "INFREQUENT_ACCESS"}
    assert life.world.aws.log_classes == {**before, **changed}
    assert life.up() == []
    assert WARNING not in life.result.stdout

    # Back again: without a named class, the provider would keep the groups as they are.
    life.stack.remove_config("turnout:access_log_class")
    assert {entry for entry in touched(life.up()) if entry[1] == "LogGroup"} == REPLACED
    assert WARNING in life.result.stdout
    assert life.world.aws.log_classes == before
    assert life.up() == []


def has_logs() -> bool:
    return bool(boto3.client("logs").describe_log_streams(logGroupName=ACCESS_LOGS)["logStreams"])
