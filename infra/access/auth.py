"""The resources of a kind of authentication besides the document: for API keys, a usage plan and a key.

`AUTH_RESOURCES` has an entry for each kind of `turnout.plan.auth.AUTH_TYPES` that has resources; the others are only in
the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pulumi
import pulumi_aws as aws

from turnout.manifest.parser import Consumer


def make_key(name: str, stage: aws.apigateway.Stage, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Make a usage plan of one stage with one key, which AWS generates; return the key's value."""
    usage = aws.apigateway.UsagePlan(
        name, name=name, api_stages=[{"api_id": stage.rest_api, "stage": stage.stage_name}], opts=opts
    )
    return _make_key(name, usage, opts)


def make_consumer(
    name: str, stage: aws.apigateway.Stage, consumer: Consumer, opts: pulumi.ResourceOptions
) -> dict[str, pulumi.Output[str]]:
    """Make a usage plan of one consumer with its keys; return their values by name. The limits apply to each key."""
    usage = aws.apigateway.UsagePlan(
        name,
        name=name,
        api_stages=[{"api_id": stage.rest_api, "stage": stage.stage_name}],
        throttle_settings={"rate_limit": consumer.rate, "burst_limit": consumer.burst} if consumer.rate else None,
        quota_settings={"limit": consumer.quota.requests, "period": consumer.quota.period.upper()}
        if consumer.quota
        else None,
        opts=opts,
    )
    return {key: _make_key(f"{name}_{key}", usage, opts) for key in consumer.keys}


def _make_key(name: str, usage: aws.apigateway.UsagePlan, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    secret = pulumi.ResourceOptions(additional_secret_outputs=["value"])
    key = aws.apigateway.ApiKey(name, name=name, opts=pulumi.ResourceOptions.merge(opts, secret))
    aws.apigateway.UsagePlanKey(name, key_id=key.id, key_type="API_KEY", usage_plan_id=usage.id, opts=opts)
    return pulumi.Output.secret(key.value)


AUTH_RESOURCES: Mapping[str, Callable[[str, aws.apigateway.Stage, pulumi.ResourceOptions], pulumi.Output[str]]] = {
    "api_key": make_key,
}
"""Kind of authentication -> function that makes its resources and returns the secret that callers send."""
