"""Models with their own routes and models that share two routes: callers see no difference."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator
from typing import Any

import orjson
import pytest

from tests.builders.open_inference_project import write_open_inference_project
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.observers.counting import count_requests
from turnout.gateway.shared.counters import ROUTED
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Request, Response
from turnout.openapi.document import build_document
from turnout.openapi.public_document import publish_document
from turnout.plan.values import Plan
from turnout.project.project import Project, load_project

WAYS = ("direct", "shared", "packed", "table")
MANY = 90
"""Number of additional models that exceeds one variable for each model."""

FP32 = {"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
PAIR = {"inputs": [{"name": name, "shape": [2], "datatype": "FP32", "data": [1, 2]} for name in ("a", "b")]}
BINARY = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'

CASES: list[tuple[str, str, Any, dict[str, str]]] = [
    ("POST", "/models/fp32/inference", FP32, {}),
    ("POST", "/dev/models/fp32/inference/", FP32, {}),
    ("POST", "/models/fp32/v1/inference", FP32, {}),
    ("POST", "/models/fp32/v1/inference", FP32, {"x-turnout-version": "v9"}),
    ("POST", "/models/fp32/inference", {"instances": [1, 2]}, {}),
    ("POST", "/models/fp32/inference", {"inputs": {"x": [float(number) for number in range(30_000)]}}, {}),
    (
        "POST",
        "/models/fp32/inference",
        BINARY + b"\0\0\x80?",
        {"content-type": "application/octet-stream", "inference-header-content-length": str(len(BINARY))},
    ),
    ("POST", "/models/pair/inference", PAIR, {}),
    ("POST", "/models/pair/1/inference", PAIR, {}),
    ("POST", "/models/pair/v2/inference", PAIR, {"origin": "https://a.example"}),
    ("POST", "/models/pair/inference", FP32, {}),
    ("POST", "/models/pair/inference", b"{", {}),
    ("POST", "/models/pair/inference", b"", {}),
    ("POST", "/models/pair/inference", PAIR, {"content-type": "text/plain"}),
    ("POST", "/models/bytes/inference", {"inputs": {"x": ["a", "ä"]}}, {}),
    ("POST", "/models/routed/v2/inference", PAIR, {}),
    ("POST", "/keyed/models/routed/inference", PAIR, {"x-api-key": "secret"}),
    ("POST", "/models/chain/inference", PAIR, {}),
    ("POST", "/models/failing/inference", PAIR, {}),
    ("POST", "/models/failing/v1/inference", PAIR, {}),
    ("POST", "/keyed/models/fp32/inference", FP32, {"x-api-key": "secret"}),
    ("POST", "/keyed/models/fp32/inference", FP32, {}),
    ("POST", "/models/nothing/inference", FP32, {}),
    ("POST", "/models/fp32/v9/inference", FP32, {}),
    ("POST", "/models/chain/v1/inference", FP32, {}),
    ("POST", "/models/fp32/router/inference", FP32, {}),
    ("POST", "/models/FP32/inference", FP32, {}),
    ("POST", "/models/fp32", FP32, {}),
    ("POST", "/models/fp32/v1", FP32, {}),
    ("GET", "/models/fp32/inference", None, {}),
    ("GET", "/models/fp32/v1/inference", None, {}),
    ("PUT", "/models/fp32/inference", FP32, {}),
    ("GET", "/models", None, {}),
    ("HEAD", "/models/pair", None, {}),
    ("GET", "/models/pair", None, {}),
    ("GET", "/models/pair/v2", None, {}),
    ("GET", "/models/nothing", None, {}),
    ("GET", "/keyed/models/routed", None, {"x-api-key": "secret"}),
    ("GET", "/health/ready", None, {}),
    ("GET", "/openapi.json", None, {}),
    ("POST", "/v2/models/pair/infer", PAIR, {}),
    ("GET", "/v2/models/pair", None, {}),
    ("GET", "/v2/models/routed/ready", None, {}),
]


def send(gateway: Gateway, method: str, path: str, body: Any, headers: dict[str, str]) -> Response:
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    fields = {"Host": "here", "content-type": "application/json", **headers}

    async def ask() -> Response:
        outcome: Response | Awaitable[Response] = gateway.handle(
            Request(method, path, "", list(fields.items()), content)
        )
        return outcome if isinstance(outcome, Response) else await asyncio.wait_for(outcome, 60)

    return asyncio.run(ask())


def seen_by_caller(response: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return a response without the parts that differ for each response."""
    own = re.compile(r"x-amzn-requestid|x-amz-apigw-id|x-amzn-trace-id|date", re.IGNORECASE)
    return response.status, sorted(header for header in response.headers if not own.fullmatch(header[0])), response.body


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """The same models in four ways; in the last two, more are at the end of the file."""
    results = {}
    for way in WAYS:
        folder = write_open_inference_project(tmp_path_factory.mktemp(way))
        file = folder / "models.yaml"
        text = f"routes: {'direct' if way == 'direct' else 'shared'}\n{file.read_text()}"
        if way == "packed":
            more = [f"  more{n}: {{versions: {{v1: {{artifact: models/FP32.onnx}}}}}}" for n in range(MANY)]
            text = text.replace("\nstages:", "\n".join(["", *more, "", "stages:"]))
        if way == "table":  # long names, and models that take a stage variable each
            more = [f"  more{n}: {{direct: true, versions: {{v1: {{artifact: models/FP32.onnx}}}}}}" for n in range(84)]
            version = f"{{{'v' * 20}: {{artifact: models/FP32.onnx}}}}"
            more += [f"  more-{'x' * 33}{n:02}: {{versions: {version}}}" for n in range(96)]
            text = text.replace("\nstages:", "\n".join(["", *more, "", "stages:"]))
        file.write_text(text)
        results[way] = load_project(file)
    return results


