"""`GET /turnout/replay`: the mark by which this server knows requests that `turnout replay` and its like send again.

What is replayed is no caller's request: it is not captured, sampled, counted for a canary's judgement or copied to a
shadow. The mark is a secret of this run, handed to programs on this machine alone. A constant would let anybody who
sends it hide failing requests from a canary's judgement.
"""

from __future__ import annotations

import orjson

from turnout.gateway.http.messages import Handler, Request, Response
from turnout.gateway.services.aws_wire import AwsError

PATH = "/turnout/replay"


def make_replays(mark: str) -> Handler:
    """The handler that hands out the mark."""

    def answer_mark(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH}").response()
        return Response(200, (("Content-Type", "application/json"),), orjson.dumps({"mark": mark}))

    return answer_mark
