"""boto3's calls as IAM sees them, and whether policies allow them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"

ACTIONS = {
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketTagging": "s3:PutBucketTagging",
    "s3:DeleteBucketCors": "s3:PutBucketCORS",
    "s3:PutBucketCors": "s3:PutBucketCORS",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "lambda:Invoke": "lambda:InvokeFunction",
}
"""Operations whose action has a different name. Source: Service Authorization Reference."""

TAGGED_ARN = ("Resource", "resourceArn", "ResourceARN")
"""The parameters of TagResource and similar calls with an ARN, by service."""

VERBS = {"get": "GET", "put": "PUT", "create": "POST", "delete": "DELETE", "update": "PATCH", "import": "PUT"}


@dataclass(frozen=True)
class Call:
    """An action on a resource, with the condition keys that AWS adds to it."""

    action: str
    resource: str
    context: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Recorder:
    """Every call of the clients that it listens to.

    Args:
        reading: returns a service's client that is not recorded: IAM knows the resources that a call names.
    """

    reading: Callable[[str], Any]
    calls: set[Call] = field(default_factory=set)

    def listen(self, client: Any) -> None:
        """Record all later calls of a client."""
        client.meta.events.register_first("before-parameter-build", _keep_parameters)
        client.meta.events.register("before-call", self._note)

    def _note(self, model: Any, params: Mapping[str, Any], **_: Any) -> None:
        service = model.service_model.service_name
        given = params["context"][PARAMETERS]
        call = call_of(service, model.name, params, given, params["context"]["client_region"])
        if service == "iam" and "RoleName" in given:
            call = self._call_of_role(call, given)
        elif model.name.endswith("EventSourceMapping"):
            call = self._call_of_mapping(call, given)
        self.calls |= {call, *passed_roles(service, given)}

    def _call_of_role(self, call: Call, given: Mapping[str, Any]) -> Call:
        """Return the call with the role's path in its ARN and, as context, the boundary that it has or gets."""
        role: Mapping[str, Any] = given
        if not call.action.endswith(":CreateRole"):
            client = self.reading("iam")
            try:
                role = client.get_role(RoleName=given["RoleName"])["Role"]
            except client.exceptions.NoSuchEntityException:
                role = {}
        has = (role.get("PermissionsBoundary") or {}) if role is not given else {}
        boundary = given.get("PermissionsBoundary") or has.get("PermissionsBoundaryArn")
        arn = f"arn:aws:iam::{ACCOUNT}:role{role.get('Path') or '/'}{given['RoleName']}"
        return Call(call.action, arn, frozenset({("iam:PermissionsBoundary", boundary)} if boundary else ()))

    def _call_of_mapping(self, call: Call, given: Mapping[str, Any]) -> Call:
        """Return the call with the function of an event source mapping as context."""
        client = self.reading("lambda")
        called = given if "FunctionName" in given else client.get_event_source_mapping(UUID=given["UUID"])
        name = called.get("FunctionArn") or called["FunctionName"]
        arn = name if name.startswith("arn:") else f"arn:aws:lambda:{client.meta.region_name}:{ACCOUNT}:function:{name}"
        return Call(call.action, call.resource, frozenset({("lambda:FunctionArn", arn)}))


PARAMETERS = "given parameters"


