"""make_plan: from the manifest and its artifacts to the plan, in one pure function.

Comes in: a `Manifest` and the inspected artifacts. Goes out: a `Plan`, or a `ProblemsError` with all that is wrong.
Called by the command line, the gateway and infra, all three with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from turnout.artifacts import Artifact
from turnout.auth import find_auth_type
from turnout.drop_in import check_replacements
from turnout.manifest import Manifest, Model, Version, Warm
from turnout.naming import ROUTER, function_name, function_prefix, route_variable_name, variable_name
from turnout.notes import S3, find_later_keys
from turnout.plan import Api, Function, Note, Package, Plan, Route, RuntimeSizes, ServedVersion, StagePlan
from turnout.problems import Problem, ProblemsError
from turnout.protocol.tensors import Signature
from turnout.quotas import Count, count_quotas
from turnout.stage_variables import plan_stage

ROUTER_MEMORY_MB = 512
ROUTER_ARCHITECTURE = "arm64"
INTEGRATION_TIMEOUT_MS = 29_000
"""Of every route: the function's own timeout ends its work; a cold start, which Lambda does not count, needs room."""

UNREAD = Signature((), ())
"""The signature of a version whose artifact does not lie on this machine."""


def make_plan(
    manifest: Manifest,
    artifacts: Mapping[tuple[str, str], Artifact],
    *,
    stack: str = "local",
    runtime: RuntimeSizes | None = None,
    enforce: bool = True,
) -> Plan:
    """Plan everything that the manifest asks for. Pure: no clock, no disk, no network.

    Args:
        manifest: checked by `parse_manifest`.
        artifacts: (model, version) -> what was read of it; a version in S3 may be missing.
        stack: Pulumi's stack; part of every function's name.
        runtime: what stands beside a model in its function.
        enforce: refuse a plan that AWS would refuse for its quotas. Without it, exceeded quotas are notes, so that a
            manifest too large for AWS can still be served here.

    Raises:
        ProblemsError: an artifact is missing, a kind of authentication cannot be had, a version would take traffic
            that it cannot answer, or a quota is exceeded.
    """
    runtime = runtime or RuntimeSizes()
    prefix = function_prefix(manifest.platform, stack)
    routed = find_routed(manifest)
    stages = tuple(plan_stage(stage, manifest.models) for stage in manifest.stages)
    versions = tuple(_serve(version, artifacts) for model in manifest.models for version in model.versions)
    plan = Plan(
        platform=manifest.platform,
        stack=stack,
        functions=tuple(_plan_functions(manifest.models, routed, prefix)),
        apis=_plan_apis(stages, tuple(_plan_routes(manifest.models, prefix)), prefix),
        packages=tuple(_plan_packages(versions, runtime, with_router=bool(routed))),
        versions=versions,
        quotas=(),
        notes=(),
        descriptions={model.name: model.description for model in manifest.models if model.description},
    )
    counts = tuple(count_quotas(plan))
    problems, breaking = check_replacements(manifest, _signatures(versions))
    problems += (*_check_artifacts(manifest, artifacts), *_check_names(manifest, stack), *_check_auth(manifest))
    exceeded = [count for count in counts if count.quota.exceeded]
    if enforce:
        problems += tuple(
            _problem(manifest, count.sentence, count.path, count.remedy) for count in exceeded if count.hard
        )
    if problems:
        raise ProblemsError(problems)
    later = tuple(Note(path, message) for path, message in find_later_keys(manifest))
    notes = (*later, *breaking, *(_note(count) for count in exceeded))
    return Plan(
        plan.platform,
        plan.stack,
        plan.functions,
        plan.apis,
        plan.packages,
        plan.versions,
        tuple(count.quota for count in counts),
        notes,
        plan.descriptions,
    )


def find_routed(manifest: Manifest) -> frozenset[str]:
    """The models that have a router function: some stage weighs them, or their `routing` asks for it."""
    weighted = {name for stage in manifest.stages for name in stage.weights}
    return frozenset(weighted | {model.name for model in manifest.models if model.routing})


def api_name(prefix: str, auth: str) -> str:
    """`turnout-local_api_key`: stages with equal documents differ in nothing but their authentication."""
    return f"{prefix}_{auth}"


def package_name(model: str, version: str) -> str:
    """`iris_v1`."""
    return f"{model}_{version}"


def _serve(version: Version, artifacts: Mapping[tuple[str, str], Artifact]) -> ServedVersion:
    artifact = artifacts.get((version.model, version.name))
    if artifact is None:
        return ServedVersion(version, version.sha256, 0, UNREAD)
    return ServedVersion(version, artifact.sha256, artifact.size_bytes, artifact.signature)


