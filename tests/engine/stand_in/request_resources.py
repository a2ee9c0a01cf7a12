"""Queues, their mappings to functions, and the rules of buckets, for asynchronous requests.

It rejects what AWS rejects: a queue whose visibility timeout is shorter than its function's timeout, a mapping whose
function may not read the queue, and a lifecycle rule without an action. The messages are AWS's: [LIVE] quoted in
many projects' notes, and for the rule expected by Ansible's module s3_lifecycle.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.engine.stand_in.clients import checking_client, client_of
from tests.engine.stand_in.provider import Calls, Inputs

_ATTRIBUTES = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
}


def _attributes_of(inputs: Inputs) -> dict[str, str]:
    def spell(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(int(value) if isinstance(value, float) else value)

    return {wire: spell(inputs[name]) for name, wire in _ATTRIBUTES.items() if name in inputs}


def _make_queue(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client = client_of("sqs")
    url = client.create_queue(QueueName=inputs["name"], Attributes=_attributes_of(inputs))["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, {"arn": arn, "url": url}


def _change_queue(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    client_of("sqs").set_queue_attributes(QueueUrl=identity, Attributes=_attributes_of(inputs))
    return {}


QUEUE = Calls(
    make=_make_queue,
    change=_change_queue,
    remove=lambda identity, _: client_of("sqs").delete_queue(QueueUrl=identity),
    replaced_by=frozenset({"name"}),
    computed=("arn", "url"),
)


def _map(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    queue, function = inputs["eventSourceArn"].rpartition(":")[2], inputs["functionName"].rpartition(":")[2]
    _check_timeout(queue, function)
    _check_role(inputs["eventSourceArn"], function)
    made = client_of("lambda").create_event_source_mapping(
        EventSourceArn=inputs["eventSourceArn"],
        FunctionName=function,
        BatchSize=int(inputs["batchSize"]),
        FunctionResponseTypes=inputs["functionResponseTypes"],
        ScalingConfig={"MaximumConcurrency": int(inputs["scalingConfig"]["maximumConcurrency"])},
    )
    return made["UUID"], {}


def _check_timeout(queue: str, function: str) -> None:
    client = checking_client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    shown = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    timeout = checking_client("lambda").get_function_configuration(FunctionName=function)["Timeout"]
    if int(shown["VisibilityTimeout"]) < timeout:
        visible_s = shown["VisibilityTimeout"]
        raise _refused(f"Queue visibility timeout: {visible_s} seconds is less than Function timeout: {timeout}")


def _check_role(queue_arn: str, function: str) -> None:
    role = checking_client("lambda").get_function_configuration(FunctionName=function)["Role"].rpartition("/")[2]
    client = checking_client("iam")
    allowed: set[str] = set()
    for name in client.list_role_policies(RoleName=role)["PolicyNames"]:
        document = client.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in (document if isinstance(document, dict) else json.loads(document))["Statement"]:
            if queue_arn in statement["Resource"]:
                allowed.update(statement["Action"])
    missing = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} - allowed
    if missing:
        action = min(missing).removeprefix("sqs:")
        raise _refused(f"The provided execution role does not have permissions to call {action} on SQS")


def _refused(message: str, operation: str = "CreateEventSourceMapping") -> ClientError:
    error: Any = {"Error": {"Code": "InvalidParameterValueException", "Message": message}}
    return ClientError(error, operation)


EVENT_SOURCE_MAPPING = Calls(
    make=_map,
    remove=lambda identity, _: client_of("lambda").delete_event_source_mapping(UUID=identity),
    replaced_by=frozenset({"eventSourceArn", "functionName", "scalingConfig", "functionResponseTypes", "batchSize"}),
)


def _setting_of_bucket(put: Callable[[Inputs], tuple[str, dict[str, Any]]], delete: str) -> Calls:
    """Return the calls of a bucket's setting, which is put anew for each change."""
    return Calls(
        make=put,
        change=lambda _, before, inputs: put(inputs)[1],
        remove=lambda identity, _: getattr(client_of("s3"), delete)(Bucket=identity),
        replaced_by=frozenset({"bucket"}),
    )


def _put_lifecycle(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    rules = []
    for rule in inputs["rules"]:
        made: dict[str, Any] = {
            "ID": rule["id"],
            "Status": rule["status"],
            "Filter": {"Prefix": rule["filter"]["prefix"]},
        }
        if "expiration" in rule:
            made["Expiration"] = {"Days": int(rule["expiration"]["days"])}
        if "abortIncompleteMultipartUpload" in rule:
            days = int(rule["abortIncompleteMultipartUpload"]["daysAfterInitiation"])
            made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
        if not made.keys() & {"Expiration", "AbortIncompleteMultipartUpload"}:
            raise _refused("At least one action needs to be specified in a rule", "PutBucketLifecycleConfiguration")
        rules.append(made)
    client_of("s3").put_bucket_lifecycle_configuration(Bucket=inputs["bucket"], LifecycleConfiguration={"Rules": rules})
    return inputs["bucket"], {}


LIFECYCLE = _setting_of_bucket(_put_lifecycle, "delete_bucket_lifecycle")


def _put_cors(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    rules = []
    for rule in inputs["corsRules"]:
        for method in rule["allowedMethods"]:
            if method not in {"GET", "PUT", "HEAD", "POST", "DELETE"}:
                raise _refused(f"Found unsupported HTTP method in CORS config: {method}", "PutBucketCors")
        if any("*" in name for name in rule["exposeHeaders"]):
            raise _refused("We currently do not support wildcard for ExposeHeader", "PutBucketCors")
        rules.append(
            {
                "AllowedOrigins": rule["allowedOrigins"],
                "AllowedMethods": rule["allowedMethods"],
                "AllowedHeaders": rule["allowedHeaders"],
                "ExposeHeaders": rule["exposeHeaders"],
                "MaxAgeSeconds": int(rule["maxAgeSeconds"]),
            }
        )
    client_of("s3").put_bucket_cors(Bucket=inputs["bucket"], CORSConfiguration={"CORSRules": rules})
    return inputs["bucket"], {}


CORS = _setting_of_bucket(_put_cors, "delete_bucket_cors")


def _put_encryption(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    (rule,) = inputs["rules"]
    given = rule["applyServerSideEncryptionByDefault"]
    by_default = {"SSEAlgorithm": given["sseAlgorithm"]}
    if "kmsMasterKeyId" in given:
        by_default["KMSMasterKeyID"] = given["kmsMasterKeyId"]
    client_of("s3").put_bucket_encryption(
        Bucket=inputs["bucket"],
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]},
    )
    return inputs["bucket"], {}


ENCRYPTION = _setting_of_bucket(_put_encryption, "delete_bucket_encryption")


def content_of(inputs: Inputs) -> bytes:
    """Return the content of an object, given as text or as a file."""
    if "content" in inputs:
        return str(inputs["content"]).encode()
    return Path(inputs["source"]["path"]).read_bytes()
