"""Roles, logs, alarms, dashboards, rules, buckets: resources that one call makes."""

from __future__ import annotations

from typing import Any

from tests.engine.stand_in.clients import client_of, record_call
from tests.engine.stand_in.company_rules import check_key
from tests.engine.stand_in.provider import Calls, Inputs, changed_names
from tests.engine.stand_in.request_resources import content_of


def _make_role(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    bounded = {"PermissionsBoundary": inputs["permissionsBoundary"]} if inputs.get("permissionsBoundary") else {}
    made = client_of("iam").create_role(
        RoleName=inputs["name"],
        Path=inputs.get("path") or "/",
        AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
        **bounded,
    )["Role"]
    return inputs["name"], {"arn": made["Arn"], "uniqueId": made["RoleId"]}


def _change_role(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    client, changed = client_of("iam"), changed_names(before, inputs)
    if "assumeRolePolicy" in changed:
        client.update_assume_role_policy(RoleName=identity, PolicyDocument=inputs["assumeRolePolicy"])
    boundary = inputs.get("permissionsBoundary")
    if "permissionsBoundary" in changed and boundary:
        client.put_role_permissions_boundary(RoleName=identity, PermissionsBoundary=boundary)
    elif "permissionsBoundary" in changed:
        client.delete_role_permissions_boundary(RoleName=identity)
    return {}


ROLE = Calls(
    make=_make_role,
    change=_change_role,
    remove=lambda identity, _: client_of("iam").delete_role(RoleName=identity),
    replaced_by=frozenset({"name", "path"}),
    computed=("arn", "uniqueId"),
)


def _put_role_policy(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client_of("iam").put_role_policy(
        RoleName=inputs["role"], PolicyName=inputs["name"], PolicyDocument=inputs["policy"]
    )
    return f"{inputs['role']}:{inputs['name']}", {}


ROLE_POLICY = Calls(
    make=_put_role_policy,
    change=lambda _, before, inputs: _put_role_policy(inputs)[1],
    remove=lambda _, state: client_of("iam").delete_role_policy(RoleName=state["role"], PolicyName=state["name"]),
    replaced_by=frozenset({"role", "name"}),
)


def make_attachment(kept: dict[str, str]) -> Calls:
    """Moto lacks some of AWS's managed policies, so `kept` stores them: role -> policy."""

    def attach(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        role, policy = inputs["role"], inputs["policyArn"]
        record_call("iam", "attach_role_policy", RoleName=role, PolicyArn=policy)
        kept.setdefault(role, policy)
        return f"{role}-{policy}", {}

    def detach(_: str, state: Inputs) -> None:
        record_call("iam", "detach_role_policy", RoleName=state["role"], PolicyArn=state["policyArn"])
        kept.pop(state["role"])

    return Calls(
        make=attach,
        remove=detach,
        replaced_by=frozenset({"role", "policyArn"}),
    )


def _make_log_group(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client = client_of("logs")
    client.create_log_group(logGroupName=inputs["name"])
    _encrypt(inputs["name"], inputs)
    return inputs["name"], {"arn": f"arn:aws:logs:eu-central-1:123456789012:log-group:{inputs['name']}"} | _retain(
        inputs["name"], {}, inputs
    )


def _encrypt(name: str, inputs: Inputs) -> None:
    """Call AssociateKmsKey, or DisassociateKmsKey; moto has neither, so only the key is checked."""
    check_key(inputs.get("kmsKeyId"), "logs.eu-central-1.amazonaws.com")


def _retain(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    _encrypt(identity, inputs)
    client_of("logs").put_retention_policy(logGroupName=identity, retentionInDays=inputs["retentionInDays"])
    return {}


def make_log_group(classes: dict[str, str]) -> Calls:
    """Moto drops the class of a log group, so `classes` stores it: name -> class."""

    def make(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        made = _make_log_group(inputs)
        classes[inputs["name"]] = inputs.get("logGroupClass") or "STANDARD"
        return made

    def remove(identity: str, _: Inputs) -> None:
        client_of("logs").delete_log_group(logGroupName=identity)
        del classes[identity]

    return Calls(
        make=make,
        change=_retain,
        remove=remove,
        # Source: terraform-provider-aws, internal/service/logs/group.go.
        replaced_by=frozenset({"name", "logGroupClass"}),
        kept=frozenset({"logGroupClass"}),
        computed=("arn",),
    )


def _put_alarm(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    given: dict[str, Any] = {
        "AlarmName": inputs["name"],
        "ComparisonOperator": inputs["comparisonOperator"],
        "EvaluationPeriods": inputs["evaluationPeriods"],
        "Threshold": inputs["threshold"],
        "TreatMissingData": inputs.get("treatMissingData", "missing"),
        "AlarmActions": inputs.get("alarmActions", []),
    }
    if "metricQueries" in inputs:
        given["Metrics"] = [_metric_query(metric_query) for metric_query in inputs["metricQueries"]]
    else:
        given |= {
            "Namespace": inputs["namespace"],
            "MetricName": inputs["metricName"],
            "Period": inputs["period"],
            "Dimensions": [{"Name": name, "Value": value} for name, value in inputs["dimensions"].items()],
        }
        given |= {
            wire: inputs[name]
            for name, wire in (("statistic", "Statistic"), ("extendedStatistic", "ExtendedStatistic"))
            if name in inputs
        }
    client_of("cloudwatch").put_metric_alarm(**given)
    return inputs["name"], {}


def _metric_query(inputs: Inputs) -> dict[str, Any]:
    given: dict[str, Any] = {"Id": inputs["id"], "ReturnData": inputs.get("returnData", False)}
    if "expression" in inputs:
        return given | {"Expression": inputs["expression"], "Label": inputs.get("label", "")}
    metric = inputs["metric"]
    dimensions = [{"Name": name, "Value": value} for name, value in metric["dimensions"].items()]
    inner = {"Namespace": metric["namespace"], "MetricName": metric["metricName"], "Dimensions": dimensions}
    return given | {"MetricStat": {"Metric": inner, "Period": metric["period"], "Stat": metric["stat"]}}


METRIC_ALARM = Calls(
    make=lambda inputs: (
        _put_alarm(inputs)[0],
        {"arn": f"arn:aws:cloudwatch:eu-central-1:123456789012:alarm:{inputs['name']}"},
    ),
    change=lambda _, before, inputs: _put_alarm(inputs)[1],
    remove=lambda identity, _: client_of("cloudwatch").delete_alarms(AlarmNames=[identity]),
    replaced_by=frozenset({"name"}),
    computed=("arn",),
)


def _put_dashboard(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client_of("cloudwatch").put_dashboard(DashboardName=inputs["dashboardName"], DashboardBody=inputs["dashboardBody"])
    return inputs["dashboardName"], {}


DASHBOARD = Calls(
    make=_put_dashboard,
    change=lambda _, before, inputs: _put_dashboard(inputs)[1],
    remove=lambda identity, _: client_of("cloudwatch").delete_dashboards(DashboardNames=[identity]),
    replaced_by=frozenset({"dashboardName"}),
)


def _put_rule(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    when = {"EventPattern": "eventPattern", "ScheduleExpression": "scheduleExpression"}
    given = {wire: inputs[name] for wire, name in when.items() if name in inputs}
    made = client_of("events").put_rule(Name=inputs["name"], **given)
    return inputs["name"], {"arn": made["RuleArn"]}


EVENT_RULE = Calls(
    make=_put_rule,
    change=lambda _, before, inputs: _put_rule(inputs)[1],
    remove=lambda identity, _: client_of("events").delete_rule(Name=identity),
    replaced_by=frozenset({"name"}),
    computed=("arn",),
)


def _put_target(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    identity = inputs.get("targetId", "target")
    target = {"Id": identity, "Arn": inputs["arn"]}
    transformer = inputs.get("inputTransformer")
    if transformer is None:
        target["Input"] = inputs["input"]
    else:
        target["InputTransformer"] = {
            "InputPathsMap": transformer["inputPaths"],
            "InputTemplate": transformer["inputTemplate"],
        }
    client_of("events").put_targets(Rule=inputs["rule"], Targets=[target])
    return identity, {}


EVENT_TARGET = Calls(
    make=_put_target,
    change=lambda _, before, inputs: _put_target(inputs)[1],
    remove=lambda identity, state: client_of("events").remove_targets(Rule=state["rule"], Ids=[identity]),
    replaced_by=frozenset({"rule", "targetId"}),
)


def _make_bucket(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client = client_of("s3")
    client.create_bucket(
        Bucket=inputs["bucket"], CreateBucketConfiguration={"LocationConstraint": client.meta.region_name}
    )
    return inputs["bucket"], {"arn": f"arn:aws:s3:::{inputs['bucket']}"}


BUCKET = Calls(
    make=_make_bucket,
    remove=lambda identity, _: client_of("s3").delete_bucket(Bucket=identity),
    replaced_by=frozenset({"bucket"}),
    computed=("arn",),
)

PUBLIC_ACCESS_BLOCK = Calls(
    make=lambda inputs: (_block(inputs["bucket"], inputs), {}),
    remove=lambda identity, _: client_of("s3").delete_public_access_block(Bucket=identity),
    replaced_by=frozenset({"bucket"}),
)


def _block(bucket: str, inputs: Inputs) -> str:
    names = {
        "blockPublicAcls": "BlockPublicAcls",
        "blockPublicPolicy": "BlockPublicPolicy",
        "ignorePublicAcls": "IgnorePublicAcls",
        "restrictPublicBuckets": "RestrictPublicBuckets",
    }
    given = {wire: inputs[name] for name, wire in names.items()}
    client_of("s3").put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=given)
    return bucket


def make_bucket_object(sent: list[str]) -> Calls:
    """Make an object whose key contains its digest; each is recorded in `sent`."""

    def put(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        sent.append(inputs["key"])
        client_of("s3").put_object(Bucket=inputs["bucket"], Key=inputs["key"], Body=content_of(inputs))
        return inputs["key"], {}

    return Calls(
        make=put,
        change=lambda _, before, inputs: put(inputs)[1],
        remove=lambda identity, state: client_of("s3").delete_object(Bucket=state["bucket"], Key=identity),
        replaced_by=frozenset({"bucket", "key"}),
    )
