"""`GET /turnout/replay`: the token by which this server knows requests that `turnout replay` and its like send again.

What is replayed is no caller's request: it is not captured, sampled, counted for a canary's judgement or copied to a
shadow. The token is a secret of this run, handed to programs on this machine alone. A constant would let anybody who
sends it hide failing requests from a canary's judgement.
"""

from __future__ import annotations

import orjson

from turnout.gateway.services.aws_wire import AwsError
from turnout.http_server.messages import Handler, Request, Response

PATH = "/turnout/replay"


def make_replays(token: str) -> Handler:
    """The handler that hands out the token."""

    def answer_token(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH}").response()
        return Response(200, (("Content-Type", "application/json"),), orjson.dumps({"mark": token}))

    return answer_token
