"""API Gateway's own error responses for requests that reach no function: status, body, `x-amzn-ErrorType`.

Bodies are written as AWS writes them: an error before a method's own request is read has no space after the colon
(`content-length: 42` for a missing token, 23 for a wrong key, 31 for a throttle), others have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayError:
    """One kind of error.

    Args:
        kind: the gateway response type that customizes it, a key of `STATUS_OF_KIND`.
        status: HTTP status; a customized gateway response may replace it.
        code: `x-amzn-ErrorType`.
        message: the value of `$context.error.message`.
        spaced: whether AWS's own body has a space after the colon.
    """

    kind: str
    status: int
    code: str
    message: str
    spaced: bool = True


STATUS_OF_KIND: Mapping[str, int] = {
    "ACCESS_DENIED": 403,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "DEFAULT_4XX": 0,  # the status of the error that it replaces
    "DEFAULT_5XX": 0,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "WAF_FILTERED": 403,
}
"""Every gateway response type that a document may customize, with the status that AWS documents for it."""

BAD_PATH = GatewayError("DEFAULT_4XX", 400, "BadRequestException", "Bad Request")
UNKNOWN_ROUTE = GatewayError(
    "MISSING_AUTHENTICATION_TOKEN",
    403,
    "MissingAuthenticationTokenException",
    "Missing Authentication Token",
    spaced=False,
)
UNSIGNED = UNKNOWN_ROUTE
"""IAM's error for a request without a signature, with the same message as for an unknown route."""
UNKNOWN_STAGE = GatewayError("DEFAULT_4XX", 403, "ForbiddenException", "Forbidden", spaced=False)
INVALID_API_KEY = GatewayError("INVALID_API_KEY", 403, "ForbiddenException", "Forbidden", spaced=False)
ACCESS_DENIED = GatewayError("ACCESS_DENIED", 403, "AccessDeniedException", "Forbidden", spaced=False)
QUOTA_EXCEEDED = GatewayError("QUOTA_EXCEEDED", 429, "LimitExceededException", "Limit Exceeded", spaced=False)
UNAUTHORIZED = GatewayError("UNAUTHORIZED", 401, "UnauthorizedException", "Unauthorized", spaced=False)
THROTTLED = GatewayError("THROTTLED", 429, "TooManyRequestsException", "Too Many Requests", spaced=False)
INVALID_BODY = GatewayError("BAD_REQUEST_BODY", 400, "BadRequestException", "Invalid request body")
EVENT_TOO_LARGE = GatewayError("REQUEST_TOO_LARGE", 413, "BadRequestException", "Request Too Long")
TIMED_OUT = GatewayError("INTEGRATION_TIMEOUT", 504, "InternalServerErrorException", "Endpoint request timed out")
MISCONFIGURED = GatewayError("API_CONFIGURATION_ERROR", 500, "InternalServerErrorException", "Internal server error")
FAILED = GatewayError("INTEGRATION_FAILURE", 502, "InternalServerErrorException", "Internal server error")
BROKEN = GatewayError("DEFAULT_5XX", 500, "InternalServerErrorException", "Internal server error")
"""An internal error: the traceback is in the log, the caller gets what AWS would return."""


def missing_parameters(names: tuple[str, ...]) -> GatewayError:
    """Return the error for missing required parameters; `names` in the order in which AWS lists them."""
    message = f"Missing required request parameters: [{', '.join(names)}]"
    return GatewayError("BAD_REQUEST_PARAMETERS", 400, "BadRequestException", message)


ERROR_OF_INVOCATION: Mapping[str, GatewayError] = {
    "unknown_function": MISCONFIGURED,
    "failed": FAILED,
    "timed_out": TIMED_OUT,
    "throttled": THROTTLED,
    "too_large": FAILED,
}
"""`Invocation.error` -> API Gateway's error."""
