"""Which requests of a canary are sampled, and how they are returned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.builders.documents import FakeFunctions, gateway, operation, request, respond, stage
from tests.builders.graphs import write_identity
from turnout.gateway.editions.edition import make_local_plan
from turnout.gateway.observers.capture import Redactions
from turnout.gateway.observers.sampling import sample_requests, shares_of
from turnout.gateway.rules.stages import CanarySettings
from turnout.gateway.services.local_only import local_only
from turnout.gateway.services.registry import answer_paths
from turnout.gateway.services.samples import PATH, make_samples
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.samples import SharedSamples
from turnout.http_server.messages import Request, Response
from turnout.manifest.parser import Manifest, parse_manifest
from turnout.project.project import Project, load_project

MODELS = """
models:
  iris: {versions: {v1: {artifact: m.onnx}, v2: {artifact: m.onnx}}}
  split: {versions: {v1: {artifact: m.onnx}, v2: {artifact: m.onnx}}}
"""
STAGES = "stages: {dev: {serve: {iris: v1}, weights: {split: {v1: 50, v2: 50}}}}\n"
PATHS = {
    "/models/iris/inference": {"post": operation("turnout-local_iris_${stageVariables.iris}:live")},
    "/models/iris/v1/inference": {"post": operation("turnout-local_iris_v1:live")},
    "/models/split/inference": {"post": operation("turnout-local_split_${stageVariables.split}:live")},
}
SAID = {"x-turnout-model": "split", "x-turnout-version": "v2"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    write_identity(folder / "m.onnx")
    (folder / "models.yaml").write_text(MODELS + STAGES)
    return load_project(folder / "models.yaml")


def sampled(
    project: Project,
    path: str,
    *,
    overrides: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    draws: tuple[float, float] = (0.9, 0.0),
    redactions: Redactions | None = None,
    body: bytes = b'{"instances":[1]}',
) -> list[Any]:
    """Return what one request leaves; the first random number is for the canary, the second for the sample."""
    samples = SharedSamples(SharedLock(), 0)
    canary = None if overrides is None else CanarySettings(50, overrides, "d1")
    under_test = gateway(
        PATHS,
        FakeFunctions(lambda event: {"statusCode": 200, "headers": SAID, "body": "{}"}),
        stage(variables={"iris": "v1", "split": "router", "splitRoute": "v1.50,v2.50"}, canary=canary),
        observers=[
            sample_requests(
                samples,
                {"dev": 5.0} if shares is None else shares,
                make_local_plan(project),
                random=lambda: draws[1],
                redactions=redactions or {},
            )
        ],
        random=lambda: draws[0],
    )
    respond(under_test, request(path, headers={"Content-Type": "application/json"}, body=body))
    result = orjson.loads(answer(samples, "stage=dev").body)
    return [sample["turnout_capture"] for sample in result["samples"]]


def test_samples_are_redacted_like_captures(project: Path) -> None:
    body = (
        b'{"id": "Ann", "parameters": {"user": "Ann"}, "who": "Ann", "inputs": '
        b'[{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["Ann"], "parameters": {"of": "Ann"}}], '
        b'"outputs": [{"name": "y", "parameters": {"of": "Ann", "binary_data": false}}]}'
    )
    redactions = {("iris", "v1"): {"x"}, ("iris", "v2"): {"x"}}
    (entry,) = sampled(
        project, "/dev/models/iris/inference", overrides={"iris": "v2"}, redactions=redactions, body=body
    )
    assert entry["body"] == {
        "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    (entry,) = sampled(project, "/dev/models/iris/inference", overrides={"iris": "v2"}, body=body)
    assert entry["body"]["id"] == "Ann"


def answer(samples: SharedSamples, query: str, method: str = "GET") -> Response:
    result = make_samples(samples)(Request(method, PATH, query, (), b""))
    assert isinstance(result, Response)
    return result


IRIS = "/dev/models/iris/inference"


@pytest.mark.parametrize(("drawn", "version", "canary"), [(0.9, "v1", False), (0.1, "v2", True)])
def test_both_shares_of_a_model_that_the_canary_overrides_are_sampled(
    drawn: float, version: str, canary: bool, project: Project
) -> None:
    (entry,) = sampled(project, IRIS, overrides={"iris": "v2"}, draws=(drawn, 0.0))
    assert (entry["model"], entry["version"], entry["canary"], entry["body"]) == (
        "iris",
        version,
        canary,
        {"instances": [1]},
    )


def test_a_percentage_of_requests_is_sampled(project: Project) -> None:
    assert len(sampled(project, IRIS, overrides={"iris": "v2"}, draws=(0.9, 0.0499))) == 1
    assert sampled(project, IRIS, overrides={"iris": "v2"}, draws=(0.9, 0.05)) == []


def test_a_canary_of_a_routed_model_is_sampled_behind_the_router(project: Project) -> None:
    (entry,) = sampled(project, "/dev/models/split/inference", overrides={"splitRoute": "v2.100"})
    assert (entry["model"], entry["version"]) == ("split", "v2")


@pytest.mark.parametrize(
    ("path", "overrides", "shares"),
    [
        (IRIS, None, {"dev": 100.0}),  # no canary
        (IRIS, {"iris": "v2"}, {"prod": 100.0}),  # another stage is configured
        (IRIS, {"splitRoute": "v2.100"}, {"dev": 100.0}),  # another model's canary
        ("/dev/models/split/inference", {"iris": "v2"}, {"dev": 100.0}),
        (
            "/dev/models/iris/v1/inference",
            {"iris": "v2"},
            {"dev": 100.0},
        ),  # the version is named, for example in a replayed sample
        ("/dev/nowhere", {"iris": "v2"}, {"dev": 100.0}),
    ],
)
def test_requests_that_no_canary_decides_are_not_sampled(
    path: str, overrides: dict[str, str] | None, shares: dict[str, float], project: Project
) -> None:
    assert sampled(project, path, overrides=overrides, shares=shares) == []


def test_without_agreement_in_any_stage_there_is_no_observer(project: Project) -> None:
    assert sample_requests(SharedSamples(SharedLock(), 0), {}, make_local_plan(project)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STAGES, {}),
        ("defaults: {canary: {AGREEMENT}}\n" + STAGES, {"dev": 7.0}),
        (
            STAGES[:-2] + ", prod: {serve: {iris: v1, split: v1}, canary: {percent: 5, serve: {iris: v2}, AGREEMENT}}}",
            {"prod": 7.0},
        ),
    ],
)
def test_percentages_are_those_of_the_manifest(text: str, expected: dict[str, float]) -> None:
    text = text.replace("AGREEMENT", "agreement: {percent: 7, floor: 0.9}")
    assert shares_of(read_manifest(MODELS + text)) == expected


def read_manifest(text: str) -> Manifest:
    return parse_manifest(text.encode(), path=Path("/models.yaml"), source="models.yaml")


def test_the_requested_number_of_samples_is_returned() -> None:
    samples = SharedSamples(SharedLock(), 0)
    for number in range(3):
        samples.add("dev", b"%d" % number)
    assert answer(samples, "stage=dev&keep=false", "HEAD").status == 200
    assert answer(samples, "stage=dev&limit=2").body == b'{"samples":[0,1]}'
    assert answer(samples, "stage=prod").body == b'{"samples":[]}'
    assert answer(samples, "stage=dev").body == b'{"samples":[2]}'


@pytest.mark.parametrize(
    ("query", "method"),
    [
        ("", "GET"),
        ("limit=1", "GET"),
        ("stage=dev&limit=-1", "GET"),
        ("stage=dev&limit=many", "GET"),
        ("stage=dev", "POST"),
    ],
)
def test_an_invalid_query_gets_a_400(query: str, method: str) -> None:
    assert answer(SharedSamples(SharedLock(), 0), query, method).status == 400


@pytest.mark.parametrize(
    ("path", "client", "status"), [("/a", "127.0.0.1", 200), ("/b", "127.0.0.1", 404), ("/a", "10.0.0.1", 403)]
)
def test_own_services_answer_their_paths_on_this_machine(path: str, client: str, status: int) -> None:
    handle = local_only(answer_paths({"/a": lambda _: Response(200)}))
    result = handle(Request("GET", path, "", (), b"", client))
    assert isinstance(result, Response)
    assert result.status == status
