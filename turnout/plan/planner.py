"""Makes the plan from the manifest and its artifacts, in one pure function."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from turnout.artifacts.artifact import Artifact
from turnout.manifest.parser import Manifest, Version
from turnout.plan.auth import find_auth_type
from turnout.plan.checks.graphs import plan_graphs
from turnout.plan.checks.named_tensors import check_named_tensors
from turnout.plan.checks.notes import find_idle_keys, find_locale_notes
from turnout.plan.checks.pools import check_pools, plan_pools
from turnout.plan.checks.quotas import (
    DOCUMENT_BYTES,
    Count,
    count_quotas,
    count_resources,
)
from turnout.plan.checks.replacements import check_replacements
from turnout.plan.checks.size_estimates import estimate_document
from turnout.plan.functions import plan_functions, plan_packages, plan_pooled
from turnout.plan.routes import OPEN_INFERENCE, plan_routes
from turnout.plan.stages import find_packed, find_routed, plan_stage
from turnout.plan.values import Api, Function, Note, Plan, Route, RuntimeSizes, ServedGraph, ServedVersion, StagePlan
from turnout.problems import Problem, ProblemsError
from turnout.protocol.naming import function_prefix, route_variable_name, variable_name
from turnout.protocol.routing.packed_choices import is_packed
from turnout.protocol.tensors.datatypes import Signature

UNREAD = Signature((), ())
"""The signature of a version whose artifact is not on this machine."""


def make_plan(
    manifest: Manifest,
    artifacts: Mapping[tuple[str, str], Artifact],
    *,
    stack: str = "local",
    runtime: RuntimeSizes | None = None,
    enforce: bool = True,
) -> Plan:
    """Return the plan of everything in the manifest. Pure: no clock, no disk, no network.

    Args:
        manifest: checked by `parse_manifest`.
        artifacts: (model, version) -> its artifact; a version in S3 may be missing.
        stack: Pulumi's stack, part of every function's name.
        runtime: sizes of the other files beside a model in its function.
        enforce: whether to refuse a plan that exceeds AWS's quotas. Without it, exceeded quotas are notes, so a
            manifest that is too large for AWS can still be served here.

    Raises:
        ProblemsError: an artifact is missing, a kind of authentication is not possible, a version would get requests
            that it cannot answer, a graph's steps do not fit, or a quota is exceeded.
    """
    versions = tuple(_serve(version, artifacts) for model in manifest.models for version in model.versions)
    signatures = _signatures(versions)
    graphs, problems = plan_graphs(manifest, signatures)
    plan = _assemble(manifest, versions, graphs, stack, runtime or RuntimeSizes())
    counts = tuple(count_quotas(plan, manifest.quotas))
    exceeded = [count for count in counts if count.quota.exceeded]
    unfit, breaking = check_replacements(manifest, signatures)
    problems += (
        *unfit,
        *check_named_tensors(manifest, signatures),
        *_check_artifacts(manifest, artifacts),
        *_check_names(manifest, stack),
        *check_pools(manifest, plan.pools),
        *_check_auth(manifest),
        *(manifest.problem(quota.path, quota.sentence, quota.remedy) for quota in exceeded if quota.hard and enforce),
    )
    if problems:
        raise ProblemsError(problems)
    all_notes = (*find_idle_keys(manifest), *find_locale_notes(signatures))
    idle = (Note(path, message) for path, message in all_notes)
    notes = (*idle, *breaking, *(_note(count) for count in exceeded))
    return replace(plan, quotas=tuple(count.quota for count in counts), notes=notes)


def _assemble(
    manifest: Manifest,
    versions: tuple[ServedVersion, ...],
    graphs: tuple[ServedGraph, ...],
    stack: str,
    runtime: RuntimeSizes,
) -> Plan:
    """Return the plan without quotas and notes, even if it cannot work."""
    prefix = function_prefix(manifest.platform, stack)
    routed = find_routed(manifest)
    timeout_s = manifest.quotas.integration_timeout_s
    functions = tuple(_give_time(function, timeout_s) for function in plan_functions(manifest.models, routed, prefix))
    asynchronous = any(stage.asynchronous is not None for stage in manifest.stages)
    direct = tuple(
        replace(route, timeout_ms=timeout_s * 1000)
        for route in plan_routes(manifest.models, prefix, manifest.open_inference, asynchronous=asynchronous)
    )
    packed = find_packed(manifest)
    shared = choose_shared(manifest, versions, graphs, direct)
    stages = tuple(plan_stage(stage, manifest.models, packed=packed) for stage in manifest.stages)
    routes = {
        choice: tuple(
            replace(route, timeout_ms=timeout_s * 1000)
            for route in plan_routes(manifest.models, prefix, choice, shared=shared, asynchronous=asynchronous)
        )
        for choice in OPEN_INFERENCE
    }
    return Plan(
        platform=manifest.platform,
        stack=stack,
        functions=functions,
        apis=_plan_apis(stages, routes[manifest.open_inference], prefix),
        packages=tuple(plan_packages(functions, versions, frozenset(graph.model for graph in graphs), runtime)),
        versions=versions,
        quotas=(),
        notes=(),
        descriptions={model.name: model.description for model in manifest.models if model.description},
        graphs=graphs,
        open_inference=manifest.open_inference,
        resources={choice: count_resources(routes_of) for choice, routes_of in routes.items()},
        shared=shared,
        caller_routes=direct if shared else (),
        pools=tuple(plan_pools(functions, versions)),
        pooled=tuple(plan_pooled(manifest.models, prefix)),
    )


def choose_shared(
    manifest: Manifest,
    versions: Sequence[ServedVersion],
    graphs: Sequence[ServedGraph],
    direct: Sequence[Route],
) -> frozenset[str]:
    """Return the models without their own routes: with `auto`, those of an API without room for direct routes.

    Models with pooled versions always share their routes: a model's own route leads to a function of that model, and
    the router knows which version is in which function.

    Args:
        manifest: says `auto`, `direct` or `shared`, and which models are always direct.
        versions: versions of all models.
        graphs: the models that are graphs.
        direct: the routes of an API in which each model has its own routes.
    """
    pooled = frozenset(version.model for version in manifest.versions if version.pool)
    if manifest.routes == "direct":
        return frozenset()
    if manifest.routes == "auto":
        fits = (
            count_resources(route for route in direct if route.model not in pooled) <= manifest.quotas.resources
            and not find_packed(manifest)
            and estimate_document([served for served in versions if not served.version.pool], direct, graphs)
            <= DOCUMENT_BYTES
        )
        if fits:
            return pooled
    return frozenset(model.name for model in manifest.models if not model.is_direct)


def api_name(prefix: str, stage: StagePlan) -> str:
    """Return `turnout-local_api_key`, or `turnout-local_jwt_prod` if the document has parts for one stage only.

    Such parts are its issuer, its CORS or its consumers. Only the stage's name distinguishes two such APIs reliably.
    """
    return "_".join((prefix, stage.auth, *((stage.name,) if stage.jwt or stage.cors or stage.consumers else ())))


def _serve(version: Version, artifacts: Mapping[tuple[str, str], Artifact]) -> ServedVersion:
    artifact = artifacts.get((version.model, version.name))
    if artifact is None:
        return ServedVersion(version, version.sha256, 0, UNREAD)
    return ServedVersion(version, artifact.sha256, artifact.size_bytes, artifact.signature)


def _signatures(versions: Sequence[ServedVersion]) -> dict[tuple[str, str], Signature]:
    """Return the known signatures."""
    return {
        (served.version.model, served.version.name): served.signature
        for served in versions
        if served.signature is not UNREAD
    }


def _give_time(function: Function, timeout_s: int) -> Function:
    """Give each router the timeout of API Gateway."""
    if function.runs_models or function.settings.timeout_s >= timeout_s:
        return function
    return replace(function, settings=replace(function.settings, timeout_s=timeout_s))


def _plan_apis(stages: Sequence[StagePlan], routes: tuple[Route, ...], prefix: str) -> tuple[Api, ...]:
    """Group stages with equal documents into APIs; a stage whose document has an issuer or origins has its own API."""
    shared: dict[str, list[StagePlan]] = {}
    for stage in stages:
        shared.setdefault(api_name(prefix, stage), []).append(stage)
    return tuple(
        Api(name, group[0].auth, routes, tuple(group), group[0].jwt, group[0].cors, bool(group[0].consumers))
        for name, group in shared.items()
    )


def _check_artifacts(manifest: Manifest, artifacts: Mapping[tuple[str, str], Artifact]) -> Iterator[Problem]:
    for model in manifest.models:
        for version in model.versions:
            if (model.name, version.name) not in artifacts and not version.is_remote:
                path = ("models", model.name, "versions", version.name, "artifact")
                yield manifest.problem(path, f"`{version.artifact}` was not read")


def _check_names(manifest: Manifest, stack: str) -> Iterator[Problem]:
    """Check names that depend on the stack, and traffic that would silently reach another model."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", stack):
        yield manifest.problem(
            (), f"the stack's name `{stack}` is part of every function's name: use letters, digits and hyphens"
        )
    variables = {variable_name(model.name): model.name for model in manifest.models}
    for name in sorted(find_routed(manifest)):
        other = variables.get(route_variable_name(name))
        if other is not None:
            message = f"`{other}` and the route of `{name}` share the stage variable `{route_variable_name(name)}`"
            yield manifest.problem(("models", other), message, "Rename one of the two models.")
    for model in manifest.models:
        if is_packed(model.name):
            message = f"`{model.name}` is a reserved name: it is a stage variable with the choices of many models"
            yield manifest.problem(("models", model.name), message, "Rename the model.")


def _check_auth(manifest: Manifest) -> Iterator[Problem]:
    for stage in manifest.stages:
        try:
            find_auth_type(stage.auth)
        except ValueError as error:
            yield manifest.problem(("stages", stage.name, "auth"), str(error))


def _note(count: Count) -> Note:
    return Note(".".join(map(str, count.path)), f"{count.sentence}. {count.remedy}")
