"""One stage of an API: its variables, its canary, its throttle, its log group and its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from turnout.plan.values import StagePlan

from .access.auth import AUTH_RESOURCES, make_consumer
from .observability.access_logs import make_log_groups, render_format
from .stack.log_groups import LogSettings

HEALTH_RATE, HEALTH_BURST = 10_000, 5_000
"""Limits for the health routes, which the stage's own throttle must not limit: the account's limits, which apply to all
of its APIs.
"""


@dataclass(frozen=True, slots=True)
class ApiStageArgs:
    """Arguments of a stage.

    Args:
        stage: the stage from the plan.
        api: the API's name.
        rest_api: the API's resource.
        deployment: the newest one.
        logs: settings of the access log.
        web_acl_arn: the web ACL that checks its requests, or empty.
        health_paths: paths that are not throttled.
        after: resources that must exist before the stage sends them traffic.
    """

    stage: StagePlan
    api: str
    rest_api: aws.apigateway.RestApi
    deployment: aws.apigateway.Deployment
    logs: LogSettings
    health_paths: Sequence[str]
    web_acl_arn: str = ""
    after: Sequence[pulumi.Resource] = ()


class ApiStage(pulumi.ComponentResource):
    """A stage, `https://ID.execute-api.REGION.amazonaws.com/prod`.

    `key` is the stage's own key, None if it has none; `consumer_keys` are those of its consumers, by name.

    While a canary of any kind is on, the stage keeps its own deployment and the canary gets the newest one: API Gateway
    does not associate a stage with another deployment while it has a canary. Source: API Gateway Developer Guide, "Set
    up an API Gateway canary release deployment".
    """

    def __init__(self, name: str, args: ApiStageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:ApiStage", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        planned = args.stage
        log = make_log_groups(name, args.api, planned.name, args.logs, within)
        self.stage = aws.apigateway.Stage(
            name,
            rest_api=args.rest_api.id,
            deployment=args.deployment.id,
            stage_name=planned.name,
            variables=planned.variables,
            canary_settings=_canary_settings(planned, args.deployment),
            access_log_settings={
                "destination_arn": log.arn,
                "format": render_format(has_consumers=bool(planned.consumers)),
            },
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=args.after, ignore_changes=["deployment"] if planned.canary else None
            ),
        )
        if planned.throttle is not None:
            aws.apigateway.MethodSettings(
                name,
                rest_api=args.rest_api.id,
                stage_name=self.stage.stage_name,
                method_path="*/*",
                settings={
                    "throttling_rate_limit": planned.throttle.rate,
                    "throttling_burst_limit": planned.throttle.burst,
                },
                opts=within,
            )
            for path in args.health_paths:
                for method in ("GET", "HEAD"):
                    aws.apigateway.MethodSettings(
                        f"{name}{path.replace('/', '-')}-{method.lower()}",
                        rest_api=args.rest_api.id,
                        stage_name=self.stage.stage_name,
                        method_path=f"{path.removeprefix('/')}/{method}",
                        settings={"throttling_rate_limit": HEALTH_RATE, "throttling_burst_limit": HEALTH_BURST},
                        opts=within,
                    )
        if args.web_acl_arn:
            aws.wafv2.WebAclAssociation(name, resource_arn=self.stage.arn, web_acl_arn=args.web_acl_arn, opts=within)
        make_secret = AUTH_RESOURCES.get(planned.auth)
        self.key = None if make_secret is None else make_secret(f"{args.api}_{planned.name}", self.stage, within)
        self.consumer_keys = {
            consumer.name: make_consumer(f"{args.api}_{planned.name}_{consumer.name}", self.stage, consumer, within)
            for consumer in planned.consumers
        }
        self.register_outputs({})


def _canary_settings(
    stage: StagePlan, deployment: aws.apigateway.Deployment
) -> aws.apigateway.StageCanarySettingsArgs | None:
    if stage.canary is None:
        return None
    return aws.apigateway.StageCanarySettingsArgs(
        deployment_id=deployment.id,
        percent_traffic=stage.canary.percent,
        stage_variable_overrides=stage.canary.overrides,
        # With a shared deployment the cache would answer both shares with the same responses.
        use_stage_cache=False,
    )
