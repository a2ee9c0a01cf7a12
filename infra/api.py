"""One REST API: the document, its deployment, its stages.

The document is known at preview time, so a preview shows which routes change, and the document's hash decides whether a
new deployment is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from turnout.plan.values import Api

from .stack.log_groups import LogSettings
from .stack.settings import NetworkSettings
from .stages import ApiStage, ApiStageArgs


@dataclass(frozen=True, slots=True)
class RestApiArgs:
    """Arguments of an API.

    Args:
        api: the API from the plan.
        document: its OpenAPI document, JSON.
        logs: settings of the access logs.
        network: from where the API can be called.
        after: resources that must exist before a stage sends it traffic.
        roles: the roles that the document names; they must exist before API Gateway imports it.
        disable_execute_api: whether the API can be called only through a custom domain.
    """

    api: Api
    document: str
    logs: LogSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    after: Sequence[pulumi.Resource] = ()
    roles: Sequence[pulumi.Resource] = ()
    disable_execute_api: bool = False


IMPORT = {"ignore": "documentation"}
"""Parameters of PutRestApi. Without `ignore`, the import makes a documentation part of every `description` and
`summary`, and an API may have at most 2,000 of them. The stages' own `/openapi.json` contains all of the documentation.
Source: botocore, `PutRestApi.parameters`; API Gateway Developer Guide, "Quotas".
"""


class ApiComponent(pulumi.ComponentResource):
    """An API with its stages.

    Attributes:
        rest_api: the Pulumi resource.
        rest_api_id: the identifier that AWS assigned.
        stages: name -> stage.
    """

    def __init__(self, name: str, args: RestApiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:RestApi", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        endpoints = args.network.vpc_endpoint_ids
        rest_api = aws.apigateway.RestApi(
            name,
            name=args.api.name,
            body=args.document,
            parameters=IMPORT,
            endpoint_configuration={"types": "PRIVATE", "vpc_endpoint_ids": list(endpoints)}
            if endpoints
            else {"types": "REGIONAL"},
            disable_execute_api_endpoint=True if args.disable_execute_api else None,
            opts=pulumi.ResourceOptions(parent=self, depends_on=args.roles),
        )
        deployment = aws.apigateway.Deployment(
            name,
            rest_api=rest_api.id,
            triggers={"document": hashlib.sha256(args.document.encode()).hexdigest()},
            # A stage with a canary keeps the previous deployment; AWS deletes all deployments with the API.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        self.rest_api = rest_api
        self.rest_api_id: pulumi.Output[str] = rest_api.id
        health_paths = tuple(route.path for route in args.api.routes if route.kind == "health")
        self.stages = {
            stage.name: ApiStage(
                stage.name,
                ApiStageArgs(
                    stage,
                    args.api.name,
                    rest_api,
                    deployment,
                    args.logs,
                    health_paths,
                    args.network.web_acl_arn,
                    args.after,
                ),
                within,
            )
            for stage in args.api.stages
        }
        self.register_outputs({})
