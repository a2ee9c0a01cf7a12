"""`GET /turnout/replay` returns a token.

It is the token by which this server recognizes requests that `turnout replay` and other commands send again.

A replayed request is not a caller's: it is not captured, sampled, counted for a canary's judgement or copied to a
shadow. The token is a secret of this run, given only to programs on this machine. With a constant, any caller could
hide failing requests from a canary's judgement.
"""

from __future__ import annotations

import orjson

from turnout.gateway.services.aws_wire import AwsError
from turnout.http_server.messages import Handler, Request, Response

PATH = "/turnout/replay"


def make_replays(token: str) -> Handler:
    """Make the handler that returns the token."""

    def answer_token(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH}").response()
        return Response(200, (("Content-Type", "application/json"),), orjson.dumps({"mark": token}))

    return answer_token
