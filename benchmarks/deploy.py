"""Measures the deployment of 300 versions, and of the same API with one resource per path, as tutorials do it.

Run: `.venv/bin/python -m benchmarks.deploy [MODELS VERSIONS]`, with `pulumi` on the PATH or built by `make engine`. All
programs run with the real engine and the tests' stand-in for AWS, with the same routes: 30 models with 10 versions
each. The benchmark counts the calls with which the stand-in changes the account; the released provider also reads
everything once more. Seconds are those of this machine without a network. AWS allows ten calls a second for an
account's whole API Gateway, and fewer for some operations; `at least` is the time that follows from these limits.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pulumi
import pulumi_aws as aws

from benchmarks.plan import make_artifacts, write_manifest
from infra.api import ApiComponent, RestApiArgs
from infra.observability.access_logs import AccountLogging
from infra.program import deploy, find_place, render_documents
from infra.roles import Roles, RolesArgs
from tests.engine.account import MotoAccount
from tests.engine.project import LAYER, write_package
from tests.engine.stand_in.aws import REGION
from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.provider import Calls, Inputs
from tests.engine.world import find_engine, opened_world
from turnout.manifest.parser import parse_manifest
from turnout.packaging.build import BuiltPackage
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.naming import function_prefix

CALLS_PER_S = 10
"""API Gateway's limit for the control plane, for all operations of an account. Source: its Developer Guide,
"Quotas".
"""

SLOWER_PER_S: Mapping[str, float] = {
    "CreateResource": 5,
    "PutRestApi": 1,
    "CreateRestApi": 1 / 3,
    "CreateDeployment": 1 / 5,
}
"""Operations with their own limits, from the same source."""


@dataclass(frozen=True)
class Measured:
    """One `pulumi up`."""

    seconds: float
    resources: int
    calls: Counter[str]

    @property
    def least_s(self) -> float:
        """The time that API Gateway's rate limits alone require."""
        gateway = {name: count for name, count in self.calls.items() if name.startswith("apigateway.")}
        own = [gateway.get(f"apigateway.{name}", 0) / rate for name, rate in SLOWER_PER_S.items()]
        return max([sum(gateway.values()) / CALLS_PER_S, *own])


def make_project(models: int, versions: int) -> Project:
    """Return a project whose artifacts were never read."""
    manifest = parse_manifest(write_manifest(models, versions), path=Path("models.yaml"), source="models.yaml")
    return Project(manifest, make_artifacts(manifest))


def write_packages(folder: Path, plan: Plan) -> Sequence[BuiltPackage]:
    """Write zips with almost no content, because only the number of uploads is measured."""
    names = dict.fromkeys(function.package for function in plan.functions)
    return [write_package(folder, LAYER, "layer", ""), *(write_package(folder, name, "function", "") for name in names)]


def deploy_api(project: Project) -> None:
    """Deploy Turnout's API without its functions: one document."""
    plan = make_plan(project.manifest, project.artifacts, stack=pulumi.get_stack())
    place = find_place(function_prefix(plan.platform, plan.stack))
    documents = dict(render_documents(project, plan, place))
    for api in plan.apis:
        roles = Roles("roles", RolesArgs(place, plan))
        after = [AccountLogging("api-logs", place)]
        ApiComponent(api.name, RestApiArgs(api, documents[api.name], 30, after, [roles]))


def deploy_path_by_path(project: Project) -> None:
    """Deploy the same routes with one resource per part of a path, one method and one integration per route."""
    plan = make_plan(project.manifest, project.artifacts, stack=pulumi.get_stack())
    place = find_place(function_prefix(plan.platform, plan.stack))
    (api,) = plan.apis
    rest_api = aws.apigateway.RestApi("api", name=api.name)
    parts: dict[str, pulumi.Input[str]] = {"": rest_api.root_resource_id}
    made: list[pulumi.Resource] = []
    for route in api.routes:
        names = route.path.strip("/").split("/")
        for depth in range(1, len(names) + 1):
            path = "/".join(names[:depth])
            if path not in parts:
                above = parts["/".join(names[: depth - 1])]
                part = aws.apigateway.Resource(path, rest_api=rest_api.id, parent_id=above, path_part=names[depth - 1])
                parts[path] = part.id
        name, where = f"{route.method} {route.path}", parts["/".join(names)]
        method = aws.apigateway.Method(
            name, rest_api=rest_api.id, resource_id=where, http_method=route.method, authorization="NONE"
        )
        function = f"arn:aws:lambda:{place.region}:{place.account}:function:{route.function}:live"
        integration = aws.apigateway.Integration(
            name,
            rest_api=rest_api.id,
            resource_id=where,
            http_method=method.http_method,
            integration_http_method="POST",
            type="AWS_PROXY",
            uri=f"arn:aws:apigateway:{place.region}:lambda:path/2015-03-31/functions/{function}/invocations",
        )
        made += [method, integration]
    deployment = aws.apigateway.Deployment(
        "api",
        rest_api=rest_api.id,
        triggers={"routes": str(sorted(route.path for route in api.routes))},
        opts=pulumi.ResourceOptions(depends_on=made),
    )
    for stage in api.stages:
        aws.apigateway.Stage(
            stage.name,
            rest_api=rest_api.id,
            deployment=deployment.id,
            stage_name=stage.name,
            variables=stage.variables,
        )


