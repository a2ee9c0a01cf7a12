"""Objects of S3, read whole or in ranges; model files that are fetched so are tested in tests/model_lambdas."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest

from tests.builders.object_server import Objects, serve_objects
from turnout.protocol.aws.objects import ATTEMPTS, ObjectError, ObjectFolder, find_endpoint

CONTENT = bytes(range(100))
READ: dict[str, Callable[[ObjectFolder], bytes]] = {
    "whole": lambda folder: folder.read("a b/c.json"),
    "range": lambda folder: folder.read_range("a b/c.json", 10, 19),
}
"""How an object is read."""


@pytest.fixture
def objects() -> Iterator[Objects]:
    with serve_objects() as served:
        served.rows = {"/bucket/choices/a%20b/c.json": CONTENT}
        yield served


def test_an_object_is_read_whole_or_in_part(objects: Objects) -> None:
    folder = ObjectFolder("s3://bucket/choices/", objects.environ)
    assert READ["whole"](folder) == CONTENT
    assert READ["range"](folder) == CONTENT[10:20]
    assert objects.ranges == ["", "bytes=10-19"]


@pytest.mark.parametrize("how", READ)
@pytest.mark.parametrize(
    ("failures", "requests", "message"),
    [([503] * 9, ATTEMPTS, "S3 answered 503"), ([403], 1, "S3 answered 403"), ([301], 1, "S3 answered 301")],
)
def test_failures_are_retried_and_rejections_are_not(
    objects: Objects, how: str, failures: list[int], requests: int, message: str
) -> None:
    folder = ObjectFolder("s3://bucket/choices", objects.environ)
    objects.failures = list(failures)
    with pytest.raises(ObjectError, match=rf"s3://bucket/choices/a b/c.json cannot be read: {message}"):
        READ[how](folder)
    assert len(objects.ranges) == requests
    objects.failures = [503]
    assert READ[how](folder) in {CONTENT, CONTENT[10:20]}


def test_a_range_beyond_the_end_is_an_error(objects: Objects) -> None:
    folder = ObjectFolder("s3://bucket/choices", objects.environ)
    with pytest.raises(ObjectError, match="S3 answered 206 with 10 bytes"):
        folder.read_range("a b/c.json", 90, 109)


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint"),
    [
        ("models", "eu-west-1", "https://models.s3.eu-west-1.amazonaws.com"),
        ("my-models-1", "cn-north-1", "https://my-models-1.s3.cn-north-1.amazonaws.com.cn"),
        ("models.example.com", "eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ("a.b", "cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_bucket_outside_the_certificate_of_s3_is_named_in_the_path(bucket: str, region: str, endpoint: str) -> None:
    result = ObjectFolder(f"s3://{bucket}/models/a", {"AWS_REGION": region})
    assert find_endpoint(bucket, region) == endpoint
    assert result.url_of("model.onnx") == (
        f"{endpoint}/models/a/model.onnx" if "." not in bucket else f"{endpoint}/{bucket}/models/a/model.onnx"
    )
    # botocore decides the same.
    sent: list[str] = []

    def stop(request: AWSPreparedRequest, **_: object) -> None:
        sent.append(request.url)
        raise InterruptedError

    client = boto3.client("s3", region, aws_access_key_id="a", aws_secret_access_key="b")
    client.meta.events.register("before-send.s3.GetObject", stop)
    with pytest.raises(InterruptedError):
        client.get_object(Bucket=bucket, Key="models/a/model.onnx")
    assert sent == [result.url_of("model.onnx")]
