"""The message that is printed once the server listens."""

from __future__ import annotations

import shlex
from pathlib import Path

import orjson

from turnout.gateway.banner import BannerRequest, render_banner, render_curl
from turnout.manifest.parser import Canary, Manifest, Stage, Throttle


def manifest(*stages: Stage) -> Manifest:
    return Manifest("turnout", (), stages, Path("/project/models.yaml"), "models.yaml", {})


def render(*stages: Stage, **changes: object) -> str:
    settings = {"default_stage": stages[0].name, "keys": {}, "sample": None, **changes}
    return render_banner(manifest(*stages), "http://127.0.0.1:8080", **settings)  # type: ignore[arg-type]


def test_a_stage_is_shown_with_all_of_its_settings() -> None:
    text = render(
        Stage("dev", {"iris": "v2"}, {}),
        Stage(
            "prod",
            {"iris": "v1"},
            {"spam": {"v1": 90, "v2": 10}},
            Canary(2.5, {"iris": "v2"}),
            "api_key",
            Throttle(100, 200),
        ),
        Stage("signed", {"iris": "v1"}, {}, auth="iam"),
        keys={"prod": "a-key"},
        notes=["stages.prod.weights.spam: later"],
    )
    assert "serves models.yaml at http://127.0.0.1:8080" in text
    dev, rest = text.split("  prod: ")
    prod, signed = rest.split("  signed: ")
    assert "and, as the default stage, /models/..." in dev
    assert "serves iris v2" in dev
    assert "default stage" not in prod
    for words in (
        "/prod/models/...",
        "iris v1, spam v1 90% and v2 10%",
        "canary: 2.5% of requests get iris v2",
        "x-api-key: printed by `turnout keys prod`",
        "throttle: 100 requests/s, 200 at once",
    ):
        assert words in prod
    assert "auth: iam" in signed
    assert "stages.prod.weights.spam: later" in text


def test_a_thousand_models_are_counted() -> None:
    text = render(Stage("dev", {f"m{number}": "v1" for number in range(1000)}, {}))
    assert "m7 v1 and 992 more" in text
    assert len(text) < 1000


def test_the_curl_command_is_quoted_for_the_shell() -> None:
    body = {"inputs": {"it's": ['$HOME `x` \\ "q"\n']}}
    words = shlex.split(render_curl("http://here", BannerRequest("/models/a/inference", body, "key")))
    assert words[:2] == ["curl", "http://here/models/a/inference"]
    assert orjson.loads(words[-1]) == body
    assert "x-api-key: $(turnout keys key)" in words
    assert "content-type: application/json" in words


def test_the_curl_command_and_notes_are_left_out_if_there_are_none() -> None:
    text = render(Stage("dev", {"iris": "v1"}, {}))
    assert "curl" not in text
    assert "Note" not in text
