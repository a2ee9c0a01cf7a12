from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from jsonschema import Draft4Validator

from router_lambda.general.serving import ServedStage, reach_all
from tests.builders.general_router import ask, route_event
from tests.builders.manifests import artifacts_of, large_manifest, manifest, manifests, model, signature, stage
from tests.builders.work import count_calls
from turnout.artifacts.examples import read_examples
from turnout.manifest.parser import CallNode, Manifest, Model, Routing, SequenceNode, Sticky, Version
from turnout.manifest.version_source import VersionSource
from turnout.openapi.general_operations import GENERAL_SCHEMAS
from turnout.packaging.catalogue import make_catalogue, spell_routing
from turnout.plan.planner import make_plan
from turnout.project.project import Project, load_project
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES
from turnout.protocol.routing.catalogue import Catalogue


def catalogue_of(of: Manifest, stack: str = "local") -> Catalogue:
    project = Project(of, artifacts_of(of))
    return make_catalogue(project, make_plan(of, project.artifacts, stack=stack, enforce=False))


def restore(catalogue: Catalogue) -> Catalogue:
    fields = orjson.loads(orjson.dumps(catalogue.to_json()))
    return Catalogue.from_json(fields, catalogue.prefix, catalogue.document_files().__getitem__)


def test_versions_are_described_from_their_artifacts() -> None:
    described = model(description="Iris species.")
    v1 = replace(described.versions[0], description="Logistic regression.")
    of = manifest((replace(described, versions=(v1, *described.versions[1:])),))
    catalogue = catalogue_of(of)
    iris = catalogue.models["iris"]
    assert (iris.description, iris.variable, iris.route_variable) == ("Iris species.", "iris", "irisRoute")
    assert list(iris.versions) == ["v1", "v2"]
    version = iris.versions["v1"]
    artifact = artifacts_of(of)["iris", "v1"]
    assert (version.description, version.sha256, version.size_bytes) == ("Logistic regression.", artifact.sha256, 1000)
    assert version.signature == signature().to_json()
    assert catalogue.function_of("iris", "v1") == "turnout-local_iris_v1"


def test_version_in_s3_has_the_digest_pinned_in_models_yaml() -> None:
    of = manifest((Model("iris", (Version("iris", "v1", "s3://bucket/key", "a" * 64),)),))
    version = make_catalogue(Project(of, {}), make_plan(of, {})).models["iris"].versions["v1"]
    assert (version.sha256, version.size_bytes) == ("a" * 64, 0)


def test_source_of_a_version_is_described_without_secrets() -> None:
    source = VersionSource(
        "https://me:secret@host/a.ubj?token=secret", converter="xgboost", packages={"xgboost": "3.1"}
    )
    described = model()
    v1 = replace(described.versions[0], source=source)
    catalogue = catalogue_of(manifest((replace(described, versions=(v1, *described.versions[1:])),)))
    shown = {"address": "https://host/a.ubj", "converter": "xgboost", "packages": {"xgboost": "3.1"}}
    assert restore(catalogue) == catalogue
    for parameters in ({"model": "iris"}, {"model": "iris", "version": "v1"}):
        path = "/models/" + "/".join(f"{{{name}}}" for name in parameters)
        page = ask(route_event(path, **parameters), catalogue=catalogue).json
        versions = page.get("versions", [page])
        assert versions[0]["source"] == shown
        assert all("source" not in other for other in versions[1:])
        name = "Version" if "version" in parameters else "Model"
        Draft4Validator({"components": {"schemas": GENERAL_SCHEMAS}, **GENERAL_SCHEMAS[name]}).validate(page)
    entry = GENERAL_SCHEMAS["Version"]["properties"]["source"]
    assert set(entry["properties"]) == {field.name for field in fields(VersionSource)}


def test_graph_is_described_with_its_tensors_and_each_call_once() -> None:
    calls = (CallNode("iris", "v1", {}, {"y": "x"}), CallNode("iris", "", {}, {"y": "x"}), CallNode("iris", "v1"))
    chain = catalogue_of(manifest((model(), Model("chain", (), graph=SequenceNode(calls))))).models["chain"]
    assert chain.is_graph
    assert chain.calls == (("iris", "v1"), ("iris", ""))
    assert [tensor["name"] for tensor in chain.signature["inputs"]] == ["x"]


