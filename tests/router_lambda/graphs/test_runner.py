"""Graphs: sequences, ensembles, switches, nested graphs, and failing steps."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from router_lambda.router import Router
from tests.builders.callees import Behaviour, Callees, answering, computing, failing
from turnout.protocol import bfloat16
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES
from turnout.protocol.routing.graph_nodes import build_node
from turnout.protocol.routing.invocation import Answered
from turnout.protocol.routing.route_table import GraphRoute, ModelRoute, RouteTable, VersionRoute
from turnout.protocol.routing.sticky import Sticky
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

Row = Mapping[str, Any]

X = TensorSpec("x", "FP32", (-1, 2))
Y = TensorSpec("y", "FP32", (-1, 2))
KIND = TensorSpec("kind", "INT64", (1,))
LABEL = TensorSpec("label", "INT64", (-1,))

DOUBLE = computing(Signature((X,), (Y,)), lambda x: {"y": x * 2})
NEGATE = computing(Signature((X,), (Y,)), lambda x: {"y": -x})
LABELS = computing(Signature((X,), (Y, LABEL)), lambda x: {"y": x + 1, "label": np.arange(len(x), dtype=np.int64)})


def plain(*versions: str, **route: Any) -> ModelRoute:
    return ModelRoute("", {version: VersionRoute(15, ("x",)) for version in versions}, **route)


def graph(node: Row, inputs: tuple[TensorSpec, ...] = (X,), outputs: tuple[TensorSpec, ...] = (Y,)) -> ModelRoute:
    return ModelRoute("", graph=GraphRoute(build_node(node), Signature(inputs, outputs).to_json()))


def run(
    models: Mapping[str, ModelRoute],
    behaviours: Mapping[str, Behaviour],
    request: Row,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    variables: Mapping[str, str] | None = None,
    override_stages: frozenset[str] = frozenset(),
) -> tuple[dict[str, Any], Callees]:
    """Return the answer of the graph `triage`, and its calls; `behaviours` by model and version."""
    named = {
        name: ModelRoute(name, model.versions, model.sticky, graph=model.graph, fallback=model.fallback)
        for name, model in models.items()
    }
    callees = Callees({f"p_{name}": behave for name, behave in behaviours.items()})
    event = {
        "headers": {"content-type": "application/json", "X-Amzn-Trace-Id": "Root=1", **(headers or {})},
        "body": base64.b64encode(body or json.dumps(request).encode()).decode(),
        "isBase64Encoded": True,
        "requestContext": {"stage": "prod", "requestId": "r1"},
        "stageVariables": {"triage": "router", "triageRoute": "graph", "alias": "live", **(variables or {})},
    }
    router = Router(RouteTable("triage", "p", named, override_stages), callees, random=lambda: 0.0, clock=lambda: 0.0)
    return asyncio.run(router.answer(event, 10.0)), callees


ASKED = {"inputs": {"x": [[1.0, 2.0]]}}


def y_of(answer: Mapping[str, Any]) -> Any:
    assert answer["statusCode"] == 200, answer["body"]
    return json.loads(answer["body"])["outputs"]["y"]


SEQUENCE = {"sequence": [{"model": "a", "version": "v1"}, {"model": "b", "version": "v1", "inputs": {"x": "y"}}]}
TWO = {"triage": graph(SEQUENCE), "a": plain("v1"), "b": plain("v1")}


def test_outputs_of_one_step_are_the_inputs_of_the_next() -> None:
    answer, callees = run(TWO, {"a_v1": DOUBLE, "b_v1": NEGATE}, ASKED)
    assert y_of(answer) == [[-2.0, -4.0]]
    assert callees.called() == ["p_a_v1", "p_b_v1"]
    assert answer["headers"] == {
        "Content-Type": "application/json",
        "x-turnout-model": "triage",
        "x-turnout-version": "graph",
        "x-turnout-canary": "false",
        "x-turnout-route": "graph",
    }


def test_trace_and_request_id_reach_every_step_and_headers_of_the_body_reach_none() -> None:
    _, callees = run(TWO, {"a_v1": DOUBLE, "b_v1": NEGATE}, ASKED)
    for call in callees.calls:
        assert call.event["headers"]["X-Amzn-Trace-Id"] == "Root=1"
        assert call.event["headers"]["content-type"] == "application/octet-stream"
        assert call.event["multiValueHeaders"]["content-type"] == ["application/octet-stream"]
        assert call.event["requestContext"]["requestId"] == "r1"
        assert call.event["turnout"] == {"hop": 1, "shadow": False}


def test_outputs_are_renamed() -> None:
    models = {
        **TWO,
        "triage": graph(
            {"model": "a", "version": "v1", "outputs": {"y": "z"}}, outputs=(TensorSpec("z", "FP32", None),)
        ),
    }
    answer, _ = run(models, {"a_v1": DOUBLE}, ASKED)
    assert json.loads(answer["body"]) == {"outputs": {"z": [[2.0, 4.0]]}}


def test_a_request_is_answered_in_its_own_form() -> None:
    behaviours = {"a_v1": DOUBLE, "b_v1": NEGATE}
    rows, _ = run(TWO, behaviours, {"instances": [[1.0, 2.0]]})
    assert json.loads(rows["body"]) == {"predictions": [[-2.0, -4.0]]}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    open_form, _ = run(TWO, behaviours, {"id": "7", "inputs": [tensor]})
    assert json.loads(open_form["body"]) == {
        "model_name": "triage",
        "model_version": "graph",
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [-2.0, -4.0]}],
    }


def test_a_binary_request_gets_a_binary_answer() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    body = text + np.array([1, 2], "<f4").tobytes()
    answer, _ = run(TWO, {"a_v1": DOUBLE, "b_v1": NEGATE}, {}, headers=headers, body=body)
    assert answer["isBase64Encoded"]
    length = int(answer["headers"]["Inference-Header-Content-Length"])
    assert np.frombuffer(base64.b64decode(answer["body"])[length:], "<f4").tolist() == [-2.0, -4.0]


def test_bf16_is_kept_between_steps() -> None:
    x, y = (TensorSpec(name, "BF16", (1,)) for name in "xy")
    echo = computing(Signature((x,), (y,)), lambda x: {"y": x})
    models = {"triage": graph({"model": "a", "version": "v1"}, (x,), (y,)), "a": plain("v1")}
    answer, _ = run(models, {"a_v1": echo}, {"inputs": {"x": [1.5]}})
    assert y_of(answer) == [1.5]
    assert bfloat16.to_float32(np.array([0x3FC0], np.uint16)).tolist() == [1.5]


# Ensembles

MEMBERS = [{"model": "a", "version": "v1"}, {"model": "a", "version": "v2"}]


def ensemble(combine: Any, outputs: tuple[TensorSpec, ...] = (Y,)) -> dict[str, ModelRoute]:
    return {"triage": graph({"ensemble": MEMBERS, "combine": combine}, outputs=outputs), "a": plain("v1", "v2")}


@pytest.mark.parametrize(
    ("combine", "y"), [("mean", [[0.5, 1.0]]), ("vote", [[2.0, 4.0]]), ("concatenate", [[2.0, 4.0], [-1.0, -2.0]])]
)
def test_the_answers_of_the_members_are_combined(combine: str, y: Any) -> None:
    answer, callees = run(ensemble(combine), {"a_v1": DOUBLE, "a_v2": NEGATE}, ASKED)
    assert y_of(answer) == y
    assert sorted(callees.called()) == ["p_a_v1", "p_a_v2"]


def test_each_output_has_its_own_combination_and_one_without_is_left_out() -> None:
    behaviours = {"a_v1": LABELS, "a_v2": LABELS}
    both, _ = run(ensemble({"label": "vote", "y": "mean"}, (Y, LABEL)), behaviours, ASKED)
    assert json.loads(both["body"])["outputs"] == {"y": [[2.0, 3.0]], "label": [0]}
    assert list(json.loads(both["body"])["outputs"]) == [
        "y",
        "label",
    ]  # as in the signature, in any order of `combine`
    one, _ = run(ensemble({"label": "vote"}, (LABEL,)), behaviours, ASKED)
    assert json.loads(one["body"])["outputs"] == {"label": [0]}


def test_members_are_called_concurrently() -> None:
    async def meet(event: Mapping[str, Any], behave: Behaviour) -> Answered:
        waiting.append(1)
        if len(waiting) == 2:
            met.set()
        async with asyncio.timeout(5):
            await met.wait()
        result = behave(event)
        assert isinstance(result, Answered)
        return result

    waiting: list[int] = []
    met = asyncio.Event()
    behaviours = {"a_v1": lambda event: meet(event, DOUBLE), "a_v2": lambda event: meet(event, NEGATE)}
    answer, _ = run(ensemble("mean"), behaviours, ASKED)
    assert y_of(answer) == [[0.5, 1.0]]


def test_incompatible_answers_of_members_are_a_failure_of_the_graph() -> None:
    short = computing(Signature((X,), (Y,)), lambda x: {"y": x[:0]})
    answer, _ = run(ensemble("mean"), {"a_v1": DOUBLE, "a_v2": short}, ASKED)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (502, "STEP_FAILED")
    assert "`y`: mean: shapes [1, 2] and [0, 2]" in json.loads(answer["body"])["error"]


def test_an_output_missing_in_a_member_is_left_out_unless_it_is_named() -> None:
    behaviours = {"a_v1": LABELS, "a_v2": DOUBLE}
    others, _ = run(ensemble("vote", (Y, LABEL)), behaviours, ASKED)
    assert list(json.loads(others["body"])["outputs"]) == ["y"]
    named, _ = run(ensemble({"*": "mean", "label": "vote"}, (Y, LABEL)), behaviours, ASKED)
    assert (named["statusCode"], json.loads(named["body"])["code"]) == (502, "STEP_FAILED")
    assert "`label`: not every member" in json.loads(named["body"])["error"]


def test_additional_outputs_of_a_transform_follow_the_planned_ones() -> None:
    answer, _ = run({**ONE, "triage": graph(THEN, outputs=(LABEL,))}, {"a_v1": LABELS}, ASKED)
    assert list(json.loads(answer["body"])["outputs"]) == ["label", "y"]


# Switches


def switch(cases: list[Row], kind: TensorSpec = KIND) -> dict[str, ModelRoute]:
    node = {"switch": {"input": "kind", "cases": cases, "otherwise": {"model": "a", "version": "v2"}}}
    return {"triage": graph(node, (X, kind)), "a": plain("v1", "v2")}


THEN = {"model": "a", "version": "v1"}
TEXT = TensorSpec("kind", "BYTES", (1,))
FLAG = TensorSpec("kind", "BOOL", (1,))
HALF = TensorSpec("kind", "BF16", (1,))
SINGLE = TensorSpec("kind", "FP32", (1,))


@pytest.mark.parametrize(
    ("case", "spec", "value", "version"),
    [
        ({"equals": 1}, KIND, 1, "v1"),
        ({"equals": 1}, KIND, 2, "v2"),
        ({"below": 5}, KIND, 4, "v1"),
        ({"below": 5}, KIND, 5, "v2"),
        ({"above": 5}, KIND, 6, "v1"),
        ({"above": 5}, KIND, 5, "v2"),
        ({"equals": "tulip"}, TEXT, "tulip", "v1"),
        ({"equals": "tulip"}, TEXT, "rose", "v2"),
        ({"below": 5}, TEXT, "4", "v2"),
        ({"equals": True}, FLAG, True, "v1"),
        ({"equals": True}, FLAG, False, "v2"),
        ({"above": 1.25}, HALF, 1.5, "v1"),
        ({"above": 0.1}, HALF, 0.1, "v2"),
        ({"equals": 0.1}, HALF, 0.1, "v1"),
        ({"equals": 0.1}, SINGLE, 0.1, "v1"),
        ({"above": 0.1}, SINGLE, 0.1, "v2"),
        ({"below": 0.3}, SINGLE, 0.3, "v2"),
        ({"below": 1e300}, SINGLE, 1.0, "v1"),
        ({"above": 1.25}, HALF, "NaN", "v2"),
    ],
)
def test_a_switch_calls_one_case_by_its_input(case: Row, spec: TensorSpec, value: Any, version: str) -> None:
    request = {"inputs": {"x": [[1.0, 2.0]], "kind": [value]}}
    answer, callees = run(switch([{**case, "then": THEN}], spec), {"a_v1": DOUBLE, "a_v2": NEGATE}, request)
    assert callees.called() == [f"p_a_{version}"]
    assert y_of(answer) == ([[2.0, 4.0]] if version == "v1" else [[-1.0, -2.0]])


def test_the_first_matching_case_is_called() -> None:
    cases = [{"below": 5, "then": THEN}, {"below": 9, "then": {"model": "a", "version": "v2"}}]
    _, callees = run(switch(cases), {"a_v1": DOUBLE, "a_v2": NEGATE}, {"inputs": {"x": [[1, 2]], "kind": [3]}})
    assert callees.called() == ["p_a_v1"]


def test_a_switch_on_several_values_is_a_client_error() -> None:
    spec = TensorSpec("kind", "INT64", (-1,))
    answer, callees = run(switch([], spec), {}, {"inputs": {"x": [[1, 2]], "kind": [3, 4]}})
    assert (answer["statusCode"], callees.calls) == (400, [])
    assert "`kind`: expected a tensor with one element" in json.loads(answer["body"])["error"]


# Nested graphs


def test_a_nested_graph_runs_without_another_hop() -> None:
    outer = {"ensemble": [{"model": "inner"}, {"model": "a", "version": "v1"}], "combine": "mean"}
    models = {"triage": graph(outer), "inner": graph(SEQUENCE), "a": plain("v1"), "b": plain("v1")}
    answer, callees = run(models, {"a_v1": DOUBLE, "b_v1": NEGATE}, ASKED)
    assert y_of(answer) == [[0.0, 0.0]]
    assert sorted(callees.called()) == ["p_a_v1", "p_a_v1", "p_b_v1"]


def test_a_graph_that_calls_itself_is_a_loop() -> None:
    models = {"triage": graph({"model": "inner"}), "inner": graph({"model": "triage"})}
    answer, _ = run(models, {}, ASKED)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (508, "LOOP")
    assert "triage -> inner -> triage" in json.loads(answer["body"])["error"]


def test_a_step_without_a_version_uses_the_one_that_the_stage_serves() -> None:
    models = {"triage": graph({"model": "a"}), "a": plain("v1", "v2")}
    _, plain_call = run(models, {"a_v2": DOUBLE}, ASKED, variables={"a": "v2"})
    assert plain_call.called() == ["p_a_v2"]
    routed, sticky = {"a": "router", "aRoute": "v1.50,v2.50"}, Sticky("header", "x-user-id")
    models["a"] = plain("v1", "v2", sticky=sticky)
    functions = {
        user: set(
            run(models, {"a_v1": DOUBLE, "a_v2": DOUBLE}, ASKED, variables=routed, headers={"X-User-Id": user})[
                1
            ].called()
        )
        for user in ("ada", "grace", "edsger", "barbara") * 2
    }
    assert all(len(called) == 1 for called in functions.values())


PINNED = {"model": "a", "version": "v2"}
STAGE_CHOOSES = {"a": "router", "aRoute": "v2.100"}


def test_a_step_that_names_a_version_gets_it_or_fails() -> None:
    models = {"triage": graph(PINNED), "a": plain("v1", "v2", fallback="v1")}
    answer, callees = run(models, {"a_v1": DOUBLE, "a_v2": failing("timed_out")}, ASKED)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (504, "STEP_TIMED_OUT")
    assert callees.called() == ["p_a_v2"]
    assert callees.calls[0].deadline_s == 10.0  # no time is reserved for a second call
    assert "x-turnout-fallback-from" not in answer["headers"]


@pytest.mark.parametrize(
    ("node", "variables"), [({"model": "a"}, STAGE_CHOOSES), ({**PINNED, "fallback": True}, {})], ids=["stage", "asked"]
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_step_that_falls_back_is_named_in_the_answer(node: Row, variables: Row, is_nested: bool) -> None:
    models = {"triage": graph(node), "a": plain("v1", "v2", fallback="v1")}
    if is_nested:
        models |= {"triage": graph({"model": "inner"}), "inner": graph(node)}
    answer, callees = run(models, {"a_v1": DOUBLE, "a_v2": failing("timed_out")}, ASKED, variables=variables)
    assert y_of(answer) == [[2.0, 4.0]]
    assert callees.called() == ["p_a_v2", "p_a_v1"]
    assert answer["headers"]["x-turnout-fallback-from"] == "a v2"
    assert answer["headers"]["x-turnout-route"] == "graph"


def test_all_steps_that_fall_back_are_named_once() -> None:
    node = {"ensemble": [{"model": name} for name in ("b", "a", "a", "c")], "combine": "mean"}
    models = {"triage": graph(node), **{name: plain("v1", "v2", fallback="v1") for name in "abc"}}
    behaviours = {f"{name}_v1": DOUBLE for name in "abc"} | {f"{name}_v2": failing("failed") for name in "ab"}
    answer, _ = run(models, behaviours | {"c_v2": DOUBLE}, ASKED, variables=dict.fromkeys("abc", "v2"))
    assert y_of(answer) == [[2.0, 4.0]]
    assert answer["headers"]["x-turnout-fallback-from"] == "a v2, b v2"


@pytest.mark.parametrize("variables", [{}, {"a": "v9"}, {"a": "router"}, {"a": "router", "aRoute": "v9.100"}])
def test_a_step_without_a_version_in_the_variables_is_a_misconfigured_api(variables: dict[str, str]) -> None:
    answer, callees = run({"triage": graph({"model": "a"}), "a": plain("v1")}, {}, ASKED, variables=variables)
    assert (answer["statusCode"], callees.calls) == (500, [])


# Failures

ONE = {"triage": graph({"model": "a", "version": "v1"}), "a": plain("v1")}
REFUSAL = json.dumps({"error": "too cold", "code": "REFUSED_BY_TRANSFORM", "details": {"row": 3}})


@pytest.mark.parametrize(
    ("behave", "status", "code", "says"),
    [
        (failing("failed"), 502, "STEP_FAILED", "a v1 failed"),
        (failing("unknown_function"), 502, "STEP_FAILED", "a v1 has no function"),
        (failing("too_large"), 502, "STEP_FAILED", "a v1 returned a response above Lambda's limit"),
        (failing("timed_out"), 504, "STEP_TIMED_OUT", "a v1 timed out"),
        (failing("throttled"), 429, "STEP_THROTTLED", "a v1 is throttled"),
        (failing("request_too_large"), 413, "PAYLOAD_TOO_LARGE", "a v1 got a request above"),
        (answering(422, REFUSAL), 422, "REFUSED_BY_TRANSFORM", "a v1: too cold"),
        (answering(500, REFUSAL), 502, "STEP_FAILED", "a v1 answered 500: too cold"),
        (answering(418, REFUSAL), 502, "STEP_FAILED", "a v1 answered 418"),
        (answering(500, "rubbish"), 502, "STEP_FAILED", "a v1 answered 500"),
        (answering(400, "[]"), 502, "STEP_FAILED", "a v1 answered 400"),
        (answering(200, '{"outputs": []}'), 502, "STEP_FAILED", "cannot be parsed: expected tensors in binary"),
        (lambda _event: Answered({"body": "?", "isBase64Encoded": True}), 502, "STEP_FAILED", "cannot be parsed"),
        (lambda _event: Answered({"rubbish": 1}), 502, "STEP_FAILED", "a v1 failed"),
    ],
)
def test_a_step_that_fails_is_named(behave: Behaviour, status: int, code: str, says: str) -> None:
    answer, _ = run(ONE, {"a_v1": behave}, ASKED)
    said = json.loads(answer["body"])
    assert (answer["statusCode"], said["code"], said["details"]["step"]) == (status, code, "a v1")
    assert says in said["error"]
    assert answer["headers"]["x-turnout-model"] == "triage"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"inputs": {"z": [[1, 2]]}}, "UNKNOWN_INPUT"),
        ({"inputs": {"x": [[1, 2, 3]]}}, "SHAPE_MISMATCH"),
        ({"inputs": {}}, "MISSING_INPUT"),
        ({"inputs": {"x": [[1, 2]]}, "outputs": ["z"]}, "UNKNOWN_OUTPUT"),
        ({}, "INVALID_REQUEST"),
    ],
)
def test_an_invalid_request_is_rejected_before_any_call(request_: Row, code: str) -> None:
    answer, callees = run(TWO, {}, request_)
    assert (answer["statusCode"], json.loads(answer["body"])["code"], callees.calls) == (400, code, [])


@pytest.mark.parametrize("stages", [frozenset(), frozenset({"prod"})])
def test_a_version_cannot_be_chosen_for_a_graph(stages: frozenset[str]) -> None:
    answer, callees = run(TWO, {}, ASKED, headers={"x-turnout-version": "v1"}, override_stages=stages)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (400, "VERSION_NOT_ALLOWED")
    assert callees.calls == []


def test_tensors_between_steps_over_the_limit_of_lambda_are_reported() -> None:
    rows = LARGEST_BODY_BYTES // 8

    def unchecked(event: Mapping[str, Any]) -> Answered:
        part = np.zeros((rows, 2), np.float32).tobytes()
        fields = {"name": "y", "datatype": "FP32", "shape": [rows, 2], "parameters": {"binary_data_size": len(part)}}
        text = json.dumps({"outputs": [fields]}).encode()
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
        body = base64.b64encode(text + part).decode()
        return Answered({"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True})

    answer, callees = run(TWO, {"a_v1": unchecked, "b_v1": DOUBLE}, ASKED)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert callees.called() == ["p_a_v1"]
