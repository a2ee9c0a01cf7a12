"""`GET /turnout/samples`: sampled requests of a stage's canary, each once, or the latest ones again."""

from __future__ import annotations

from urllib.parse import parse_qs

from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.shared.samples import SharedSamples
from turnout.http_server.messages import Handler, Request, Response

PATH = "/turnout/samples"


MOST = 1000
"""Most samples in one answer."""


def make_samples(samples: SharedSamples) -> Handler:
    """Return the handler of `GET /turnout/samples?stage=prod&limit=100`.

    It removes a stage's samples and returns them.

    With `&keep=true` it removes nothing, and the answer has the latest samples, the newest first. Without it,
    `&model=iris`, which may be repeated, takes the samples of that model only.
    """

    def answer_samples(request: Request) -> Response:
        values = parse_qs(request.query)
        query = {name: given[-1] for name, given in values.items()}
        stage, limit = query.get("stage", ""), query.get("limit", "100")
        keep = query.get("keep", "false")
        is_number = limit.isascii() and limit.isdigit() and len(limit) < 5
        if request.method != "GET" or not stage or not is_number or keep not in {"true", "false"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH}?stage=NAME&limit=NUMBER").response()
        most = min(int(limit), MOST)
        models = values.get("model", ())
        lines = samples.recent(stage, most) if keep == "true" else samples.take(stage, most, models)
        body = b'{"samples":[' + b",".join(lines) + b"]}"
        return Response(200, (("Content-Type", "application/json"),), body)

    return answer_samples