def _make_api(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client = client_of("apigateway")
    identity = client.create_rest_api(name=inputs["name"])["id"]
    return identity, {"rootResourceId": client.get_resources(restApiId=identity)["items"][0]["id"]}


def _make_resource(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    made = client_of("apigateway").create_resource(
        restApiId=inputs["restApi"], parentId=inputs["parentId"], pathPart=inputs["pathPart"]
    )
    return made["id"], {}


def _make_method(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    where = {"restApiId": inputs["restApi"], "resourceId": inputs["resourceId"], "httpMethod": inputs["httpMethod"]}
    client_of("apigateway").put_method(**where, authorizationType=inputs["authorization"])
    return "-".join(where.values()), {}


def _make_integration(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    where = {"restApiId": inputs["restApi"], "resourceId": inputs["resourceId"], "httpMethod": inputs["httpMethod"]}
    client_of("apigateway").put_integration(
        **where, type=inputs["type"], integrationHttpMethod=inputs["integrationHttpMethod"], uri=inputs["uri"]
    )
    return "-".join(where.values()), {}


def _keep(identity: str, state: Inputs) -> None:
    """Do nothing: nothing is deleted here."""


PATH_BY_PATH = {
    "aws:apigateway/resource:Resource": Calls(_make_resource, _keep),
    "aws:apigateway/method:Method": Calls(_make_method, _keep),
    "aws:apigateway/integration:Integration": Calls(_make_integration, _keep),
    "aws:apigateway/restApi:RestApi": Calls(_make_api, _keep, computed=("rootResourceId",)),
}


def measure(stack: Any, calls: Counter[str]) -> Measured:
    calls.clear()
    began = time.perf_counter()
    done = stack.up(on_output=lambda _: None)
    seconds = time.perf_counter() - began
    changes = done.summary.resource_changes or {}
    return Measured(seconds, sum(count for verb, count in changes.items() if verb != "same"), Counter(calls))


def run(program: Callable[[Project], None], models: int, versions: int, *, by_path: bool = False) -> list[Measured]:
    """Deploy from nothing, then unchanged, then with one more version."""
    calls: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        if not model.name.startswith(("Get", "List", "Describe")):
            calls[f"{model.service_model.service_name}.{model.name}"] += 1

    scratch = Path(tempfile.mkdtemp())
    try:
        with opened_world(scratch, PATH_BY_PATH if by_path else {}) as world:
            # With its state on a disk, the engine writes all of it after each resource, which would take most of the
            # time.
            world.environment |= {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
            boto3.setup_default_session()
            boto3.DEFAULT_SESSION.events.register("before-call", count)
            project = make_project(models, versions)
            stack = world.stack(lambda: program(project))
            measured = [measure(stack, calls), measure(stack, calls)]
            project = _with_one_more(models, versions)
            return [*measured, measure(stack, calls)]
    finally:
        shutil.rmtree(scratch)


def _with_one_more(models: int, versions: int) -> Project:
    """Return the project with one more version of the first model."""
    text = write_manifest(models, versions)
    last = b"      v%d: {artifact: models/m0/v%d/model.onnx}\n" % (versions, versions)
    more = b"      v%d: {artifact: models/m0/v%d/model.onnx}\n" % (versions + 1, versions + 1)
    manifest = parse_manifest(text.replace(last, last + more), path=Path("models.yaml"), source="models.yaml")
    return Project(manifest, make_artifacts(manifest))


def use_engine() -> None:
    """Put Pulumi's engine on this process's PATH, with credentials of no account; ends the process if there is none."""
    engine = find_engine()
    if engine is None:
        sys.exit("there is no Pulumi engine: neither `pulumi` on the PATH nor what `make engine` builds")
    os.environ |= {
        "PATH": engine + os.pathsep + os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }


def main() -> None:
    models, versions = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (30, 10)
    use_engine()
    zips = Path(tempfile.mkdtemp())
    whole = lambda project: deploy(  # noqa: E731
        Path(), load=lambda _: project, build=lambda _, plan: write_packages(zips, plan), account=MotoAccount()
    )
    print(f"{models} models of {versions} versions; resources, changing calls, s here, s at least on AWS")
    for title, program, by_path in (
        ("one document, with functions", whole, False),
        ("one document, API alone", deploy_api, False),
        ("one resource per path, API alone", deploy_path_by_path, True),
    ):
        for step, count in zip(
            ("from nothing", "unchanged", "one version more"),
            run(program, models, versions, by_path=by_path),
            strict=True,
        ):
            print(
                f"{title:34} {step:18} {count.resources:6,} {count.calls.total():6,} "
                f"{count.seconds:7.1f} {count.least_s:7.1f}",
                flush=True,
            )
    shutil.rmtree(zips)


if __name__ == "__main__":
    main()
