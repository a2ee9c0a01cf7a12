"""What a stage decides, on a running server: versions, canary, keys, throttle; and how functions fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until
from tests.e2e.conftest import write_variants

IRIS_ROWS = {"inputs": [{"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
ECHO = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
DIRECT = "/models/iris/inference"


# --- versions


@pytest.mark.parametrize(
    ("path", "version"),
    [
        (DIRECT, "v1"),  # the first stage
        (f"/plain{DIRECT}", "v1"),
        (f"/newest{DIRECT}", "v2"),
        ("/models/iris/v2/inference", "v2"),
        ("/plain/models/iris/v2/inference", "v2"),
        ("/newest/models/iris/v1/inference", "v1"),
        (f"/plain{DIRECT}/", "v1"),  # API Gateway ignores a trailing slash
        (f"{DIRECT}?trace=1&trace=2", "v1"),
    ],
)
def test_a_path_selects_a_version(variants: RunningServer, path: str, version: str) -> None:
    answer = variants.post(path, IRIS_ROWS)
    assert answer.status == 200, answer.body
    assert answer.headers["x-turnout-model"] == "iris"
    assert answer.headers["x-turnout-version"] == version
    assert answer.headers["x-turnout-canary"] == "false"
    assert answer.json()["model_version"] == version


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/nothing/inference"),
        ("POST", "/models/iris/v9/inference"),
        ("POST", "/models/iris/v1"),
        ("POST", "/nowhere/models/iris/inference"),
        ("PUT", DIRECT),
        ("POST", "/"),
        ("POST", "/plain"),
        ("POST", "/models/iris/v1/inference/more"),
        ("POST", "/models/IRIS/inference"),
        ("POST", "/models/iris/../iris/inference"),
    ],
)
def test_an_unknown_route_gets_the_403_of_api_gateway(variants: RunningServer, method: str, path: str) -> None:
    answer = variants.request(method, path, b"{}")
    assert answer.status == 403
    assert answer.json() == {"message": "Missing Authentication Token"}
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert "x-turnout-model" not in answer.headers


def test_another_default_stage_can_be_configured(tmp_path: Path, root: Path) -> None:
    project = write_variants(tmp_path, root)
    with running_server(project, "--stage", "newest") as server:
        assert server.post(DIRECT, IRIS_ROWS).headers["x-turnout-version"] == "v2"
        assert server.post(f"/plain{DIRECT}", IRIS_ROWS).headers["x-turnout-version"] == "v1"


# --- the canary


def draws(server: RunningServer, stage: str, count: int) -> Counter[tuple[str, str]]:
    """Return how often each (version, canary) answered."""
    seen: Counter[tuple[str, str]] = Counter()
    with server.client() as client:
        for _ in range(count):
            answer = client.post(f"/{stage}{DIRECT}", IRIS_ROWS)
            assert answer.status == 200
            seen[answer.headers["x-turnout-version"], answer.headers["x-turnout-canary"]] += 1
    return seen


def test_a_canary_of_0_percent_gets_no_requests(variants: RunningServer) -> None:
    assert draws(variants, "never", 100) == {("v1", "false"): 100}


def test_a_canary_of_100_percent_gets_all_requests(variants: RunningServer) -> None:
    assert draws(variants, "always", 100) == {("v2", "true"): 100}


def test_a_canary_of_50_percent_gets_about_half(variants: RunningServer) -> None:
    seen = draws(variants, "half", 600)
    assert seen.keys() == {("v1", "false"), ("v2", "true")}
    # Six standard deviations of a binomial with 600 draws: fails by chance once in 500 million runs.
    assert abs(seen["v2", "true"] - 300) <= 74


def test_a_versioned_route_keeps_its_version_in_both_shares(variants: RunningServer) -> None:
    answer = variants.post("/always/models/iris/v1/inference", IRIS_ROWS)
    assert answer.headers["x-turnout-version"] == "v1"
    assert answer.headers["x-turnout-canary"] == "true"


# --- API keys and throttle


@pytest.mark.parametrize("sent", [None, "", "wrong", "k" * 40])
def test_a_stage_with_keys_rejects_requests_without_one(variants: RunningServer, sent: str | None) -> None:
    headers = {} if sent is None else {"x_api_key": sent}
    answer = variants.post(f"/keyed{DIRECT}", IRIS_ROWS, **headers)
    assert answer.status == 403
    assert answer.json() == {"message": "Forbidden"}
    assert answer.headers["x-amzn-errortype"] == "ForbiddenException"


def test_a_stage_accepts_its_own_key_and_no_other(variants: RunningServer) -> None:
    key, other = variants.api_key("keyed"), variants.api_key("keyed-too")
    assert len(key) == len(other) == 40
    assert variants.post(f"/keyed{DIRECT}", IRIS_ROWS, x_api_key=key).status == 200
    assert variants.post(f"/keyed{DIRECT}", IRIS_ROWS, x_api_key=other).status == 403
    assert variants.post(f"/keyed-too{DIRECT}", IRIS_ROWS, x_api_key=other).status == 200
    assert variants.post(f"/plain{DIRECT}", IRIS_ROWS).status == 200


def test_startup_shows_the_command_that_prints_a_key_and_prints_none(variants: RunningServer) -> None:
    text = variants.stderr.read_text()
    assert "`turnout keys keyed`" in text
    assert variants.api_key("keyed") not in text
    assert variants.api_key("keyed-too") not in text


def test_a_throttled_stage_answers_its_burst_and_then_429(variants: RunningServer) -> None:
    with variants.client() as client:
        answers = [client.post(f"/tight{DIRECT}", IRIS_ROWS) for _ in range(20)]
        assert client.post(f"/plain{DIRECT}", IRIS_ROWS).status == 200  # another stage
    statuses = [answer.status for answer in answers]
    assert statuses[:3] == [200, 200, 200]
    assert set(statuses[3:]) <= {200, 429}  # one token is added each second
    assert statuses.count(429) >= 10
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.json() == {"message": "Too Many Requests"}
    assert refused.headers["x-amzn-errortype"] == "TooManyRequestsException"


def test_a_stage_with_weights_is_served_by_the_router_of_the_model(variants: RunningServer) -> None:
    answers = [variants.post(f"/weighted{DIRECT}", IRIS_ROWS) for _ in range(40)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-turnout-route"] for answer in answers} == {"weight"}
    assert {answer.headers["x-turnout-version"] for answer in answers} == {"v1", "v2"}
    direct = variants.post("/weighted/models/iris/v1/inference", IRIS_ROWS)
    assert "x-turnout-route" not in direct.headers


# --- failing functions


def test_a_model_that_cannot_be_opened_is_a_502_with_the_reason_in_the_log(variants: RunningServer) -> None:
    for _ in range(2):
        answer = variants.post("/models/refused/inference", ECHO)
        assert answer.status == 502
        assert answer.json() == {"message": "Internal server error"}
    wait_until(lambda: "NoSuchOperator" in variants.stderr.read_text(), "the reason in the log")
    assert variants.post(DIRECT, IRIS_ROWS).status == 200


def test_a_transform_that_raises_is_a_500_without_details(variants: RunningServer) -> None:
    answer = variants.post("/models/raising/inference", ECHO)
    assert answer.status == 500
    assert answer.json()["code"] == "TRANSFORM_FAILED"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    wait_until(lambda: "secret of the transform" in variants.stderr.read_text(), "the reason in the log")
    assert "Traceback" in variants.stderr.read_text()


def test_a_run_past_the_timeout_of_its_function_is_a_504_and_is_ended(variants: RunningServer) -> None:
    forever = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [2**60]}]}
    short = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [7]}]}
    with variants.client() as client:
        for _ in range(3):  # more than the function has threads: each is free again
            answer = client.post("/models/loop/inference", forever)
            assert answer.status == 504
            assert answer.json() == {"message": "Endpoint request timed out"}
        answer = client.post("/models/loop/inference", short)
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [7]
