"""The guard rail's function: ends a canary when one of its alarms goes off or is already in ALARM.

EventBridge calls it when an alarm's state changes, and once a minute; `pulumi up` calls it after a canary has started.
An alarm that was in ALARM before the canary started does not change its state, so the function also reads the states.
It is packaged alone, so it imports none of Turnout's modules.

The function ends a stage's canary by setting its share to 0% of the requests; the other settings stay. If they were
removed, Pulumi, which compares with its last deployment, would send only what changed since then: a canary with another
share and no overrides. It ends a routed canary by setting the choice of the model's router to the baseline's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

ATTEMPTS = 6
PAUSE_S = 4.0
"""A role that was just created may not have the permissions of its policy yet."""


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """End the canary of one stage, or its routed canaries, if an alarm requires it.

    Args:
        event: `{"rest_api_id": ..., "stage": ...}` with `"alarm"`, the alarm that went off, or with `"alarms"`, the
            alarms to check: `{"names": [...], "prefix": ..., "suffix": ...}`. If it has `"routed"`, it is about these
            routed canaries (`RoutedGuard`), with or without `"alarm"`.
        context: Lambda's context.
    """
    import boto3

    gateway = boto3.client("apigateway")
    if "alarm" in event and "routed" in event:
        return end_routed(gateway, event, [event["alarm"]])
    if "alarm" in event:
        return end_canary(gateway, event, event["alarm"])
    return retry_denied(lambda: check_alarms(gateway, boto3.client("cloudwatch"), event))


def end_canary(gateway: Any, event: Mapping[str, Any], alarm: str) -> dict[str, Any]:
    """Send all traffic to the baseline again. A stage without a canary is not changed.

    Args:
        gateway: boto3's client of API Gateway. Its exceptions reach Lambda, which retries the call twice.
        event: contains the stage.
        alarm: the alarm that is the reason.
    """
    ended = has_traffic(gateway, event)
    if ended:
        operations = [{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0.0"}]
        gateway.update_stage(**where(event), patchOperations=operations)
    done = {"stage": event["stage"], "alarm": alarm, "ended": ended}
    print(json.dumps(done))  # noqa: T201 - the function's log
    return done


def check_alarms(gateway: Any, cloudwatch: Any, event: Mapping[str, Any]) -> dict[str, Any]:
    """End a stage's canary, or its routed ones, if one of its alarms is already in ALARM."""
    if "routed" in event:
        names = sorted({name for entry in splitting(gateway, event) for name in entry["alarms"]})
        return end_routed(gateway, event, [*ringing(cloudwatch, {"names": names, "prefix": ""})])
    if has_traffic(gateway, event):
        for alarm in ringing(cloudwatch, event["alarms"]):
            return end_canary(gateway, event, alarm)
    return {"stage": event["stage"], "alarm": "", "ended": False}


def end_routed(gateway: Any, event: Mapping[str, Any], alarms: Collection[str]) -> dict[str, Any]:
    """Send all requests of the models whose alarms these are to their baselines again, in one call."""
    ended = [entry for entry in splitting(gateway, event) if set(entry["alarms"]) & set(alarms)] if alarms else []
    if ended:
        operations = [
            {"op": "replace", "path": f"/variables/{entry['variable']}", "value": entry["baseline"]} for entry in ended
        ]
        gateway.update_stage(**where(event), patchOperations=operations)
    models = [entry["model"] for entry in ended]
    done = {"stage": event["stage"], "alarms": sorted(alarms), "models": models, "ended": bool(ended)}
    if alarms:
        print(json.dumps(done))  # noqa: T201 - the function's log
    return done


def splitting(gateway: Any, event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the routed canaries that get requests: not those that were ended or promoted since `pulumi up`."""
    variables = gateway.get_stage(**where(event)).get("variables") or {}
    return [entry for entry in event["routed"] if is_split(variables.get(entry["variable"], ""), entry)]


def is_split(route: str, entry: Mapping[str, Any]) -> bool:
    """Whether a router's choice, `v1.90,v2.10`, sends requests to a canary's version.

    If that version alone gets requests, the canary has 100%, as deployed, or it was promoted.
    """
    shares = dict(part.partition(".")[::2] for part in route.split(","))
    versions = {version for version, percent in shares.items() if percent.strip("0.")}
    return entry["version"] in versions and (len(versions) > 1 or route == entry["deployed"])


def has_traffic(gateway: Any, event: Mapping[str, Any]) -> bool:
    """Whether the stage has a canary that gets traffic."""
    canary = gateway.get_stage(**where(event)).get("canarySettings") or {}
    return bool(canary.get("percentTraffic"))


def where(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments with which API Gateway's operations identify the stage."""
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
    """Call a function, and retry while AWS denies what the role's policy allows."""
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
