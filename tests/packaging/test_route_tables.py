from __future__ import annotations

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.parser import Manifest, Model, Routing, Sticky
from turnout.packaging.route_tables import find_reached, make_route_table
from turnout.plan.planner import make_plan
from turnout.protocol.routing.graph_nodes import build_node
from turnout.protocol.routing.route_table import GraphRoute, ModelRoute, RouteTable, VersionRoute
from turnout.protocol.tensors.datatypes import Signature, TensorSpec


def graph(name: str, *called: str) -> Model:
    node = build_node({"sequence": [{"model": model} for model in called]})
    return Model(name, (), graph=node)


def table_of(of: Manifest, name: str) -> RouteTable:
    return make_route_table(of, make_plan(of, artifacts_of(of), stack="prod"), name)


def test_a_routed_model_contains_its_versions_and_what_its_routing_needs() -> None:
    routing = Routing(Sticky("header", "x-user-id"), shadow_version="v2", shadow_percent=5.0, fallback="v1")
    stages = (stage("dev", version_override=True), stage("prod"))
    result = table_of(manifest((model(routing=routing),), stages), "iris")
    versions = {"v1": VersionRoute(15), "v2": VersionRoute(15)}
    route = ModelRoute("iris", versions, Sticky("header", "x-user-id"), "v2", 5.0, "v1")
    assert result == RouteTable("iris", "turnout-prod", {"iris": route}, frozenset({"dev"}))


def test_a_graph_contains_everything_that_it_reaches_with_their_inputs() -> None:
    tensor = TensorSpec("t", "FP32", (-1, 4))
    echo = Signature((tensor,), (tensor,))
    models = (model("bert-base", ("v1",)), model("other"), graph("outer", "inner"), graph("inner", "bert-base"))
    serve = {"bert-base": "v1", "other": "v1"}
    of = manifest(models, (stage(serve=serve),))
    plan = make_plan(of, artifacts_of(of, {("bert-base", "v1"): echo}))
    result = make_route_table(of, plan, "outer").models
    assert list(result) == ["outer", "inner", "bert-base"]
    assert result["bert-base"] == ModelRoute("bertBase", {"v1": VersionRoute(15, ("t",))})
    assert result["outer"].graph == GraphRoute(models[2].graph, echo.to_json())


def test_each_model_is_listed_once_callers_first() -> None:
    models = (model("a", ("v1",)), graph("g", "h", "a"), graph("h", "a"))
    assert find_reached(manifest(models, (stage(serve={"a": "v1"}),)), "g") == ("g", "h", "a")
