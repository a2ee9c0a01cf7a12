"""The guard rail's function: takes a stage's canary away when an alarm of it goes off.

Comes in: what the rule's target makes of the alarm's event. Goes out: what was done. Called by EventBridge; packed
alone, so it imports nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def handler(event: Mapping[str, str], context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's call
    """Remove the canary of one stage.

    Args:
        event: `{"rest_api_id": ..., "stage": ..., "alarm": ...}`.
        context: Lambda's.
    """
    import boto3

    return remove_canary(boto3.client("apigateway"), event)


def remove_canary(client: Any, event: Mapping[str, str]) -> dict[str, Any]:
    """All traffic goes to the baseline again; a stage without a canary stays as it is.

    Args:
        client: boto3's of API Gateway. What it raises is for Lambda, which calls again, twice.
        event: as `handler` gets it.
    """
    where = {"restApiId": event["rest_api_id"], "stageName": event["stage"]}
    removed = "canarySettings" in client.get_stage(**where)
    if removed:
        client.update_stage(**where, patchOperations=[{"op": "remove", "path": "/canarySettings"}])
    done = {"stage": event["stage"], "alarm": event["alarm"], "removed": removed}
    print(json.dumps(done))  # noqa: T201 - the function's log
    return done
