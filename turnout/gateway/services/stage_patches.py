"""`UpdateStage`'s patch operations as pure functions: take a stage and operations, return the resulting stage.

Source: API Gateway's API reference, "patch operations", and errors recorded from AWS, word for word. Not recorded, and
worded similarly: values out of range, the removal of something missing, other operations.

What has no meaning on this machine (caches, access logs, settings of single methods) is rejected, not silently
accepted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.aws_wire import AwsError
from turnout.manifest.parser import Throttle

MOST_VARIABLES = 100
ACCOUNT_RATE = 10_000.0
ACCOUNT_BURST = 5_000
"""The default settings of a method."""

VALID_PATHS = (
    "[/deploymentId, /description, /cacheClusterEnabled, /cacheClusterSize, /clientCertificateId, /accessLogSettings, "
    "/accessLogSettings/destinationArn, /accessLogSettings/format, /{resourcePath}/{httpMethod}/metrics/enabled, "
    "/{resourcePath}/{httpMethod}/logging/dataTrace, /{resourcePath}/{httpMethod}/logging/loglevel, "
    "/{resourcePath}/{httpMethod}/throttling/burstLimit/{resourcePath}/{httpMethod}/throttling/rateLimit"
    "/{resourcePath}/{httpMethod}/caching/ttlInSeconds, /{resourcePath}/{httpMethod}/caching/enabled, "
    "/{resourcePath}/{httpMethod}/caching/dataEncrypted, "
    "/{resourcePath}/{httpMethod}/caching/requireAuthorizationForCacheControl, "
    "/{resourcePath}/{httpMethod}/caching/unauthorizedCacheControlHeaderStrategy, /*/*/metrics/enabled, "
    "/*/*/logging/dataTrace, /*/*/logging/loglevel, /*/*/throttling/burstLimit /*/*/throttling/rateLimit "
    "/*/*/caching/ttlInSeconds, /*/*/caching/enabled, /*/*/caching/dataEncrypted, "
    "/*/*/caching/requireAuthorizationForCacheControl, /*/*/caching/unauthorizedCacheControlHeaderStrategy, "
    "/variables/{variable_name}, /tracingEnabled]"
)
"""AWS's list, with its missing commas."""

_NOT_HERE = re.compile(
    r"/cacheCluster(Enabled|Size)|/clientCertificateId|/accessLogSettings(/destinationArn|/format)?"
    r"|/.+/[^/]+/(metrics|logging|throttling|caching)/[A-Za-z]+"
)
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_VARIABLE_VALUE = re.compile(r"[A-Za-z0-9._~:/?#&=,-]{1,512}")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COPIES = {"/deploymentId": "/canarySettings/deploymentId", "/variables": "/canarySettings/stageVariableOverrides"}


@dataclass(frozen=True, slots=True)
class PatchOperation:
    """One operation: `source` is called `from` in the request; missing fields are None."""

    op: str
    path: str
    value: str | None = None
    source: str | None = None


def parse_operations(body: Mapping[str, Any]) -> tuple[PatchOperation, ...]:
    """Return the operations of one call.

    Raises:
        AwsError: they are not a list of such objects.
    """
    listed = body.get("patchOperations")
    listed = [] if listed is None else listed
    if not isinstance(listed, list) or not all(isinstance(operation, dict) for operation in listed):
        raise bad_request("Invalid patch operations specified: expected a list of objects")
    operations = []
    for operation in listed:
        texts = [operation.get(key) for key in ("op", "path", "value", "from")]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise bad_request("Invalid patch operations specified: op, path, value and from must be texts")
        operations.append(PatchOperation(texts[0] or "", texts[1] or "", texts[2], texts[3]))
    return tuple(operations)


def apply_operations(
    stage: StageSettings, operations: Collection[PatchOperation], deployments: Collection[str]
) -> StageSettings:
    """Return the stage after all operations, each applied to the result of the previous one.

    Args:
        stage: the current stage.
        operations: in order.
        deployments: the existing ids.

    Raises:
        AwsError: one of them is rejected.
    """
    for operation in operations:
        match operation.op:
            case "replace":
                stage = _replace(stage, operation.path, operation.value, deployments)
            case "remove":
                stage = _remove(stage, operation.path)
            case "copy":
                stage = _copy(stage, operation.path, operation.source)
            case _:
                raise bad_request(f"Invalid {operation.op} operation with path: {operation.path}")
    return stage


def _replace(stage: StageSettings, path: str, value: str | None, deployments: Collection[str]) -> StageSettings:
    match path.split("/")[1:]:
        case ["deploymentId"]:
            return replace(stage, deployment_id=check_deployment(value, deployments))
        case ["variables", name]:
            return replace(stage, variables=with_variable(stage.variables, name, value))
        case ["canarySettings", *inner]:
            canary = stage.canary or CanarySettings(0.0, {}, stage.deployment_id)
            return replace(stage, canary=_replace_in_canary(canary, path, inner, value, deployments))
        case ["description"]:
            return replace(stage, record=replace(stage.record, description=value or ""))
        case ["tracingEnabled"]:
            return replace(stage, record=replace(stage.record, is_traced=_flag(path, value)))
        case ["*", "*", "throttling", "rateLimit"]:
            return replace(stage, throttle=replace(_throttle(stage), rate=parse_number(path, value, math.inf)))
        case ["*", "*", "throttling", "burstLimit"]:
            return replace(stage, throttle=replace(_throttle(stage), burst=int(parse_number(path, value, 2**31 - 1))))
    raise _invalid_path(path)


