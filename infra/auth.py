"""What a kind of authentication needs of AWS beside the document: for API keys, a usage plan and a key.

`AUTH_RESOURCES` has a row for each kind of `turnout.plan.auth.AUTH_TYPES` that has resources; the others stand in the
document alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pulumi
import pulumi_aws as aws


def make_key(name: str, stage: aws.apigateway.Stage, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """A usage plan of one stage with one key, which AWS thinks up; its value."""
    usage = aws.apigateway.UsagePlan(
        name, name=name, api_stages=[{"api_id": stage.rest_api, "stage": stage.stage_name}], opts=opts
    )
    secret = pulumi.ResourceOptions(additional_secret_outputs=["value"])
    key = aws.apigateway.ApiKey(name, name=name, opts=pulumi.ResourceOptions.merge(opts, secret))
    aws.apigateway.UsagePlanKey(name, key_id=key.id, key_type="API_KEY", usage_plan_id=usage.id, opts=opts)
    return pulumi.Output.secret(key.value)


AUTH_RESOURCES: Mapping[str, Callable[[str, aws.apigateway.Stage, pulumi.ResourceOptions], pulumi.Output[str]]] = {
    "api_key": make_key,
}
"""Kind of authentication -> what makes its resources and tells the secret that callers send."""
