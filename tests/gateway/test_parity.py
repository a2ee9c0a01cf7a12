"""The gateway compared with recorded answers of AWS: whole events, answers, errors, a canary's invocation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.builders.documents import API, HOST, FakeFunctions, document, gateway, operation, request, respond, stage
from turnout.gateway.api.gateway import Gateway, RestApi
from turnout.gateway.api.proxy_event import Endpoint
from turnout.gateway.rules.document import function_of_uri
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.http_server.messages import Request, Response

RECORDED = Path(__file__).resolve().parent.parent / "fixtures" / "aws_recorded"
EDGE = re.compile(r"CloudFront-.*|Via|X-Amz-Cf-Id|X-Amz-Cf-Pop|X-Cache", re.IGNORECASE)
CONNECTION = {"Connection", "Content-Length", "Date"}
ENDPOINT = Endpoint(account_id="111111111111", scheme="https", port=443)

BROWSER = (
    ("User-Agent", "python-requests/testing"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept", "*/*"),
    ("Connection", "keep-alive"),
    ("tEsT-HEADeR", "aValUE"),
    ("authorization", "random-value"),
    ("Host", HOST),
)
POSTED = (
    ("User-Agent", "python-requests/testing"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept", "*/*"),
    ("Connection", "keep-alive"),
    ("Content-Type", "application/json;charset=utf-8"),
    ("aUThorization", "Bearer token123;API key456"),
    ("Content-Length", "26"),
    ("Host", HOST),
)
MAPPED = (
    ("user-Agent", "test/integration"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept", "application/json"),
    ("Connection", "keep-alive"),
    ("Content-Type", "application/json"),
    ("foobar", "mapped-value"),
    ("headerVar", "request-value"),
    ("Content-Length", "26"),
    ("Host", HOST),
)
HELLO = b'{"message": "hello world"}'
ENCODED = (
    "dateTimeOffset=2023-06-12T18:05:10.123456+00:00&email=test%2Balias@gmail.com&plus=test+alias@gmail.com"
    "&url=https://www.google.com/&whitespace=foo%20bar&zhash=abort/"
)
EMAIL = "/api/user/test%2Balias@gmail.com/plus/test+alias@gmail.com"


def recorded(file: str, test: str) -> dict[str, Any]:
    """One test's recordings by their key."""
    tests = json.loads((RECORDED / f"apigateway_{file}.json").read_text(encoding="utf-8"))
    (result,) = [content for name, content in tests.items() if name.split("::")[-1] == test]
    return dict(result["recorded-content"])


def without_edge(value: Any) -> Any:
    """Return a recorded value without what CloudFront added."""
    if isinstance(value, dict):
        return {key: without_edge(inner) for key, inner in value.items() if not EDGE.fullmatch(key)}
    return value


def differences(expected: Any, actual: Any, seen: dict[str, Any], path: str = "event") -> list[str]:
    """Return where two values differ. A placeholder stands for any value, but for the same one everywhere."""
    if isinstance(expected, str) and re.fullmatch(r"<.*>", expected):
        value = actual[0] if isinstance(actual, list) and len(actual) == 1 else actual
        if value in (None, "") or seen.setdefault(expected, value) != value:
            return [f"{path}: {expected} was {seen.get(expected)!r}, is {actual!r}"]
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        results = (
            [f"{path}: keys {sorted(expected.keys() ^ actual.keys())}"] if expected.keys() != actual.keys() else []
        )
        for key in expected.keys() & actual.keys():
            results += differences(expected[key], actual[key], seen, f"{path}.{key}")
        return results
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            line
            for index, pair in enumerate(zip(expected, actual, strict=True))
            for line in differences(*pair, seen, f"{path}[{index}]")
        ]
    return [] if expected == actual and type(expected) is type(actual) else [f"{path}: {expected!r} != {actual!r}"]


