"""Tags: what the provider calls when a resource gets, changes or loses them.

IAM requires the same permission for tags that are given while a resource is created, so they are separate calls here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from tests.engine.stand_in.clients import client_of, record_call
from tests.engine.stand_in.provider import Inputs

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Tagged:
    """The calls of one type of resource; both get its id and its inputs and outputs.

    Args:
        add: adds or changes tags; it gets all tags of the resource.
        remove: removes tags; it gets their keys and the tags that stay.
    """

    add: Callable[[str, Inputs, Tags], object]
    remove: Callable[[str, Inputs, Collection[str], Tags], object]


def _listed(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _by_arn(service: str, parameter: str, arn: Callable[[str, Inputs], str], *, as_list: bool) -> Tagged:
    """Return the calls of a service whose TagResource gets an ARN."""
    tags_name, keys_name = ("tags", "tagKeys") if service == "logs" else ("Tags", "TagKeys")
    return Tagged(
        add=lambda identity, state, tags: client_of(service).tag_resource(
            **{parameter: arn(identity, state), tags_name: _listed(tags) if as_list else dict(tags)}
        ),
        remove=lambda identity, state, keys, _: client_of(service).untag_resource(
            **{parameter: arn(identity, state), keys_name: list(keys)}
        ),
    )


def _of_gateway(path: Callable[[str, Inputs], str]) -> Tagged:
    """Return the calls for a resource of API Gateway: moto has tags of few of them, so they are only recorded."""

    def arn(identity: str, state: Inputs) -> str:
        return f"arn:aws:apigateway:eu-central-1::/{path(identity, state)}"

    return Tagged(
        add=lambda identity, state, tags: record_call(
            "apigateway", "tag_resource", resourceArn=arn(identity, state), tags=dict(tags)
        ),
        remove=lambda identity, state, keys, _: record_call(
            "apigateway", "untag_resource", resourceArn=arn(identity, state), tagKeys=list(keys)
        ),
    )


def _tag_bucket(bucket: str, _: Inputs, tags: Tags) -> None:
    client_of("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _listed(tags)})


def _untag_bucket(bucket: str, state: Inputs, _: Collection[str], left: Tags) -> None:
    if left:
        _tag_bucket(bucket, state, left)
    else:
        client_of("s3").delete_bucket_tagging(Bucket=bucket)


def _tag_object(key: str, state: Inputs, tags: Tags) -> None:
    client_of("s3").put_object_tagging(Bucket=state["bucket"], Key=key, Tagging={"TagSet": _listed(tags)})


def _untag_object(key: str, state: Inputs, _: Collection[str], left: Tags) -> None:
    # Source: terraform-provider-aws, internal/service/s3/tags.go, `objectUpdateTags`.
    if left:
        _tag_object(key, state, left)
    else:
        client_of("s3").delete_object_tagging(Bucket=state["bucket"], Key=key)


def _mapping_arn(identity: str) -> str:
    return f"arn:aws:lambda:eu-central-1:123456789012:event-source-mapping:{identity}"


TAGGED: Mapping[str, Tagged] = {
    "aws:apigateway/apiKey:ApiKey": _of_gateway(lambda identity, _: f"apikeys/{identity}"),
    "aws:apigateway/domainName:DomainName": _of_gateway(lambda identity, _: f"domainnames/{identity}"),
    "aws:apigateway/restApi:RestApi": _of_gateway(lambda identity, _: f"restapis/{identity}"),
    "aws:apigateway/stage:Stage": _of_gateway(
        lambda _, state: f"restapis/{state['restApi']}/stages/{state['stageName']}"
    ),
    "aws:apigateway/usagePlan:UsagePlan": _of_gateway(lambda identity, _: f"usageplans/{identity}"),
    "aws:cloudwatch/eventRule:EventRule": _by_arn("events", "ResourceARN", lambda _, state: state["arn"], as_list=True),
    "aws:cloudwatch/logGroup:LogGroup": _by_arn("logs", "resourceArn", lambda _, state: state["arn"], as_list=False),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _by_arn(
        "cloudwatch", "ResourceARN", lambda _, state: state["arn"], as_list=True
    ),
    "aws:iam/role:Role": Tagged(
        add=lambda identity, _, tags: client_of("iam").tag_role(RoleName=identity, Tags=_listed(tags)),
        remove=lambda identity, _, keys, left: client_of("iam").untag_role(RoleName=identity, TagKeys=list(keys)),
    ),
    "aws:lambda/eventSourceMapping:EventSourceMapping": Tagged(  # moto has no tags of these
        add=lambda identity, _, tags: record_call(
            "lambda", "tag_resource", Resource=_mapping_arn(identity), Tags=dict(tags)
        ),
        remove=lambda identity, _, keys, left: record_call(
            "lambda", "untag_resource", Resource=_mapping_arn(identity), TagKeys=list(keys)
        ),
    ),
    "aws:lambda/function:Function": _by_arn("lambda", "Resource", lambda _, state: state["arn"], as_list=False),
    "aws:s3/bucket:Bucket": Tagged(_tag_bucket, _untag_bucket),
    "aws:s3/bucketObjectv2:BucketObjectv2": Tagged(_tag_object, _untag_object),
    "aws:sqs/queue:Queue": Tagged(
        add=lambda url, _, tags: client_of("sqs").tag_queue(QueueUrl=url, Tags=dict(tags)),
        remove=lambda url, _, keys, left: client_of("sqs").untag_queue(QueueUrl=url, TagKeys=list(keys)),
    ),
}
"""Type token -> the calls."""


def change_tags(kind: str, identity: str, state: Inputs, before: Tags, after: Tags) -> None:
    """Make the calls that change a resource's tags."""
    removed = sorted(before.keys() - after.keys())
    if removed:
        TAGGED[kind].remove(identity, state, removed, after)
    if after != before and after:
        TAGGED[kind].add(identity, state, after)
