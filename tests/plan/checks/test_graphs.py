"""Models that are graphs, planned: functions, routes, variables, signatures, and how mismatches are reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import Artifacts, artifacts_of, manifest, model, signature, stage
from turnout.manifest.parser import (
    CallNode,
    Canary,
    EnsembleNode,
    Manifest,
    Model,
    Node,
    Position,
    SequenceNode,
    Version,
)
from turnout.plan.as_json import plan_to_json
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.problems import Problem, ProblemsError
from turnout.protocol.routing.graph_nodes import build_node
from turnout.protocol.tensors.datatypes import Signature

STEPS = SequenceNode((CallNode("iris", "v1", {}, {"y": "x"}), CallNode("iris", "v2")))


def with_graph(node: Node = STEPS, of: Manifest | None = None, name: str = "triage") -> Manifest:
    of = of or manifest()
    return replace(of, models=(*of.models, Model(name, (), graph=node)))


def plan_of(of: Manifest, tensors: dict[tuple[str, str], Signature] | None = None) -> Plan:
    return make_plan(of, artifacts_of(of, tensors))


def problems_of(of: Manifest, artifacts: Artifacts) -> tuple[Problem, ...]:
    with pytest.raises(ProblemsError) as raised:
        make_plan(of, artifacts)
    return raised.value.problems


def test_graph_has_its_own_router_with_the_layer() -> None:
    plan = plan_of(with_graph())
    (router,) = (function for function in plan.functions if function.model == "triage")
    assert (router.name, router.kind, router.version) == ("turnout-local_triage_router", "router", "")
    (package,) = (package for package in plan.packages if package.name == router.package)
    assert package.layer_bytes > 0


def test_every_stage_serves_the_graph_through_its_router() -> None:
    plan = plan_of(with_graph(of=manifest(stages=(stage("dev"), stage("prod", canary=Canary(10, {"iris": "v2"}))))))
    (api,) = plan.apis
    for planned in api.stages:
        assert (planned.variables["triage"], planned.variables["triageRoute"]) == ("router", "graph")
    assert [(route.path, route.function) for route in api.routes if route.model == "triage"] == [
        ("/models/triage/inference", "turnout-local_triage_${stageVariables.triage}")
    ]


def test_graph_is_planned_with_its_signature() -> None:
    of = with_graph(CallNode("iris", "v1", {"x": "raw"}, {"y": "species"}))
    (graph,) = plan_of(of).graphs
    assert graph.model == "triage"
    assert graph.node == of.model("triage").graph
    assert [tensor.name for tensor in graph.signature.inputs] == ["raw"]
    assert [tensor.name for tensor in graph.signature.outputs] == ["species"]


def test_graph_is_described_in_json_as_it_was_written() -> None:
    (graph,) = plan_to_json(plan_of(with_graph()))["graphs"]
    assert graph["model"] == "triage"
    assert build_node(graph["node"]) == STEPS
    assert [tensor["name"] for tensor in graph["signature"]["inputs"]] == ["x"]


def test_nested_graph_has_the_signature_of_what_it_calls() -> None:
    inner = with_graph(CallNode("iris", "v1", {"x": "raw"}))
    outer, other = plan_of(with_graph(CallNode("triage", "", {}, {"y": "z"}), inner, "outer")).graphs[::-1]
    assert outer.signature.inputs == other.signature.inputs
    assert [tensor.name for tensor in outer.signature.outputs] == ["z"]


def test_graph_may_be_listed_before_what_it_calls() -> None:
    of = with_graph(CallNode("triage"), with_graph(), "outer")
    graphs = plan_of(replace(of, models=of.models[::-1])).graphs
    assert [graph.model for graph in graphs] == ["outer", "triage"]
    assert graphs[0].signature == graphs[1].signature


@pytest.mark.parametrize(
    "stages",
    [
        (stage("dev"), stage("prod", {"iris": "v2"})),
        (stage("prod", canary=Canary(10, {"iris": "v2"})),),
        (stage("prod", {}, weights={"iris": {"v1": 90, "v2": 10}}),),
    ],
    ids=["stages", "canary", "weights"],
)
def test_call_without_a_version_must_match_every_served_version(stages: tuple[object, ...]) -> None:
    of = replace(manifest(stages=stages), models=(model(),))  # type: ignore[arg-type]
    breaking = tuple(replace(version, breaking=True) for version in of.models[0].versions)
    of = with_graph(CallNode("iris"), replace(of, models=(replace(of.models[0], versions=breaking),)))
    problems = problems_of(of, artifacts_of(of, {("iris", "v2"): signature("INT64")}))
    assert {problem.path for problem in problems} == {("models", "triage", "graph")}
    assert "the datatypes differ: FP32 and INT64" in problems[0].message


def test_mismatch_is_reported_at_its_line() -> None:
    path = ("models", "triage", "graph", "sequence", 1)
    of = replace(with_graph(), positions={path: Position(9, 11)})
    (problem,) = problems_of(of, artifacts_of(of, {("iris", "v2"): signature("INT64")}))
    assert (problem.path, problem.line, problem.column) == (path, 9, 11)
    assert problem.message == "`x` must be INT64 [-1,4], but the step before returns FP32 [-1,4]"


def test_mismatch_is_reported_once_for_any_number_of_calls() -> None:
    bad = with_graph(EnsembleNode((CallNode("iris", "v1"), CallNode("iris", "v1")), {"nothing": "mean"}))
    of = with_graph(SequenceNode((CallNode("triage"), CallNode("triage"))), bad, "outer")
    paths = [problem.path for problem in problems_of(of, artifacts_of(of))]
    assert paths.count(("models", "triage", "graph", "combine", "nothing")) == 1


def test_graph_that_calls_a_model_in_s3_is_rejected() -> None:
    version = Version("iris", "v1", "s3://bucket/key", "a" * 64)
    of = with_graph(CallNode("iris"), manifest((Model("iris", (version,)),)))
    (problem,) = problems_of(of, {})
    assert problem.path == ("models", "triage", "graph")
    assert "iris v1 is in S3" in problem.message


def test_missing_artifact_is_reported_once_without_problems_of_the_graph() -> None:
    of = with_graph()
    artifacts = artifacts_of(of)
    del artifacts["iris", "v2"]
    (problem,) = problems_of(of, artifacts)
    assert problem.path == ("models", "iris", "versions", "v2", "artifact")
