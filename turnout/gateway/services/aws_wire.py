"""AWS's rest-json protocol: answers and errors in the format of its clients.

Source: botocore's rest-json parser, which takes an error's code from `x-amzn-ErrorType` and its message from `message`
or `Message`.
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from turnout.http_server.messages import Response


class AwsError(Exception):
    """An error in AWS's format: boto3 raises it as `ClientError` with this code and message.

    Args:
        status: HTTP status.
        code: `ResourceNotFoundException`.
        message: the error's sentence.
        more: further members of the body.
    """

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.more = more

    def response(self) -> Response:
        """Return the response."""
        return answer(self.status, {"message": str(self), **self.more}, ("x-amzn-ErrorType", self.code))


def answer(status: int, body: Any = None, *headers: tuple[str, str]) -> Response:
    """Return a response with a JSON body, or without a body."""
    own = ("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4()))
    return Response(status, (*own, *headers), b"" if body is None else orjson.dumps(body))


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a request's JSON object; an empty body is an empty object.

    Raises:
        ValueError: the body is something else.
    """
    value = orjson.loads(body or b"{}")
    if not isinstance(value, dict):
        raise ValueError("expected an object")  # noqa: TRY004 - one kind of error for all
    return value
