"""The keys of a line in the access log, here and on AWS, and API Gateway's variable for each."""

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
"""Every value is text: a missing one is `-`, which is not a JSON number.

API Gateway puts each value between the quotes without escaping. So none of these contains text from a client: a quote
in it would break the line, or add fields to it. For that reason the user agent, the path (`resource` is the route's
own) and error messages are left out: error messages repeat headers and the text of exceptions. `caller` is
`CALLER_FIELD` on a stage with consumers. `function` and `version` exist only here: API Gateway has no variable for
them. `function_request_id` is Lambda's `requestId` of the call, which the called function's log lines have. A client
may choose `request_id`, but only a UUID: anything else is replaced. Source: API Gateway Developer Guide, "Access
logging for REST APIs".
"""

CALLER_FIELD = "$context.authorizer.caller"
"""The consumer's name from models.yaml. On other stages, an authorizer's values come from the client's token."""
