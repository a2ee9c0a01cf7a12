"""`CreateDeployment` as a pure function: takes a request and returns the resulting stage.

Source: API Gateway's API reference; the errors for canary deployments were recorded from AWS, word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.stage_patches import bad_request, parse_number, parse_variables

INVALID = "Invalid deployment content specified."


@dataclass(frozen=True, slots=True)
class WantedDeployment:
    """The arguments of `CreateDeployment`.

    Args:
        stage: the stage to move, or None.
        description: description of the deployment.
        variables: additional variables of the stage.
        canary: the canary's settings if only the canary moves, still without a deployment.
    """

    stage: str | None
    description: str
    variables: Mapping[str, str]
    canary: CanarySettings | None


def parse_deployment(body: Mapping[str, Any]) -> WantedDeployment:
    """Return the parsed request.

    Raises:
        AwsError: a member has a wrong type.
    """
    stage, description = body.get("stageName"), body.get("description", "")
    variables, canary = _object_of(body, "variables"), body.get("canarySettings")
    if not (stage is None or isinstance(stage, str)) or not isinstance(description, str):
        raise bad_request(f"{INVALID}stageName and description must be texts")
    if not (canary is None or isinstance(canary, dict)):
        raise bad_request(f"{INVALID}canarySettings must be an object")
    settings = None if canary is None else _parse_canary(canary)
    return WantedDeployment(stage, description, parse_variables(variables), settings)


def _object_of(body: Mapping[str, Any], name: str) -> Any:
    """Return an optional member."""
    value = body.get(name)
    return {} if value is None else value


def _parse_canary(fields: Mapping[str, Any]) -> CanarySettings:
    percent = parse_number("percentTraffic", str(fields.get("percentTraffic", 0.0)), 100.0)
    overrides = parse_variables(_object_of(fields, "stageVariableOverrides"))
    return CanarySettings(percent, overrides, "", fields.get("useStageCache") is True)


def deploy(stage: StageSettings | None, wanted: WantedDeployment, deployment_id: str) -> StageSettings:
    """Return the stage with itself, or its canary, on a new deployment.

    Raises:
        AwsError: it is impossible; in AWS's recorded words.
    """
    if wanted.canary is not None:
        if not wanted.stage:
            provided = "null" if wanted.stage is None else ""
            raise bad_request(
                f"{INVALID}Non null and non empty stageName must be provided for canary deployment. "
                f"Provided value is {provided}"
            )
        if stage is None:
            raise bad_request(
                f"{INVALID}Stage {wanted.stage} must already be created before making a canary release deployment"
            )
        return replace(stage, canary=replace(wanted.canary, deployment_id=deployment_id))
    if stage is None:
        raise bad_request(f"{INVALID}Stage {wanted.stage} is not in models.yaml, which alone makes stages")
    if stage.canary is not None:
        raise bad_request(
            f"{INVALID}Non canary deployment not supported on stage {stage.name} because Canary is enabled. "
            "Provide CanarySettings in deploymentInput."
        )
    return replace(stage, deployment_id=deployment_id, variables={**stage.variables, **wanted.variables})