def _replace_in_canary(
    canary: CanarySettings, path: str, inner: list[str], value: str | None, deployments: Collection[str]
) -> CanarySettings:
    match inner:
        case ["percentTraffic"]:
            return replace(canary, percent=parse_number(path, value, 100.0))
        case ["deploymentId"]:
            return replace(canary, deployment_id=check_deployment(value, deployments))
        case ["useStageCache"]:
            return replace(canary, use_stage_cache=_flag(path, value))
        case ["stageVariableOverrides", name]:
            return replace(canary, overrides=with_variable(canary.overrides, name, value))
    raise _invalid_path(path)


def _remove(stage: StageSettings, path: str) -> StageSettings:
    canary = stage.canary
    match path.split("/")[1:]:
        case ["canarySettings"] if canary is not None:
            return replace(stage, canary=None)
        case ["canarySettings", "stageVariableOverrides", name] if canary is not None and name in canary.overrides:
            return replace(stage, canary=replace(canary, overrides=_without(canary.overrides, name)))
        case ["variables", name] if name in stage.variables:
            return replace(stage, variables=_without(stage.variables, name))
        case ["description"]:
            return replace(stage, record=replace(stage.record, description=""))
        case ["*", "*"] if stage.throttle is not None:
            return replace(stage, throttle=None)
    name = path.removeprefix("/")
    raise bad_request(f"Cannot remove method setting {name} because there is no method setting for this method ")


def _copy(stage: StageSettings, path: str, source: str | None) -> StageSettings:
    if source is None or _COPIES.get(path) != source:
        raise bad_request(
            f"Invalid copy operation with path: {path} and from {source}. "
            f"Valid copy:path are [{', '.join(_COPIES)}] and valid copy:from are [{', '.join(_COPIES.values())}]"
        )
    if stage.canary is None:
        raise bad_request("Promotion not available. Canary does not exist.")
    if path == "/deploymentId":
        return replace(stage, deployment_id=stage.canary.deployment_id)
    return replace(stage, variables={**stage.variables, **stage.canary.overrides})


def check_deployment(value: str | None, deployments: Collection[str]) -> str:
    """Return a deployment's id.

    Raises:
        AwsError: there is no deployment with this id.
    """
    if value not in deployments or value is None:
        raise bad_request("Deployment id does not exist")
    return value


def with_variable(variables: Mapping[str, str], name: str, value: str | None) -> Mapping[str, str]:
    """Return the variables with an additional or changed one.

    Raises:
        AwsError: the name or value contains invalid characters, or there are too many variables.
    """
    if _VARIABLE_NAME.fullmatch(name) is None:
        raise bad_request(f"Invalid stage variable name {name!r}: letters, digits and underscores, at most 64")
    if value is None or _VARIABLE_VALUE.fullmatch(value) is None:
        raise bad_request(
            f"Invalid value {value!r} of stage variable {name}: letters, digits and -._~:/?#&=, , at most 512"
        )
    changed = {**variables, name: value}
    if len(changed) > MOST_VARIABLES:
        raise bad_request(f"A stage has at most {MOST_VARIABLES} stage variables")
    return changed


def parse_variables(variables: Any) -> Mapping[str, str]:
    """Return several variables; raise an AwsError as `with_variable` does."""
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise bad_request("Invalid stage variables specified: expected an object of texts")
    parsed: Mapping[str, str] = {}
    for name, value in variables.items():
        parsed = with_variable(parsed, name, value)
    return parsed


def bad_request(message: str) -> AwsError:
    """Return the only kind of error of `UpdateStage` and `CreateDeployment`."""
    return AwsError(400, "BadRequestException", message)


def _invalid_path(path: str) -> AwsError:
    if _NOT_HERE.fullmatch(path) is not None:
        return bad_request(f"{path} has no effect on this machine: only AWS supports it")
    return bad_request(f"Invalid method setting path: {path}. Must be one of: {VALID_PATHS}")


def _without(variables: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in variables.items() if key != name}


def _throttle(stage: StageSettings) -> Throttle:
    return stage.throttle or Throttle(ACCOUNT_RATE, ACCOUNT_BURST)


def _flag(path: str, value: str | None) -> bool:
    if value not in {"true", "false"}:
        raise bad_request(f"Invalid value {value!r} for {path}: must be true or false")
    return value == "true"


def parse_number(path: str, value: str | None, largest: float) -> float:
    """Return a number of 0 or more.

    Raises:
        AwsError: it is not one, or too large.
    """
    # float() also accepts `5_0`, spaces, and digits of other scripts.
    number = float(value) if value is not None and _NUMBER.fullmatch(value) else math.nan
    if not 0 <= number <= largest or math.isinf(number):
        most = f"0 to {largest:g}" if math.isfinite(largest) else "at least 0"
        raise bad_request(f"Invalid value {value!r} for {path}: must be a number, {most}")
    return number