@pytest.fixture(scope="module")
def plans(projects: dict[str, Project]) -> dict[str, Plan]:
    return {way: make_local_plan(project) for way, project in projects.items()}


@pytest.fixture(scope="module")
def gateways(projects: dict[str, Project], plans: dict[str, Plan]) -> Iterator[dict[str, Gateway]]:
    functions = {way: make_functions(projects[way], plans[way]) for way in WAYS}
    built = {way: build_gateway(projects[way], plans[way], functions[way], keys={"keyed": "secret"}) for way in WAYS}
    for way in WAYS[1:]:  # also through the general router, as on AWS and with --isolated
        built[f"{way}, routed"] = build_gateway(
            projects[way], plans[way], functions[way], keys={"keyed": "secret"}, shortens_shared_routes=False
        )
    yield built
    for made in functions.values():
        made.close(10)


@pytest.mark.parametrize(("method", "path", "body", "headers"), CASES)
def test_callers_see_no_difference(
    gateways: dict[str, Gateway], method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    seen = {way: seen_by_caller(send(gateway, method, path, body, headers)) for way, gateway in gateways.items()}
    assert seen["shared"] == seen["shared, routed"] == seen["direct"]
    for more in ("packed", "table"):
        assert seen[more] == seen[f"{more}, routed"]
        if b"more0" in seen[more][2]:  # a list of all models contains more of them
            assert seen[more][0] == seen["direct"][0]
        else:
            assert seen[more] == seen["direct"]


def test_an_api_needs_few_resources_for_any_number_of_models(plans: dict[str, Plan]) -> None:
    counts = {way: plan.resources["proxy"] for way, plan in plans.items()}
    assert counts["shared"] == counts["packed"] < 20 < counts["direct"]
    variables = plans["packed"].apis[0].stages[0].variables
    assert len(variables) < 20
    assert variables["routed"] == "router"
    assert {"fp32.v1", "more89.v1"} <= {entry for name in variables for entry in variables[name].split(",")}
    assert "fp32" in plans["shared"].apis[0].stages[0].variables
    assert "ChoiceTable" in plans["table"].apis[0].stages[0].variables
    assert len(plans["table"].apis[0].stages[0].variables) <= 100


def test_a_new_model_or_version_changes_nothing_in_the_document(plans: dict[str, Plan]) -> None:
    shared, packed = ([build_document(plans[way], api) for api in plans[way].apis] for way in ("shared", "packed"))
    assert shared == packed
    assert shared[0]["tags"] == []
    assert not any("Fp32" in name for name in shared[0]["components"]["schemas"])


def test_callers_find_every_model_in_the_document(plans: dict[str, Plan]) -> None:
    direct, shared = (
        publish_document(build_document(plan, plan.as_called(plan.apis[0])))
        for plan in (plans["direct"], plans["shared"])
    )
    assert direct == shared
    assert "/models/pair/v2/inference" in direct["paths"]


@pytest.mark.parametrize("through_router", [False, True])
def test_calls_count_for_the_called_function(
    projects: dict[str, Project], plans: dict[str, Plan], *, through_router: bool
) -> None:
    for way in ("shared", "packed", "table"):
        state = SharedState(1)
        state.become(0)
        functions = make_functions(projects[way], plans[way])
        known = frozenset(function.name for function in plans[way].functions if function.model)
        counting = count_requests(state.counters, known=known)
        gateway = build_gateway(
            projects[way], plans[way], functions, observers=[counting], shortens_shared_routes=not through_router
        )
        for path in ("fp32/inference", "pair/1/inference", "routed/inference", "nothing/inference", "fp32/x/inference"):
            send(gateway, "POST", f"/models/{path}", FP32, {})
        functions.close(10)
        counted = {
            key.function: sum(counts.statuses) for key, counts in state.counters.read().items() if key.kind != ROUTED
        }
        assert counted == {
            "turnout-local_fp32_v1": 1,
            "turnout-local_pair_1": 1,
            "turnout-local_routed_router": 1,
            "turnout-local_router": 2,
        }