def as_recorded(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as the recording writes it, with a JSON body parsed."""
    event = json.loads(json.dumps(event))
    return {**event, "body": json.loads(event["body"]) if event["body"] else event["body"]}


EVENTS = [
    ("without-trailing-slash", "GET", "/stage/proxy-value", "", BROWSER, b""),
    ("with-trailing-slash", "GET", "/stage/proxy-value/", "", BROWSER, b""),
    ("with-double-slash", "GET", "/stage/proxy-value//double-slash", "", BROWSER, b""),
    ("with-prepended-slash-to-stage", "GET", "//stage/proxy-value", "", BROWSER, b""),
    ("with-prepended-slash", "GET", "/stage//proxy-value", "", BROWSER, b""),
    ("without-trailing-slash-and-query-params", "GET", "/stage/proxy-value", "urlparam=test", BROWSER, b""),
    ("with-trailing-slash-and-query-params", "GET", "/stage/proxy-value/", "urlparam=test", BROWSER, b""),
    ("with-path-encoded-email", "GET", f"/stage/proxy-value{EMAIL}", "", BROWSER, b""),
    ("with-params-encoding", "GET", "/stage/proxy-value/api", ENCODED, BROWSER, b""),
    (
        "with-params-encoding-multi",
        "POST",
        "/stage/proxy-value",
        "category=electronics&category=books&price=10&price=20&price=30",
        POSTED,
        HELLO,
    ),
    ("hardcoded", "GET", "/stage//hardcoded", "", BROWSER, b""),
]


@pytest.mark.parametrize(
    ("key", "method", "path", "query", "headers", "body"), EVENTS, ids=[entry[0] for entry in EVENTS]
)
def test_event_equals_the_recorded_one(
    key: str, method: str, path: str, query: str, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    functions = FakeFunctions()
    paths = {
        "/{proxy+}": {"x-amazon-apigateway-any-method": operation()},
        "/hardcoded": {"x-amazon-apigateway-any-method": operation()},
    }
    under_test = gateway(paths, functions, stage("stage"), endpoint=ENDPOINT)
    recordings = recorded("lambda", "test_lambda_aws_proxy_integration")
    name = key if key == "hardcoded" else f"payload-{key}"

    assert respond(under_test, Request(method, path, query, headers, body)).status == 200

    expected = without_edge(recordings[f"invocation-{name}"])
    assert differences(expected, as_recorded(functions.events[0]), {}) == []


def test_every_recorded_event_is_compared() -> None:
    recordings = recorded("lambda", "test_lambda_aws_proxy_integration")
    compared = {f"invocation-payload-{entry[0]}" for entry in EVENTS} | {"invocation-hardcoded"}

    assert recordings.keys() <= compared


def test_event_equals_the_recorded_one_if_the_integration_maps_parameters() -> None:
    functions = FakeFunctions()
    mapping = {"requestParameters": {"integration.request.header.headerVar": "method.request.header.foobar"}}
    paths = {"/{pathVariable}": {"x-amazon-apigateway-any-method": operation(integration=mapping)}}
    under_test = gateway(paths, functions, stage("test"), endpoint=ENDPOINT)
    recording = recorded("lambda", "test_lambda_aws_proxy_integration_request_data_mapping")

    respond(under_test, Request("POST", "/test/foobar", "testQueryString=foo&testVar=bar", MAPPED, HELLO))

    expected = without_edge(recording["http-proxy-invocation-data-mapping"]["content"])
    assert differences(expected, as_recorded(functions.events[0]), {}) == []


MULTIPLE = {"headers": {"test-multi": "value-solo"}}
ANSWERS: list[tuple[str, int, Any]] = [
    ("no-body", 200, {"statusCode": 200}),
    ("with-headers", 200, {"statusCode": 200, "headers": {"test-header": "value", "header-bool": True}}),
    ("with-headers-null", 200, {"statusCode": 200, "headers": None}),
    ("wrong-format", 502, {"statusCode": 200, "wrongValue": "value"}),
    ("b64-encoded-true", 200, {"statusCode": 200, "body": "dGVzdC1kYXRh", "isBase64Encoded": True}),
    ("b64-encoded-false", 200, {"statusCode": 200, "body": "dGVzdC1kYXRh"}),
    ("multi-headers-valid", 200, {"statusCode": 200, "multiValueHeaders": {"test-multi": ["value1", "value2"]}}),
    (
        "multi-headers-overwrite",
        200,
        {
            "statusCode": 200,
            "multiValueHeaders": {"test-multi": ["value-multi"]},
            "headers": {"test-multi": "value-solo"},
        },
    ),
    (
        "multi-headers-overwrite-casing",
        200,
        {
            "statusCode": 200,
            "multiValueHeaders": {"tesT-Multi": ["value-multi"]},
            "headers": {"test-multi": "value-solo"},
        },
    ),
    ("multi-headers-invalid", 502, {"statusCode": 200, "multiValueHeaders": {"test-multi-invalid": "value1"}}),
    ("invalid-status-code", 502, {"statusCode": "test"}),
    ("status-code-str", 201, {"statusCode": "201"}),
    ("just-string", 502, "justAString"),
    ("only-headers", 200, {"headers": {"test-header": "value"}}),
]


def as_requests_reads(response: Response) -> dict[str, str]:
    """Return header fields as the recording's client joins them: a repeated name under its first spelling."""
    spellings: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value in response.headers:
        spelling = spellings.setdefault(name.lower(), name)
        headers[spelling] = f"{headers[spelling]}, {value}" if spelling in headers else value
    return headers


@pytest.mark.parametrize(("key", "status", "answer"), ANSWERS, ids=[entry[0] for entry in ANSWERS])
def test_answer_equals_the_recorded_one(key: str, status: int, answer: Any) -> None:
    functions = FakeFunctions(lambda event: answer)
    under_test = gateway({"/{proxy+}": {"x-amazon-apigateway-any-method": operation()}}, functions)
    recording = recorded("lambda", "test_aws_proxy_response_payload_format_validation")[f"invoke-api-{key}"]

    response = respond(under_test, request("/dev/test", headers={"Accept": "*/*"}))

    assert response.status == status
    content = recording["content"]
    assert (json.loads(response.body) if isinstance(content, dict) else response.body.decode()) == content
    if "headers" in recording:
        expected = {name: value for name, value in without_edge(recording["headers"]).items() if name not in CONNECTION}
        assert differences(expected, as_requests_reads(response), {}, "headers") == []


def test_every_recorded_answer_is_compared() -> None:
    recordings = recorded("lambda", "test_aws_proxy_response_payload_format_validation")
    # "empty-response" was a failed function: the test's own function could not parse the empty body that it received.
    compared = {f"invoke-api-{entry[0]}" for entry in ANSWERS} | {"invoke-api-empty-response"}

    assert recordings.keys() == compared


def test_integration_with_a_method_other_than_post_fails_as_recorded() -> None:
    paths = {"/{proxy+}": {"x-amazon-apigateway-any-method": operation(integration={"httpMethod": "GET"})}}
    recording = recorded("lambda", "test_lambda_aws_proxy_integration_non_post_method")

    response = respond(gateway(paths, FakeFunctions()), request("/dev/test-path", "GET"))

    assert response.status == 500
    assert json.loads(response.body) == recording["invocation-payload-with-get-proxy-method"]


URIS = [
    ("put-integration-lambda-uri", "arn:aws:lambda:eu-west-1:000000000000:function:fn"),
    ("put-integration-wrong-arn", "nonsense"),
    (
        "put-integration-wrong-type",
        "arn:aws:apigateway:eu-west-1:lambda:/2015-03-31/functions/arn:aws:lambda:eu-west-1:0:function:fn/invocations",
    ),
    ("put-integration-bad-lambda-arn", "arn:aws:apigateway:eu-west-1:lambda:path/random/functions"),
]


@pytest.mark.parametrize(("key", "uri"), URIS)
def test_bad_uri_is_rejected_with_the_recorded_message(key: str, uri: str) -> None:
    recording = recorded("lambda", "test_put_integration_aws_proxy_uri")[key]

    with pytest.raises(ValueError, match=re.escape(recording["message"])):
        function_of_uri(uri)


@pytest.mark.parametrize(
    ("key", "method", "path"), [("not-found", "GET", "/nothing"), ("wrong-method", "POST", "/exists")]
)
def test_routing_miss_gets_the_recorded_error(key: str, method: str, path: str) -> None:
    recording = recorded("common", "test_routing_not_found")[key]
    under_test = gateway({"/exists": {"get": operation()}}, FakeFunctions())

    response = respond(under_test, request(f"/dev{path}", method))

    assert response.status == 403
    assert json.loads(response.body) == recording["content"]
    assert dict(response.headers)["x-amzn-ErrorType"] == recording["errorType"]


FULL_TRACE = "Root=1-3152b799-8954dae64eda91bc9a23a7e8;Parent=7fa8c0f79203be72;Sampled=1"


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("normal-req-headers-AWS_PROXY", ""),
        ("trace-id-req-headers-AWS_PROXY", FULL_TRACE),
        ("trace-id-small-req-headers-AWS_PROXY", "Root=1-3152b799-8954dae64eda91bc9a23a7e8"),
    ],
)
def test_answer_has_the_recorded_headers_for_a_sent_trace(key: str, sent: str) -> None:
    recording = recorded("common", "test_invocation_trace_id")[key]
    under_test = gateway({"/{proxy+}": {"x-amazon-apigateway-any-method": operation()}}, FakeFunctions())

    response = respond(under_test, request("/dev/x", "GET", headers={"x-amzn-trace-id": sent} if sent else {}))

    headers = {name.lower(): value for name, value in response.headers}
    names = {name for name in without_edge(recording) if name.title() not in CONNECTION}
    assert headers.keys() == names
    trace = headers["x-amzn-trace-id"]
    assert trace.startswith(sent)
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]", trace)


SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}


def validated(method: str, path_name: str) -> Gateway:
    """The API of the recorded validator test."""
    parameters = [
        {"name": "qs1", "in": "query", "required": True, "schema": {"type": "string"}},
        {"name": path_name, "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "x-header-param", "in": "header", "required": True, "schema": {"type": "string"}},
    ]
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/testSchema"}}}}
    paths = {"/{test}": {method.lower(): operation(parameters=parameters, requestBody=body)}}
    return gateway(
        paths,
        FakeFunctions(),
        request_validator="all",
        request_validators={"all": {"validateRequestBody": True, "validateRequestParameters": True}},
        components={"schemas": {"testSchema": SCHEMA}},
    )


@pytest.mark.parametrize(
    ("key", "path_name", "query", "headers", "body"),
    [
        ("missing-all-required-request-params-post", "issuer", "", {}, b'{"a": 1, "b": 2}'),
        ("missing-required-headers-request-params-get", "test", "qs1=test", {}, b'{"a": 1, "b": 2}'),
        ("missing-required-qs-request-params-get", "test", "", {"x-header-param": "t"}, b'{"a": 1, "b": 2}'),
        ("invalid-request-body", "test", "qs1=test", {"x-header-param": "t"}, b'{"a": 1}'),
        ("invalid-request-body", "test", "qs1=test", {"x-header-param": "t"}, b""),
        ("invalid-request-body", "test", "qs1=test", {"x-header-param": "t"}, b"{"),
    ],
)
def test_validator_rejects_with_the_recorded_message(
    key: str, path_name: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    recording = recorded("common", "test_api_gateway_request_validator")[key]

    response = respond(validated("POST", path_name), request("/dev/value", query=query, headers=headers, body=body))

    assert (response.status, json.loads(response.body)) == (400, recording)
    assert dict(response.headers)["x-amzn-ErrorType"] == "BadRequestException"


def test_canary_requests_are_answered_as_recorded() -> None:
    recording = recorded("canary", "test_invoking_canary_deployment")
    settings = recording["update-stage"]
    overrides = settings["canarySettings"]["stageVariableOverrides"]
    names = {"d1": "default deployment", "d2": "canary deployment"}

    def answer(event: Mapping[str, Any]) -> dict[str, Any]:
        variables = event["stageVariables"]
        body = {
            "message": names[event["requestContext"]["deploymentId"]],
            "variable": variables["testVar"],
            "nonExistingDefault": variables.get("noStageVar", ""),
            "nonOverridden": variables["defaultVar"],
        }
        return {"statusCode": 200, "body": json.dumps(body)}

    shares: list[str] = []

    def invoke(canary: CanarySettings | None) -> dict[str, Any]:
        one = StageSettings("dev", API, "d1", settings["variables"], canary)
        under_test = Gateway(
            [RestApi(API, document({"/": {"get": operation()}}), (one,))],
            FakeFunctions(answer),
            observers=[
                lambda exchange, response, duration_s: shares.append(
                    "true" if exchange.share is not None and exchange.share.is_canary else "false"
                )
            ],
        )
        response = respond(under_test, request("/dev/", "GET"))
        return {**json.loads(response.body), "isCanary": shares[-1], "statusCode": response.status}

    percent = settings["canarySettings"]["percentTraffic"]
    assert invoke(None) == recording["response-deployment-1"]
    assert invoke(CanarySettings(percent, overrides, "d2")) == recording["response-canary-deployment"]
