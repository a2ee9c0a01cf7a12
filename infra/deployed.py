"""The result of `deploy()`: resources by their names in models.yaml, for Pulumi programs that add to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from turnout.plan.values import Plan

from .naming import Place


@dataclass(frozen=True, slots=True)
class RequestResources:
    """What asynchronous requests use.

    Args:
        bucket: holds bodies, answers and states.
        queue: holds requests that wait.
        dead_letters: holds requests that failed after all attempts.
        worker: the function that runs them.
    """

    bucket: aws.s3.Bucket
    queue: aws.sqs.Queue
    dead_letters: aws.sqs.Queue
    worker: aws.lambda_.Function


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
        consumer_keys: stage -> consumer -> name of a key -> the key, as a secret.
        authorizer: the function that decides about consumers; None if no stage has any.
        domain: the domain; None without one, or if the stack only maps paths of it.
        addresses: stage -> its address at the domain; empty without one.
        requests: the resources of asynchronous requests; None if no stage accepts them.
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
    consumer_keys: Mapping[str, Mapping[str, Mapping[str, pulumi.Output[str]]]]
    authorizer: aws.lambda_.Function | None
    domain: aws.apigateway.DomainName | None
    addresses: Mapping[str, str]
    requests: RequestResources | None
