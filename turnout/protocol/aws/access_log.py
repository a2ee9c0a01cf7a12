"""The keys of an access log's line, here and on AWS, and what API Gateway puts under each."""

from __future__ import annotations

from collections.abc import Mapping

ACCESS_LOG_FIELDS: Mapping[str, str] = {
    "time": "$context.requestTime",
    "id": "$context.extendedRequestId",
    "request_id": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "api_key_id": "$context.identity.apiKeyId",
    "caller": "-",
    "stage": "$context.stage",
    "method": "$context.httpMethod",
    "resource": "$context.resourcePath",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "latency_ms": "$context.responseLatency",
    "integration_status": "$context.integration.status",
    "integration_latency_ms": "$context.integration.latency",
    "function_request_id": "$context.integration.requestId",
    "error": "$context.error.responseType",
    "canary": "$context.isCanaryRequest",
    "deployment": "$context.deploymentId",
    "function": "-",
    "version": "-",
}
"""Every value is text: one that is missing is `-`, which is no JSON number.

API Gateway puts each value between the quotes as it is, without escaping. So none of these holds text that a client
chooses: a quote in it would break the line, or add fields to it. Left out for that reason: the user agent, the path
(`resource` is the route's own), and the messages of errors, which repeat headers and what a function raised.
`caller` is `CALLER_FIELD` on a stage with consumers.
`function` and `version` are known here only: API Gateway has no variable for them. `function_request_id` is Lambda's
`requestId` of the call, under which the log of the function that was called has its lines.
A client may choose `request_id`, but only a UUID: anything else is replaced.
Source: API Gateway Developer Guide, "Access logging for REST APIs".
"""

CALLER_FIELD = "$context.authorizer.caller"
"""The consumer's name, which models.yaml chose; elsewhere, an authorizer's values are what a client's token says."""
