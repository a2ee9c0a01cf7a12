"""Connects to the place where a stage is served: a gateway on this machine, or API Gateway."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from turnout.canary.observation.cloudwatch import CloudWatchSource
from turnout.canary.observation.local import LocalSource
from turnout.canary.rollout.local_stage import LocalFunctions, LocalStage
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_control import (
    ApiGatewayStage,
    BucketTables,
    LambdaFunctions,
    StageTarget,
    make_client,
)
from turnout.manifest.judgement import Judgement
from turnout.plan.checks.pools import find_pool_functions
from turnout.plan.planner import api_name
from turnout.plan.stages import plan_stage
from turnout.project.project import Project
from turnout.protocol.naming import function_prefix
from turnout.system.service_tokens import find_token


def connect(project: Project, target: StageTarget, stage: str, judgement: Judgement | None = None) -> StageConnection:
    """Return the connection to a target's stage, without sending anything. `judgement` names the alarms to read."""
    manifest = project.manifest
    served = manifest.stage(stage)
    prefix = function_prefix(manifest.platform, target.stack)
    api = api_name(prefix, plan_stage(served, manifest.models))
    if target.is_local:
        url = target.endpoint_url
        token = find_token(project.manifest.path.parent, url)
        return StageConnection(LocalStage(url, api, stage, token), LocalFunctions(url, token), LocalSource(url, token))
    tables = BucketTables(partial(make_client, target=target), prefix, str(target))
    control = ApiGatewayStage(make_client("apigateway", target), api, stage, str(target), tables)
    pools = find_pool_functions(manifest, prefix)
    functions = LambdaFunctions(make_client("lambda", target), pools)
    alarms = judgement.alarms if judgement else ()
    source = CloudWatchSource(make_client("cloudwatch", replace(target, endpoint_url="")), alarms, pools=pools)
    return StageConnection(control, functions, source, source.ringing)