def _signatures(versions: Sequence[ServedVersion]) -> dict[tuple[str, str], Signature]:
    """The signatures that were read."""
    return {
        (served.version.model, served.version.name): served.signature
        for served in versions
        if served.signature is not UNREAD
    }


def _plan_functions(models: Sequence[Model], routed: frozenset[str], prefix: str) -> Iterator[Function]:
    for model in models:
        for version in model.versions:
            yield Function(
                name=function_name(prefix, model.name, version.name),
                kind="model",
                model=model.name,
                version=version.name,
                architecture=version.architecture,
                memory_mb=version.memory_mb,
                timeout_s=version.timeout_s,
                warm=version.warm,
                package=package_name(model.name, version.name),
                reserved_concurrency=version.reserved_concurrency,
            )
        if model.name in routed:
            yield Function(
                name=function_name(prefix, model.name, ROUTER),
                kind="router",
                model=model.name,
                version="",
                architecture=ROUTER_ARCHITECTURE,
                memory_mb=ROUTER_MEMORY_MB,
                timeout_s=INTEGRATION_TIMEOUT_MS // 1000,
                warm=Warm(),
                package=ROUTER,
            )


def _plan_routes(models: Sequence[Model], prefix: str) -> Iterator[Route]:
    """Per version one direct route, per model one that a stage variable turns."""
    for model in models:
        chosen = f"${{stageVariables.{variable_name(model.name)}}}"
        name = function_name(prefix, model.name, chosen)
        yield Route("POST", f"/models/{model.name}/inference", model.name, "", name, INTEGRATION_TIMEOUT_MS)
        for version in model.versions:
            path = f"/models/{model.name}/{version.name}/inference"
            name = function_name(prefix, model.name, version.name)
            yield Route("POST", path, model.name, version.name, name, INTEGRATION_TIMEOUT_MS)


def _plan_apis(stages: Sequence[StagePlan], routes: tuple[Route, ...], prefix: str) -> tuple[Api, ...]:
    kinds = dict.fromkeys(stage.auth for stage in stages)
    return tuple(
        Api(api_name(prefix, auth), auth, routes, tuple(stage for stage in stages if stage.auth == auth))
        for auth in kinds
    )


def _plan_packages(versions: Sequence[ServedVersion], runtime: RuntimeSizes, *, with_router: bool) -> Iterator[Package]:
    for served in versions:
        yield Package(
            name=package_name(served.version.model, served.version.name),
            sha256=served.sha256,
            artifact_bytes=served.size_bytes if not served.version.artifact.startswith(S3) else 0,
            code_bytes=runtime.code_bytes,
            layer_bytes=runtime.layer_bytes[served.version.architecture],
        )
    if with_router:
        yield Package(ROUTER, "", 0, runtime.router_bytes, 0)


def _check_artifacts(manifest: Manifest, artifacts: Mapping[tuple[str, str], Artifact]) -> Iterator[Problem]:
    for model in manifest.models:
        for version in model.versions:
            if (model.name, version.name) not in artifacts and not version.artifact.startswith(S3):
                path = ("models", model.name, "versions", version.name, "artifact")
                yield _problem(manifest, f"`{version.artifact}` was not read", path)


def _check_names(manifest: Manifest, stack: str) -> Iterator[Problem]:
    """What parse_manifest cannot know, the stack, and what would silently send one model's traffic to another."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", stack):
        yield _problem(
            manifest, f"the stack's name `{stack}` is part of every function's name: letters, digits, hyphens", ()
        )
    variables = {variable_name(model.name): model.name for model in manifest.models}
    for name in sorted(find_routed(manifest)):
        other = variables.get(route_variable_name(name))
        if other is not None:
            message = f"`{other}` and the route of `{name}` share the stage variable `{route_variable_name(name)}`"
            yield _problem(manifest, message, ("models", other), "Rename one of the two models.")


def _check_auth(manifest: Manifest) -> Iterator[Problem]:
    for stage in manifest.stages:
        try:
            find_auth_type(stage.auth)
        except ValueError as error:
            yield _problem(manifest, str(error), ("stages", stage.name, "auth"))


def _problem(manifest: Manifest, message: str, path: tuple[str | int, ...], hint: str = "") -> Problem:
    position = manifest.position_of(path)
    return Problem(message, path, manifest.source, position.line, position.column, hint)


def _note(count: Count) -> Note:
    return Note(".".join(map(str, count.path)), f"{count.sentence}. {count.remedy}")
