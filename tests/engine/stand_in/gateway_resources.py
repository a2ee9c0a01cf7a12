"""REST APIs, deployments, stages, usage plans: the resources of API Gateway.

Moto drops canaries and takes a canary's deployment for the stage's own, so stages are kept here, by the rules recorded
for the local gateway's control plane. The provider's order of operations in its one UpdateStage call: the canary's, the
deployment's, the access log's, the variables'. Source: terraform-provider-aws, internal/service/apigateway/stage.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.company_rules import check_private
from tests.engine.stand_in.provider import Calls, Inputs
from tests.engine.stand_in.trust import assume_role, credentials_of
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.stage_patches import PatchOperation, apply_operations, parse_operations
from turnout.openapi.documentation_parts import MOST_PARTS, count_documentation_parts

API_GATEWAY = "apigateway.amazonaws.com"


class RefusedError(Exception):
    """A request that AWS rejects, in its words where they are known."""


def check_import(inputs: Inputs) -> None:
    """Reject a document that makes too many documentation parts, or names a role that cannot be assumed."""
    document = json.loads(inputs["body"])
    parts = count_documentation_parts(document)
    if (inputs.get("parameters") or {}).get("ignore") != "documentation" and parts > MOST_PARTS:
        raise RefusedError(f"Maximum number of documentation parts for this API has been reached: {parts}")
    for role in credentials_of(document):
        assume_role(role, API_GATEWAY)
    check_mocks(document)
    check_private(inputs, document)


def check_mocks(document: Mapping[str, Any]) -> None:
    """Reject a mock whose response sets a header that its method does not declare.

    [LIVE] Quoted in many projects' notes on CORS: "Invalid mapping expression specified: Validation Result: ...".
    """
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for answer in _mock_responses(operation):
                declared = operation["responses"].get(str(answer["statusCode"]), {}).get("headers", {})
                names = {name.removeprefix("method.response.header.") for name in answer.get("responseParameters", {})}
                if names - declared.keys():
                    raise RefusedError(f"Invalid mapping expression specified: {method} {path}: {names}")


def _mock_responses(operation: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    integration = operation["x-amazon-apigateway-integration"]
    return integration["responses"].values() if integration["type"] == "mock" else ()


def without_mocks(body: str) -> str:
    """Return the document without mocks: moto fails on them, because they have no URI."""
    document = json.loads(body)
    for item in document["paths"].values():
        for method in [name for name, operation in item.items() if tuple(_mock_responses(operation))]:
            del item[method]
    return json.dumps(document)


def _import(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    check_import(inputs)
    client = client_of("apigateway")
    identity = client.create_rest_api(name=inputs["name"])["id"]
    return identity, _put(identity, {}, inputs)


def _put(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    check_import(inputs)
    client = client_of("apigateway")
    client.put_rest_api(restApiId=identity, mode="overwrite", failOnWarnings=True, body=without_mocks(inputs["body"]))
    root = next(item["id"] for item in client.get_resources(restApiId=identity)["items"] if item["path"] == "/")
    region, account = client.meta.region_name, "123456789012"
    return {
        "rootResourceId": root,
        "arn": f"arn:aws:apigateway:{region}::/restapis/{identity}",
        "executionArn": f"arn:aws:execute-api:{region}:{account}:{identity}",
    }


def make_rest_api(check_unmapped: Callable[[str], None]) -> Calls:
    """REST APIs; `check_unmapped` rejects deleting one that a domain leads to."""

    def remove(identity: str, _: Inputs) -> None:
        check_unmapped(identity)
        client_of("apigateway").delete_rest_api(restApiId=identity)

    return Calls(make=_import, change=_put, remove=remove, computed=("rootResourceId", "arn", "executionArn"))


DEPLOYMENT = Calls(
    make=lambda inputs: (client_of("apigateway").create_deployment(restApiId=inputs["restApi"])["id"], {}),
    remove=lambda identity, state: client_of("apigateway").delete_deployment(
        restApiId=state["restApi"], deploymentId=identity
    ),
    replaced_by=frozenset({"restApi", "triggers"}),
)


@dataclass
class Stages:
    """All stages with their canaries, and the operations of all UpdateStage calls.

    Attributes:
        kept: (API's id, stage) -> its settings.
        patches: the calls, each a list of `op path value`.
    """

    kept: dict[tuple[str, str], StageSettings] = field(default_factory=dict)
    patches: list[list[str]] = field(default_factory=list)
    replaced_by = frozenset({"restApi", "stageName"})
    computed = ("arn", "executionArn", "invokeUrl", "webAclArn")

    def create(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        """Call CreateStage."""
        api, name = inputs["restApi"], inputs["stageName"]
        check_log_format(inputs)
        if inputs.get("accessLogSettings") and not client_of("apigateway").get_account().get("cloudwatchRoleArn"):
            raise RefusedError("CloudWatch Logs role ARN must be set in account settings to enable logging")
        client = client_of("apigateway")
        client.create_stage(
            restApiId=api, stageName=name, deploymentId=inputs["deployment"], variables=dict(inputs["variables"])
        )
        canary = inputs.get("canarySettings")
        settings = None
        if canary is not None:
            settings = CanarySettings(
                canary["percentTraffic"], dict(canary.get("stageVariableOverrides") or {}), canary["deploymentId"]
            )
        self.kept[api, name] = StageSettings(name, api, inputs["deployment"], dict(inputs["variables"]), settings, None)
        region = client.meta.region_name
        execution = f"arn:aws:execute-api:{region}:123456789012:{api}/{name}"
        return f"ags-{api}-{name}", {
            "arn": f"arn:aws:apigateway:{region}::/restapis/{api}/stages/{name}",
            "executionArn": execution,
            "invokeUrl": f"https://{api}.execute-api.{region}.amazonaws.com/{name}",
            "webAclArn": "",
        }

    def update(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        """Make one UpdateStage call."""
        api, name = inputs["restApi"], inputs["stageName"]
        check_log_format(inputs)
        operations = list(plan_operations(before, inputs))
        check_deployment_stays(self.kept[api, name], operations)
        self.patches.append(
            [f"{operation.op} {operation.path} {operation.value or ''}".strip() for operation in operations]
        )
        client = client_of("apigateway")
        deployments = {item["id"] for item in client.get_deployments(restApiId=api)["items"]}
        known = [operation for operation in operations if not operation.path.startswith("/accessLogSettings")]
        self.kept[api, name] = apply_operations(self.kept[api, name], known, deployments)
        operations = [_spell(entry) for entry in known if not entry.path.startswith("/canarySettings")]
        if operations:
            client.update_stage(restApiId=api, stageName=name, patchOperations=operations)
        return {}

    def get_stage(self, **where: str) -> dict[str, Any]:
        """GetStage as in boto3."""
        stage = self.kept.get((where["restApiId"], where["stageName"]))
        if stage is None:
            raise self.exceptions.NotFoundException({"Error": {"Code": "NotFoundException"}}, "GetStage")
        result: dict[str, Any] = {"variables": dict(stage.variables)}
        if stage.canary is None:
            return result
        overrides = dict(stage.canary.overrides)
        return result | {
            "canarySettings": {"percentTraffic": stage.canary.percent, "stageVariableOverrides": overrides}
        }

    @property
    def exceptions(self) -> Any:
        """The client's own error classes, as in boto3."""
        return client_of("apigateway").exceptions

    def update_stage(self, *, patchOperations: list[dict[str, str]], **where: str) -> None:  # noqa: N803 - boto3's name
        """UpdateStage as in boto3, for callers other than the engine."""
        key = where["restApiId"], where["stageName"]
        operations = parse_operations({"patchOperations": patchOperations})
        self.kept[key] = apply_operations(self.kept[key], operations, {self.kept[key].deployment_id})

    def read(self, identity: str, state: Inputs) -> Inputs:
        """Return the stage with its canary, which may come and go without the engine."""
        stage = self.kept[state["restApi"], state["stageName"]]
        canary = stage.canary and {
            "deploymentId": stage.canary.deployment_id,
            "percentTraffic": stage.canary.percent,
            "stageVariableOverrides": dict(stage.canary.overrides),
            "useStageCache": stage.canary.use_stage_cache,
        }
        return {"canarySettings": canary, "deployment": stage.deployment_id, "variables": dict(stage.variables)}

    def unsettled(self, changed: Iterable[str], inputs: Inputs) -> tuple[str, ...]:
        """Return no outputs."""
        return ()

    def delete(self, identity: str, state: Inputs) -> None:
        """Call DeleteStage."""
        client_of("apigateway").delete_stage(restApiId=state["restApi"], stageName=state["stageName"])
        del self.kept[state["restApi"], state["stageName"]]


def check_deployment_stays(stage: StageSettings, operations: Iterable[PatchOperation]) -> None:
    """Reject another deployment for a stage whose canary is on, or is started by the same call.

    A call may remove the canary first. Source: API Gateway Developer Guide, "Set up an API Gateway canary release
    deployment": meanwhile "the stage cannot be associated with another non-canary release deployment".
    """
    is_on, moves = stage.canary is not None, False
    for operation in operations:
        if operation.path.startswith("/canarySettings"):
            is_on = operation.path != "/canarySettings" or operation.op != "remove"
        moves = moves or (operation.op == "replace" and operation.path == "/deploymentId")
    if is_on and moves:
        raise RefusedError(f"Stage {stage.name} has a canary: it cannot be associated with another deployment")


def check_log_format(inputs: Inputs) -> None:
    """Reject an access log format without a request identifier.

    [DOC] API Gateway Developer Guide, "Set up CloudWatch logging": the format "must include `$context.requestId`", or
    `$context.extendedRequestId`.
    """
    names = set(context_names((inputs.get("accessLogSettings") or {}).get("format", "$context.requestId")))
    if not names & {"requestId", "extendedRequestId"}:
        raise RefusedError("Access Log format must contain $context.requestId or $context.extendedRequestId")


def context_names(text: str) -> Iterator[str]:
    """Return the names below `$context` in a format."""
    yield from re.findall(r"\$context\.([A-Za-z0-9_.]+)", text)


def _spell(operation: PatchOperation) -> dict[str, str]:
    spelled = {"op": operation.op, "path": operation.path}
    return spelled if operation.value is None else {**spelled, "value": operation.value}


def plan_operations(before: Inputs, after: Inputs) -> Iterable[PatchOperation]:
    """Return the operations of a stage's change, in the provider's order."""
    yield from _of_canary(before.get("canarySettings"), after.get("canarySettings"))
    if before["deployment"] != after["deployment"]:
        yield PatchOperation("replace", "/deploymentId", after["deployment"])
    log, new_log = before.get("accessLogSettings") or {}, after.get("accessLogSettings") or {}
    for name in ("destinationArn", "format"):
        if log.get(name) != new_log.get(name):
            yield PatchOperation("replace", f"/accessLogSettings/{name}", new_log[name])
    yield from _of_variables(before["variables"], after["variables"], "/variables/")


def _of_canary(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterable[PatchOperation]:
    if after is None:
        if before is not None:
            yield PatchOperation("remove", "/canarySettings")
        return
    old = before or {}
    overrides = "stageVariableOverrides"
    yield from _of_variables(old.get(overrides) or {}, after.get(overrides) or {}, f"/canarySettings/{overrides}/")
    for name, spelled in (
        ("percentTraffic", str(float(after["percentTraffic"]))),
        ("deploymentId", after["deploymentId"]),
        ("useStageCache", str(bool(after.get("useStageCache"))).lower()),
    ):
        if old.get(name) != after.get(name):
            yield PatchOperation("replace", f"/canarySettings/{name}", spelled)


def _of_variables(before: Mapping[str, str], after: Mapping[str, str], prefix: str) -> Iterable[PatchOperation]:
    for name in sorted(before.keys() - after.keys()):
        yield PatchOperation("remove", f"{prefix}{name}")
    for name, value in sorted(after.items()):
        if before.get(name) != value:
            yield PatchOperation("replace", f"{prefix}{name}", value)


def _throttle(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    path, settings = inputs["methodPath"], inputs["settings"]
    client_of("apigateway").update_stage(
        restApiId=inputs["restApi"],
        stageName=inputs["stageName"],
        patchOperations=[
            {"op": "replace", "path": f"/{path}/throttling/{wire}", "value": str(settings[name])}
            for name, wire in (("throttlingRateLimit", "rateLimit"), ("throttlingBurstLimit", "burstLimit"))
        ],
    )
    return f"{inputs['restApi']}-{inputs['stageName']}-{path}", {}


METHOD_SETTINGS = Calls(
    make=_throttle,
    change=lambda _, before, inputs: _throttle(inputs)[1],
    remove=lambda _, state: None,  # deleted together with its stage
    replaced_by=frozenset({"restApi", "stageName", "methodPath"}),
)


def _make_usage_plan(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    stages = [{"apiId": api_stage["apiId"], "stage": api_stage["stage"]} for api_stage in inputs["apiStages"]]
    throttle, quota = inputs.get("throttleSettings"), inputs.get("quotaSettings")
    limits: dict[str, Any] = {}
    if throttle:
        limits["throttle"] = {"rateLimit": throttle["rateLimit"], "burstLimit": int(throttle["burstLimit"])}
    if quota:
        limits["quota"] = {"limit": int(quota["limit"]), "period": quota["period"]}
    return client_of("apigateway").create_usage_plan(name=inputs["name"], apiStages=stages, **limits)["id"], {}


USAGE_PLAN = Calls(
    make=_make_usage_plan,
    remove=lambda identity, _: client_of("apigateway").delete_usage_plan(usagePlanId=identity),
)


def _make_key(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    made = client_of("apigateway").create_api_key(name=inputs["name"], enabled=True)
    return made["id"], {"value": made["value"]}


API_KEY = Calls(
    make=_make_key,
    remove=lambda identity, _: client_of("apigateway").delete_api_key(apiKey=identity),
    replaced_by=frozenset({"value"}),
    computed=("value",),
)


def _join(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    made = client_of("apigateway").create_usage_plan_key(
        usagePlanId=inputs["usagePlanId"], keyId=inputs["keyId"], keyType=inputs["keyType"]
    )
    return made["id"], {}


USAGE_PLAN_KEY = Calls(
    make=_join,
    remove=lambda identity, state: client_of("apigateway").delete_usage_plan_key(
        usagePlanId=state["usagePlanId"], keyId=state["keyId"]
    ),
    replaced_by=frozenset({"usagePlanId", "keyId", "keyType"}),
)


def set_logs_role(role: str) -> None:
    """Set the role with which API Gateway writes logs for every API of the account and region; empty for none."""
    if role:
        assume_role(role, API_GATEWAY)
    operation = {"op": "replace", "path": "/cloudwatchRoleArn", "value": role}
    client_of("apigateway").update_account(patchOperations=[operation])


def _set_account(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    set_logs_role(inputs["cloudwatchRoleArn"])
    return "api-gateway-account", {}


ACCOUNT = Calls(
    make=_set_account,  # whatever was set before
    change=lambda _, before, inputs: _set_account(inputs)[1],
    remove=lambda identity, _: set_logs_role(""),  # since version 6 of the provider, for every API of the region
)
