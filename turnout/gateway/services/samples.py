"""`GET /turnout/samples`: sampled requests of a stage's canary. Reading removes them, unless `keep=true`.

`GET /turnout/replay` returns the token by which this server recognizes requests that `turnout replay` and other
commands send again. A replayed request is not a caller's: it is not captured, sampled, counted for a canary's judgement
or copied to a shadow. The token is a secret of this run, given only to programs on this machine. With a constant, any
caller could hide failing requests from a canary's judgement.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import orjson

from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.shared.samples import SharedSamples
from turnout.http_server.messages import Handler, Request, Response

PATH = "/turnout/samples"
REPLAY_PATH = "/turnout/replay"


MOST = 1000
"""Most samples in one answer."""


def make_samples(samples: SharedSamples) -> Handler:
    """Return the handler of `GET /turnout/samples?stage=prod&limit=100`.

    It removes a stage's samples and returns them.

    With `&keep=true` it removes nothing, and the answer has the latest samples, the newest first; HEAD never removes
    any. Without it, `&model=iris`, which may be repeated, takes the samples of that model only.
    """

    def answer_samples(request: Request) -> Response:
        values = parse_qs(request.query)
        query = {name: given[-1] for name, given in values.items()}
        stage, limit = query.get("stage", ""), query.get("limit", "100")
        keep = query.get("keep", "false")
        is_number = limit.isascii() and limit.isdigit() and len(limit) < 5
        if request.method not in {"GET", "HEAD"} or not stage or not is_number or keep not in {"true", "false"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH}?stage=NAME&limit=NUMBER").response()
        most = min(int(limit), MOST)
        models = values.get("model", ())
        is_kept = keep == "true" or request.method == "HEAD"
        lines = samples.recent(stage, most) if is_kept else samples.take(stage, most, models)
        body = b'{"samples":[' + b",".join(lines) + b"]}"
        return Response(200, (("Content-Type", "application/json"),), body)

    return answer_samples


def make_replays(token: str) -> Handler:
    """Make the handler that returns the token."""

    def answer_token(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {REPLAY_PATH}").response()
        return Response(200, (("Content-Type", "application/json"),), orjson.dumps({"mark": token}))

    return answer_token
