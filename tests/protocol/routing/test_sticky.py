from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from turnout.protocol.routing.sticky import KEY_READERS, Sticky, read_sticky_key

HEADER = Sticky("header", "x-user-id")
QUERY = Sticky("query", "user")
API_KEY = Sticky("api_key")
BODY = Sticky("body", "parameters.user_id")


def body_event(document: object, **headers: str) -> dict[str, Any]:
    return {"headers": headers, "body": json.dumps(document)}


@pytest.mark.parametrize(
    ("sticky", "event", "key"),
    [
        (HEADER, {"headers": {"X-User-Id": "ada"}}, "ada"),
        (HEADER, {"headers": {"X-User-Id": ""}}, None),
        (HEADER, {"headers": {"x-user": "ada"}}, None),
        (HEADER, {"headers": None}, None),
        (HEADER, {}, None),
        (QUERY, {"multiValueQueryStringParameters": {"user": ["ada", "grace"]}}, "grace"),
        (QUERY, {"queryStringParameters": {"user": "ada"}, "multiValueQueryStringParameters": None}, "ada"),
        (QUERY, {"queryStringParameters": {"User": "ada"}}, None),
        (QUERY, {"queryStringParameters": None}, None),
        (API_KEY, {"requestContext": {"identity": {"apiKey": "secret", "apiKeyId": "k1"}}}, "k1"),
        (API_KEY, {"requestContext": {"identity": {"apiKeyId": None}}}, None),
        (API_KEY, {}, None),
        (BODY, body_event({"parameters": {"user_id": "ada"}}), "ada"),
        (BODY, body_event({"parameters": {"user_id": 7}}), "7"),
        (BODY, body_event({"parameters": {"user_id": None}}), None),
        (BODY, body_event({"parameters": {"user_id": ["ada"]}}), None),
        (BODY, body_event({"parameters": "ada"}), None),
        (BODY, body_event([1]), None),
        (BODY, {"body": "not JSON"}, None),
        (BODY, {"body": "[" * 100_000}, None),
        (BODY, {"body": None}, None),
        (BODY, {"body": "?", "isBase64Encoded": True}, None),
    ],
)
def test_the_key_of_a_request(sticky: Sticky, event: dict[str, Any], key: str | None) -> None:
    assert read_sticky_key(sticky, event) == key


def test_a_body_in_base64_before_binary_tensors_is_read() -> None:
    text = json.dumps({"parameters": {"user_id": "ada"}}).encode()
    body = base64.b64encode(text + b"\0\1\2\3").decode()
    event = {"headers": {"Inference-Header-Content-Length": str(len(text))}, "body": body, "isBase64Encoded": True}
    assert read_sticky_key(BODY, event) == "ada"


@pytest.mark.parametrize(("encoding", "key"), [("gzip", "ada"), ("br", None)])
def test_a_compressed_body_is_read_if_possible(encoding: str, key: str | None) -> None:
    body = base64.b64encode(gzip.compress(b'{"parameters": {"user_id": "ada"}}')).decode()
    event = {"headers": {"content-encoding": encoding}, "body": body, "isBase64Encoded": True}
    assert read_sticky_key(BODY, event) == key


def test_every_kind_of_the_manifest_is_read() -> None:
    from turnout.layout import schema_path

    schema = json.loads(schema_path("models").read_bytes())
    assert set(schema["$defs"]["routing"]["properties"]["sticky"]["properties"]) == set(KEY_READERS)
