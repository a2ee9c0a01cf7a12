"""Stages, deployments and APIs as API Gateway returns them.

Source: botocore's model of API Gateway; which empty members are left out was recorded from AWS.
"""

from __future__ import annotations

from typing import Any

from turnout.gateway.rules.stages import Deployment, StageSettings

_METHOD_SETTINGS = {
    "metricsEnabled": False,
    "dataTraceEnabled": False,
    "cachingEnabled": False,
    "cacheTtlInSeconds": 300,
    "cacheDataEncrypted": False,
    "requireAuthorizationForCacheControl": True,
    "unauthorizedCacheControlHeaderStrategy": "SUCCEED_WITH_RESPONSE_HEADER",
}


def stage_row(stage: StageSettings, started_s: float) -> dict[str, Any]:
    """Return one stage; `started_s` is when the gateway started, in seconds since 1970."""
    record, canary, throttle = stage.record, stage.canary, stage.throttle
    fields: dict[str, Any] = {
        "stageName": stage.name,
        "deploymentId": stage.deployment_id,
        "cacheClusterEnabled": False,
        "cacheClusterStatus": "NOT_AVAILABLE",
        "methodSettings": {},
        "tracingEnabled": record.is_traced,
        "createdDate": int(started_s),
        "lastUpdatedDate": int(record.updated_s or started_s),
    }
    if throttle is not None:
        limits = {"throttlingRateLimit": float(throttle.rate), "throttlingBurstLimit": throttle.burst}
        fields["methodSettings"] = {"*/*": {**_METHOD_SETTINGS, **limits}}
    if record.description:
        fields["description"] = record.description
    if stage.variables:
        fields["variables"] = dict(stage.variables)
    if canary is not None:
        settings = fields["canarySettings"] = {
            "deploymentId": canary.deployment_id,
            "percentTraffic": float(canary.percent),
            "useStageCache": canary.use_stage_cache,
        }
        if canary.overrides:
            settings["stageVariableOverrides"] = dict(canary.overrides)
    return fields


def deployment_row(deployment: Deployment) -> dict[str, Any]:
    """Return one deployment."""
    fields = {"id": deployment.id, "createdDate": int(deployment.created_s)}
    return {**fields, "description": deployment.description} if deployment.description else fields


def api_row(api_id: str, name: str, started_s: float) -> dict[str, Any]:
    """Return one REST API."""
    return {
        "id": api_id,
        "name": name,
        "createdDate": int(started_s),
        "apiKeySource": "HEADER",
        "endpointConfiguration": {"types": ["REGIONAL"]},
        "disableExecuteApiEndpoint": False,
        "tags": {},
    }
