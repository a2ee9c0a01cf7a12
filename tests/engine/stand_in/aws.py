"""The table of resources, and the state that tests check afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.observability.guard_rail_function import check_alarms
from tests.engine.stand_in import gateway_resources as gateway
from tests.engine.stand_in import lambda_resources as lambdas
from tests.engine.stand_in import plain_resources as plain
from tests.engine.stand_in import request_resources as requests
from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.company_rules import WEB_ACL_ASSOCIATION
from tests.engine.stand_in.domain_resources import Domains
from tests.engine.stand_in.provider import Inputs, Resource, StandIn
from tests.engine.stand_in.tags import change_tags

ACCOUNT_ID = "123456789012"
"""The id of moto's account."""

REGION = "eu-central-1"


@dataclass
class Aws:
    """What moto does not keep, and what was sent.

    Attributes:
        sent: names of functions, layers and objects, once for each time that their zip was sent.
        stages: the stages with their canaries.
        provisioned: `function:alias` -> instances.
        snap_start: function -> which of its versions start from a snapshot.
        environment_keys: function -> the key of its environment variables, which moto keeps only at first.
        event_configs: `function:alias` -> retries of asynchronous calls, seconds in the queue.
        attachments: role -> the AWS managed policy attached to it.
        log_classes: log group -> its class.
        domains: the domains with the paths that lead to stages.
    """

    sent: list[str] = field(default_factory=list)
    stages: gateway.Stages = field(default_factory=gateway.Stages)
    provisioned: dict[str, int] = field(default_factory=dict)
    snap_start: dict[str, str] = field(default_factory=dict)
    environment_keys: dict[str, str] = field(default_factory=dict)
    event_configs: dict[str, tuple[int, int]] = field(default_factory=dict)
    attachments: dict[str, str] = field(default_factory=dict)
    log_classes: dict[str, str] = field(default_factory=dict)
    domains: Domains = field(default_factory=Domains)

    def check_canary(self, event: dict[str, Any]) -> dict[str, Any]:
        """Do what the guard rail's function does when it is called, once a minute and by `pulumi up`."""
        return check_alarms(self.stages, client_of("cloudwatch"), event)

    def resources(self) -> Mapping[str, Resource]:
        """Type token -> implementation of the resource."""
        return {
            **self.domains.resources(),
            "aws:apigateway/account:Account": gateway.ACCOUNT,
            "aws:apigateway/apiKey:ApiKey": gateway.API_KEY,
            "aws:apigateway/deployment:Deployment": gateway.DEPLOYMENT,
            "aws:apigateway/methodSettings:MethodSettings": gateway.METHOD_SETTINGS,
            "aws:apigateway/restApi:RestApi": gateway.make_rest_api(self.domains.check_unmapped),
            "aws:apigateway/stage:Stage": self.stages,
            "aws:apigateway/usagePlan:UsagePlan": gateway.USAGE_PLAN,
            "aws:apigateway/usagePlanKey:UsagePlanKey": gateway.USAGE_PLAN_KEY,
            "aws:cloudwatch/dashboard:Dashboard": plain.DASHBOARD,
            "aws:cloudwatch/eventRule:EventRule": plain.EVENT_RULE,
            "aws:cloudwatch/eventTarget:EventTarget": plain.EVENT_TARGET,
            "aws:cloudwatch/logGroup:LogGroup": plain.make_log_group(self.log_classes),
            "aws:cloudwatch/metricAlarm:MetricAlarm": plain.METRIC_ALARM,
            "aws:iam/role:Role": plain.ROLE,
            "aws:iam/rolePolicy:RolePolicy": plain.ROLE_POLICY,
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment": plain.make_attachment(self.attachments),
            "aws:lambda/alias:Alias": lambdas.ALIAS,
            "aws:lambda/function:Function": lambdas.Function(self.sent, self.snap_start, self.environment_keys),
            "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig": (
                lambdas.make_event_invoke_config(self.event_configs)
            ),
            "aws:lambda/invocation:Invocation": lambdas.make_invocation({"-guard-rail": self.check_canary}),
            "aws:lambda/layerVersion:LayerVersion": lambdas.make_layer_version(self.sent),
            "aws:lambda/permission:Permission": lambdas.PERMISSION,
            "aws:lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig": (
                lambdas.make_provisioned_concurrency(self.provisioned)
            ),
            "aws:s3/bucket:Bucket": plain.BUCKET,
            "aws:s3/bucketObjectv2:BucketObjectv2": plain.make_bucket_object(self.sent),
            "aws:wafv2/webAclAssociation:WebAclAssociation": WEB_ACL_ASSOCIATION,
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": plain.PUBLIC_ACCESS_BLOCK,
            "aws:s3/bucketCorsConfiguration:BucketCorsConfiguration": requests.CORS,
            "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": requests.LIFECYCLE,
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
                requests.ENCRYPTION
            ),
            "aws:sqs/queue:Queue": requests.QUEUE,
            "aws:lambda/eventSourceMapping:EventSourceMapping": requests.EVENT_SOURCE_MAPPING,
        }


FUNCTIONS: Mapping[str, Callable[[Inputs], dict[str, Any]]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": lambda _: {
        "accountId": ACCOUNT_ID, "arn": f"arn:aws:iam::{ACCOUNT_ID}:root", "id": ACCOUNT_ID, "userId": "test"
    },
    "aws:index/getPartition:getPartition": lambda _: {
        "partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws", "reverseDnsPrefix": "com.amazonaws"
    },
    "aws:index/getRegion:getRegion": lambda _: {
        "region": REGION, "name": REGION, "id": REGION, "endpoint": "", "description": ""
    },
}  # fmt: skip


def make_provider(aws: Aws, version: str, others: Mapping[str, Resource] = {}) -> StandIn:
    """Return the provider for an account; `others` are resources that Turnout does not use."""
    return StandIn({**aws.resources(), **others}, FUNCTIONS, version, change_tags)
