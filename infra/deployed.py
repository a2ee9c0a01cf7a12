"""The result of `deploy()`: resources by their names in models.yaml, for Pulumi programs that add to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from turnout.plan.values import Plan

from .naming import Place


@dataclass(frozen=True, slots=True)
class DeployedProject:
    """A deployed project.

    Args:
        plan: the plan made from models.yaml.
        place: account, region and the prefix of all names.
        rest_apis: stage -> its API. Stages with equal documents share one API.
        stages: stage -> its resource.
        endpoints: stage -> its address.
        api_keys: stage with `auth: api_key` -> its key, as a secret.
        functions: name -> its resource.
        aliases: name of a function -> its alias `live`.
        roles: function -> its role, and `integration` -> API Gateway's; empty if existing roles are used.
        dashboard: the stack's dashboard.
    """

    plan: Plan
    place: Place
    rest_apis: Mapping[str, aws.apigateway.RestApi]
    stages: Mapping[str, aws.apigateway.Stage]
    endpoints: Mapping[str, pulumi.Output[str]]
    api_keys: Mapping[str, pulumi.Output[str]]
    functions: Mapping[str, aws.lambda_.Function]
    aliases: Mapping[str, aws.lambda_.Alias]
    roles: Mapping[str, aws.iam.Role]
    dashboard: aws.cloudwatch.Dashboard
