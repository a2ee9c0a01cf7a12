"""The guard rail's function: ends a stage's canary when an alarm of it goes off, or is in ALARM already.

EventBridge calls it when an alarm's state changes, and once a minute; `pulumi up` calls it once a canary has started.
An alarm that was in ALARM before the canary started changes no more, so the state is asked for, too.
It is packed alone, so it imports nothing of ours.

A canary ends by its share: 0% of the requests. Its other settings stay. If they were removed, Pulumi, which compares
with what it deployed last, would send no more than what changed since: a canary with another share and no overrides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

ATTEMPTS = 6
PAUSE_S = 4.0
"""A role that was made a moment ago may not do yet what its policy allows."""


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """End the canary of one stage if it has to end.

    Args:
        event: `{"rest_api_id": ..., "stage": ...}` with `"alarm"`, the alarm that went off, or with `"alarms"`, those
            whose state is to be checked: `{"names": [...], "prefix": ..., "suffix": ...}`.
        context: Lambda's.
    """
    import boto3

    gateway = boto3.client("apigateway")
    if "alarm" in event:
        return end_canary(gateway, event, event["alarm"])
    return retry_denied(lambda: check_alarms(gateway, boto3.client("cloudwatch"), event))


def end_canary(gateway: Any, event: Mapping[str, Any], alarm: str) -> dict[str, Any]:
    """Send all traffic to the baseline again; a stage without a canary stays as it is.

    Args:
        gateway: boto3's client of API Gateway. What it raises is for Lambda, which calls again, twice.
        event: names the stage.
        alarm: why.
    """
    ended = has_traffic(gateway, event)
    if ended:
        operations = [{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0.0"}]
        gateway.update_stage(**where(event), patchOperations=operations)
    done = {"stage": event["stage"], "alarm": alarm, "ended": ended}
    print(json.dumps(done))  # noqa: T201 - the function's log
    return done


def check_alarms(gateway: Any, cloudwatch: Any, event: Mapping[str, Any]) -> dict[str, Any]:
    """End the canary of a stage if one of its alarms is in ALARM already."""
    if has_traffic(gateway, event):
        for alarm in ringing(cloudwatch, event["alarms"]):
            return end_canary(gateway, event, alarm)
    return {"stage": event["stage"], "alarm": "", "ended": False}


def has_traffic(gateway: Any, event: Mapping[str, Any]) -> bool:
    """Whether the stage has a canary that some requests see."""
    canary = gateway.get_stage(**where(event)).get("canarySettings") or {}
    return bool(canary.get("percentTraffic"))


def where(event: Mapping[str, Any]) -> dict[str, str]:
    """The stage, as API Gateway's operations name it."""
    return {"restApiId": event["rest_api_id"], "stageName": event["stage"]}


def ringing(cloudwatch: Any, alarms: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the alarms that are in ALARM."""
    names, prefix = alarms["names"], alarms["prefix"]
    requests: list[dict[str, Any]] = [{"AlarmNames": names[first : first + 100]} for first in range(0, len(names), 100)]
    requests += [{"AlarmNamePrefix": prefix}] if prefix else []
    for request in requests:
        pages = cloudwatch.get_paginator("describe_alarms").paginate(
            **request, StateValue="ALARM", AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        for page in pages:
            for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ())):
                is_meant = "AlarmNames" in request or alarm["AlarmName"].endswith(alarms["suffix"])
                if is_meant and alarm["StateValue"] == "ALARM":
                    yield alarm["AlarmName"]


def retry_denied(call: Any, sleep: Any = time.sleep) -> dict[str, Any]:
    """Call, and again while AWS denies what the role's policy allows."""
    from botocore.exceptions import ClientError

    for attempt in range(ATTEMPTS):
        try:
            done: dict[str, Any] = call()
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("AccessDenied") or attempt == ATTEMPTS - 1:
                raise
            sleep(PAUSE_S)
        else:
            return done
    raise AssertionError("unreachable")