@pytest.mark.parametrize(
    ("routing", "spelled"),
    [
        (Routing(), {}),
        (Routing(Sticky("header", "x-user")), {"sticky": {"header": "x-user"}}),
        (Routing(Sticky("api_key")), {"sticky": {"api_key": True}}),
        (
            Routing(shadow_version="v2", shadow_percent=5, fallback="v1"),
            {"shadow": {"version": "v2", "percent": 5}, "fallback": "v1"},
        ),
    ],
)
def test_routing_is_written_as_in_models_yaml(routing: Routing, spelled: dict[str, Any]) -> None:
    assert spell_routing(routing) == spelled


def test_examples_are_those_of_their_files_without_the_large_ones(tmp_path: Path, root: Path) -> None:
    project = load_project(root / "models.yaml", cache=False)
    rows = orjson.loads((root / "models/iris/v1/examples.json").read_bytes())
    plan = make_plan(project.manifest, project.artifacts)
    assert make_catalogue(project, plan).models["iris"].versions["v1"].examples == tuple(rows)
    large = {**rows[0], "name": "large", "request": {"inputs": {"measurements": [[1, 2, 3, 4]] * 2000}}}
    (tmp_path / "examples.json").write_bytes(orjson.dumps([large, rows[0]]))
    iris = project.manifest.model("iris")
    v1 = replace(iris.versions[0], examples="examples.json")
    manifest_here = replace(
        project.manifest, path=tmp_path / "models.yaml", models=(replace(iris, versions=(v1,)),), stages=(stage(),)
    )
    here = replace(
        project, manifest=manifest_here, examples={("iris", "v1"): read_examples(tmp_path / "examples.json")}
    )
    catalogue = make_catalogue(here, make_plan(manifest_here, project.artifacts, enforce=False))
    assert catalogue.models["iris"].versions["v1"].examples == (rows[0],)


def test_every_stage_has_the_document_of_its_api() -> None:
    catalogue = catalogue_of(manifest(stages=(stage("dev"), stage("test"), stage("prod", auth="api_key"))))
    assert catalogue.documents["dev"] == catalogue.documents["test"] != catalogue.documents["prod"]
    document = orjson.loads(catalogue.documents["prod"])
    assert document["info"]["title"] == "turnout"
    assert "servers" not in document
    assert set(document["components"]["securitySchemes"]) == {"api_key"}


def test_json_is_the_same_in_every_stack() -> None:
    one, other = catalogue_of(manifest()), catalogue_of(manifest(), stack="other")
    assert one.to_json() == other.to_json()
    assert restore(one) == one


@settings(max_examples=20, deadline=None)
@given(manifests())
def test_everything_in_the_catalogue_is_planned(of: Manifest) -> None:
    """Endpoints are routes, and functions checked by `/health/ready` exist, for every stage and its canary."""
    plan = make_plan(of, artifacts_of(of), enforce=False)
    catalogue = make_catalogue(Project(of, artifacts_of(of)), plan)
    assert restore(catalogue) == catalogue
    functions = {function.name for function in plan.functions if function.kind == "model"}
    routes = {f"/prod{route.path}" for route in plan.apis[0].routes if route.method == "POST"}
    for planned in (each for api in plan.apis for each in api.stages):
        overrides = planned.canary.overrides if planned.canary else {}
        for variables in (planned.variables, {**planned.variables, **overrides}):
            event = route_event("/models", variables=variables)
            asked = set(reach_all(catalogue, ServedStage.of(event)).values())
            assert asked <= functions
            pages = [
                ask(route_event("/models/{model}", variables=variables, model=name), catalogue=catalogue).json
                for name in catalogue.models
            ]
            rows = [entry for page in pages for entry in (page, *page.get("versions", ()))]
            assert {entry["endpoint"] for entry in rows} <= routes


def test_large_project_is_listed_with_little_work_and_within_the_limit_of_lambda() -> None:
    of = large_manifest(500, 3)
    catalogue = catalogue_of(of)
    event = route_event(
        "/models", variables=dict(make_plan(of, artifacts_of(of), enforce=False).apis[0].stages[0].variables)
    )
    page = ask(event, catalogue=catalogue).json
    assert len(page["models"]) == 500
    assert all(model["serves"] for model in page["models"])
    assert len(orjson.dumps(page)) < LARGEST_BODY_BYTES / 10
    assert count_calls(lambda: ask(event, catalogue=catalogue)) < 500 * 40  # about 12 for each model