def _keep_parameters(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[PARAMETERS] = dict(params)


def passed_roles(service: str, given: Mapping[str, Any]) -> Iterator[Call]:
    """Yield `iam:PassRole` for each role that a call gives to a service: IAM checks it without a call of its own."""
    roles = [
        given.get("Role"),
        *(entry.get("value") for entry in given.get("patchOperations", ()) if _sets_role(entry)),
    ]
    body = given.get("body")
    if service == "apigateway" and isinstance(body, str | bytes):
        text = body if isinstance(body, str) else body.decode()
        roles += re.findall(r'"(?:credentials|authorizerCredentials)":\s*"(arn:[^"]+)"', text)
    for arn in filter(None, roles):
        yield Call("iam:PassRole", arn, frozenset({("iam:PassedToService", f"{service}.amazonaws.com")}))


def _sets_role(operation: Mapping[str, Any]) -> bool:
    return str(operation.get("path")) == "/cloudwatchRoleArn"


def call_of(service: str, operation: str, sent: Mapping[str, Any], given: Mapping[str, Any], region: str) -> Call:
    """Return the action and resource that IAM checks for one call."""
    if service in {"apigateway", "apigatewayv2"}:
        path = sent["url_path"].removeprefix("/v2")
        return Call(f"apigateway:{sent['method']}", f"arn:aws:apigateway:{region}::{path}")
    name = f"{service}:{operation}"
    action = ACTIONS.get(name, re.sub(r"\d{8}$", "", name))
    return Call(action, resource_of(service, sent, given, region))


def resource_of(service: str, sent: Mapping[str, Any], given: Mapping[str, Any], region: str) -> str:
    """Return the ARN that a call names, `*` if it names none."""
    path = [part for part in sent["url_path"].split("?")[0].split("/") if part]
    root = f"arn:aws:{service}:{region}:{ACCOUNT}"
    if arn := next((str(given[name]) for name in TAGGED_ARN if name in given), ""):
        return arn
    match service:
        case "lambda" if "functions" in path[:2] and len(path) > 2:
            return f"{root}:function:{path[2]}"
        case "lambda" if "layers" in path[:2] and len(path) > 2:
            return f"{root}:layer:{path[2]}"
        case "lambda" if "event-source-mappings" in path[:2]:
            return f"{root}:event-source-mapping:{path[2] if len(path) > 2 else '*'}"
        case "route53":  # /2013-04-01/hostedzone/Z1/rrset
            return f"arn:aws:route53:::{path[1]}/{path[2]}"
        case "s3" if "Bucket" in given:
            return f"arn:aws:s3:::{given['Bucket']}" + (f"/{given['Key']}" if "Key" in given else "")
    return _named_resource(service, root, named_in(sent))


def _named_resource(service: str, root: str, names: Mapping[str, Any]) -> str:
    match service:
        case "lambda" if "FunctionName" in names:
            return f"{root}:function:{names['FunctionName']}"
        case "wafv2" if "WebACLArn" in names or "ResourceArn" in names:
            return str(names.get("WebACLArn") or names["ResourceArn"])
        case "sqs" if "QueueName" in names or "QueueUrl" in names:
            return f"{root}:{names.get('QueueName') or names['QueueUrl'].rpartition('/')[2]}"
        case "logs" if "logGroupName" in names:
            return f"{root}:log-group:{names['logGroupName']}"
        case "events" if "Rule" in names or "Name" in names:
            return f"{root}:rule/{names.get('Rule') or names['Name']}"
        case "cloudwatch" if "AlarmName" in names or "AlarmNames" in names:
            return f"{root}:alarm:{names.get('AlarmName') or names['AlarmNames'][0]}"
        case "cloudwatch" if "DashboardName" in names or "DashboardNames" in names:
            return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{names.get('DashboardName') or names['DashboardNames'][0]}"
    return "*"


def named_in(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters in a request's body, JSON or a form."""
    import json

    body = sent["body"]
    if isinstance(body, bytes | str):
        try:
            content = json.loads(body or "{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}
    names = {key: value for key, value in body.items() if "." not in key}
    for key, value in body.items():
        if key.endswith(".member.1"):
            names.setdefault(key.removesuffix(".member.1"), [value])
    return names


def refused_by(policies: Iterable[Mapping[str, Any]], calls: Iterable[Call]) -> list[Call]:
    """Return the calls that no statement allows."""
    statements = [statement for policy in policies for statement in policy["Statement"]]
    return sorted(
        (call for call in calls if not any(_allows(statement, call) for statement in statements)),
        key=lambda call: (call.action, call.resource),
    )


def _allows(statement: Mapping[str, Any], call: Call) -> bool:
    if call.action not in statement["Action"]:
        return False
    if not any(fnmatch.fnmatchcase(call.resource, pattern) for pattern in statement["Resource"]):
        return False
    context = dict(call.context)
    return all(
        key in context and _is_met(operator, context[key], wanted)
        for operator, tests in statement.get("Condition", {}).items()
        for key, wanted in tests.items()
    )


def _is_met(operator: str, value: str, wanted: str | list[str]) -> bool:
    patterns = [wanted] if isinstance(wanted, str) else wanted
    if operator == "StringEquals":
        return value in patterns
    if operator == "ArnLike":
        return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
    raise NotImplementedError(operator)
