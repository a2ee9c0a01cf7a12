"""The Pulumi program: deploys everything in models.yaml and exports the stack's outputs.

All problems of the files are reported before the first resource is created, as `turnout validate` reports them.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.manifest.parser import Domain
from turnout.openapi.document import build_document, check_document, lambda_uri, render_document
from turnout.packaging.build import BuiltPackage, build_packages
from turnout.packaging.layer import LayerError
from turnout.packaging.pools import MODELS_VARIABLE
from turnout.packaging.routers import find_routers
from turnout.packaging.transform_imports import require_imports
from turnout.plan.auth import CALLERS
from turnout.plan.budget import compare_costs, describe_difference, export_costs, require_budget
from turnout.plan.checks.pools import find_tested_functions
from turnout.plan.costs import Costs, find_alarmed
from turnout.plan.deployment_notes import (
    Outputs,
    find_canary_routes,
    find_deployment_notes,
    find_orphaned,
    find_shared_models,
    find_stranded,
    find_unread,
)
from turnout.plan.log_groups import PER_FUNCTION, log_group_name
from turnout.plan.planner import make_plan
from turnout.plan.values import Function, Plan, StagePlan
from turnout.problems import ProblemsError
from turnout.project.project import CACHE_DIR, Project, load_project
from turnout.project.remote_artifacts import fetch_remote
from turnout.protocol.naming import function_prefix
from turnout.protocol.telemetry import disable_telemetry
from turnout.trials.checks import check_opens, try_versions

from .access.authorizer import Authorizer, AuthorizerArgs, rows_of
from .access.domain import ProjectDomain, ProjectDomainArgs, read_domain_settings
from .account import Account, BotoAccount
from .api import ApiComponent, RestApiArgs
from .deployed import DeployedProject, RequestResources
from .functions import ServedFunction, ServedFunctionArgs, ServedModel
from .limits import check_limits, check_names
from .naming import Place
from .observability.access_logs import AccountLogging, LoggingPlan, plan_logging
from .observability.alarms import Alarms, alarm_of_version, alarms_of_function, alarms_of_stage, make_alarm
from .observability.dashboard import render_dashboard
from .observability.guard_rail import GuardRail, GuardRailArgs, find_guarded
from .own_outputs import read_own_outputs
from .packages import Packages, PackagesArgs, find_kept
from .requests.storage import RequestStorage, RequestStorageArgs
from .requests.worker import WorkerFunction, WorkerFunctionArgs
from .resource_policy import extend_document
from .roles import Roles, RolesArgs
from .stack.choice_tables import CHOICES_VARIABLE, reads_tables, table_key, tables_location
from .stack.log_groups import STANDARD, SharedLogs, plan_log_class
from .stack.settings import StackSettings, read_settings
from .stack.tags import tagging
from .stored_models import LOCATION, StoredModel, find_stored, pools_location

LoadProject = Callable[[Path], Project]
Build = Callable[[Project, Plan], Sequence[BuiltPackage]]


def load_whole_project(folder: Path) -> Project:
    """Load the project with its models in S3; raise a ProblemsError also if a version cannot be opened."""
    disable_telemetry()
    project = fetch_remote(load_project(folder))
    check_opens(project, try_versions(project))
    for note in require_imports(project, models_only=True).notes:
        pulumi.warn(note)
    return project


def build_zips(project: Project, plan: Plan) -> Sequence[BuiltPackage]:
    """Build the packages as `turnout build` does, into the same folder."""
    out = project.manifest.path.parent / CACHE_DIR / "packages"
    return build_packages(project, out=out, routers=find_routers(project, plan))


def deploy(
    folder: Path,
    *,
    load: LoadProject = load_whole_project,
    build: Build = build_zips,
    account: Account | None = None,
) -> DeployedProject:
    """Deploy everything in the models.yaml of `folder`.

    Args:
        folder: the project's folder.
        load: loads the project.
        build: builds the packages.
        account: what the program asks of the account besides Pulumi; by default the account that boto3 finds.

    Returns:
        The resources, for a program that adds to them.

    Raises:
        pulumi.RunError: the files or the configuration are invalid; nothing was created.
    """
    disable_telemetry()
    settings = read_settings()
    account = account or BotoAccount()
    try:
        project = load(folder)
        domain = read_domain_settings(project.manifest.domain, is_private=bool(settings.network.vpc_endpoint_ids))
        plan = make_plan(project.manifest, project.artifacts, stack=pulumi.get_stack())
        costs = require_budget(plan, project.manifest)
        place = find_place(function_prefix(plan.platform, plan.stack), settings.roles.path)
        documents = dict(render_documents(project, plan, place, settings))
        built = build(project, plan)
    except ProblemsError as error:
        raise pulumi.RunError(str(error)) from None
    except LayerError as error:
        raise pulumi.RunError(f"cannot build the layer: {error}") from None
    check_limits(plan, place, built, keep_versions=settings.keep_versions, account=account.settings(place))
    outputs = read_own_outputs()
    if not settings.new_names:
        check_names(plan, place, outputs)
    check_stranded(plan, outputs or {})
    check_orphaned(plan, outputs or {})
    check_unread(plan, outputs or {})
    for note in (*plan.notes, *find_deployment_notes(plan, outputs)):
        pulumi.warn(f"{note.path}: {note.message}")
    logging = LoggingPlan(makes=False)
    if settings.account_logging:
        logging = plan_logging(place, account.logs_role(place), outputs)
    if logging.note:
        pulumi.warn(f"turnout:account_logging: {logging.note}")
    log_class = plan_log_class(settings.access_log_class, outputs)
    settings = replace(settings, access_log_class=log_class.name)
    if log_class.note:
        pulumi.warn(f"turnout:access_log_class: {log_class.note}")
    differences = compare_costs(costs, outputs or {})
    if differences:
        pulumi.info(f"a month without calls costs about {describe_difference(differences[0])}")
    stack = Stack(project, plan, place, settings, account, logging, outputs, costs, domain)
    if stack.has_next and not stack.is_release and settings.next_alias is None:
        pulumi.info(KEPT_NEXT)
    return make_stack(stack, documents, built)


def check_stranded(plan: Plan, outputs: Outputs) -> None:
    """Raise a pulumi.RunError if a stage with a canary would keep routes whose stage variables are removed."""
    for stage, models in find_stranded(plan, outputs).items():
        raise pulumi.RunError(
            f"stages.{stage}.canary: the choices of {len(models)} models would be packed into shared stage variables, "
            f"but the canary keeps a deployment whose routes read a variable for each model, such as {models[0]}. End "
            "the canary, run `pulumi up`, and start it again."
        )


def check_orphaned(plan: Plan, outputs: Outputs) -> None:
    """Raise a pulumi.RunError if a stage with a canary would keep routes to functions that move into a pool."""
    for stage, models in find_orphaned(plan, outputs).items():
        raise pulumi.RunError(
            f"stages.{stage}.canary: {len(models)} models, such as {models[0]}, would move into or out of a pool, but "
            "the canary keeps a deployment that calls their present functions. End the canary, run `pulumi up`, and "
            "start it again."
        )


def check_unread(plan: Plan, outputs: Outputs) -> None:
    """Raise a pulumi.RunError if the baseline of a release canary would get a table that its router cannot read."""
    for stage in find_unread(plan, outputs):
        raise pulumi.RunError(
            f"stages.{stage}.canary: the choices of the stage's models would move from stage variables into a table, "
            "but during a release canary the baseline keeps a router without access to tables. End the canary, run "
            "`pulumi up`, and start it again."
        )


def find_place(prefix: str, role_path: str = "/") -> Place:
    """Return the account and region from the provider's credentials and configuration."""
    partition, region = aws.get_partition().partition, aws.get_region().region
    return Place(partition, region, aws.get_caller_identity().account_id, prefix, role_path)


def render_documents(project: Project, plan: Plan, place: Place, settings: StackSettings) -> Iterator[tuple[str, str]]:
    """Return (API, its document as text); the documents depend on no created resource.

    Raises:
        ProblemsError: a document is too large for API Gateway.
    """
    uri_of = lambda_uri(place.partition, place.region, place.account)
    credentials = settings.roles.integration_arn or place.role_arn(place.integration_role)
    examples = project.first_requests
    for api in plan.apis:
        document = build_document(plan, api, uri_of, examples=examples, credentials=credentials)
        document = extend_document(document, api, place, settings.network)
        check_document(document)
        yield api.name, render_document(document).decode()


KEPT_NEXT = (
    "the alias `next` stays until the next `pulumi up`, because a stage calls functions by it until this update ends"
)


@dataclass(frozen=True)
class Stack:
    """The plan of a deployment, and where it is deployed."""

    project: Project
    plan: Plan
    place: Place
    settings: StackSettings
    account: Account
    logging: LoggingPlan
    outputs: Outputs | None
    costs: Costs
    domain: Domain | None = None

    @functools.cached_property
    def has_next(self) -> bool:
        """Whether functions have the alias `next`: a release canary is on, is requested, or has just ended.

        A stage may still call `next` until this deployment changes it, or after `turnout canary promote --now`. The
        alias must not be removed then: the next deployment removes it.
        """
        if self.is_release or self.settings.next_alias is not None:
            return self.is_release or self.settings.next_alias is True
        known = self.outputs or {}
        # Stacks deployed by an older version have the alias but no such output.
        if self.outputs is not None and not known.get("next_alias", bool(known.get("functions"))):
            return False
        calling = self.account.next_stages(self.place, known.get("rest_apis") or {})
        return calling is None or self.outputs is None or bool(calling)

    @property
    def is_release(self) -> bool:
        """Whether a stage has a release canary, whose baseline keeps its code, its layer and its deployment."""
        return any(stage.canary and stage.canary.release for api in self.plan.apis for stage in api.stages)


def make_stack(stack: Stack, documents: Mapping[str, str], built: Sequence[BuiltPackage]) -> DeployedProject:
    """Make every resource, and the exports."""
    plan, place, settings = stack.plan, stack.place, stack.settings
    # A stage sends no traffic before its functions exist, and writes no log before it is allowed to.
    stored = tuple(find_stored(plan, built, place, settings.keys.bucket))
    tagged = tagging(settings.tags)
    roles = Roles("roles", RolesArgs(place, plan, stored, settings), tagged)
    packages = make_packages(stack, built, stored)
    storage = make_request_storage(stack)
    models = make_models(stack, built)
    functions = [*make_functions(stack, models, packages, stored, roles, storage)]
    after: list[pulumi.Resource] = [*models.values(), *([packages] if plan.tables else [])]
    requests = None
    if storage is not None:
        worker = make_request_worker(stack, packages, storage, [roles, *models.values()])
        after.append(worker)
        requests = RequestResources(storage.bucket, storage.queue, storage.dead_letters, worker.function)
    if stack.logging.makes:
        after.append(AccountLogging("api-logs", place, settings.roles.boundary_arn, tagged))
    apis = {
        api.name: ApiComponent(
            api.name,
            RestApiArgs(
                api,
                documents[api.name],
                settings.logs,
                settings.network,
                after,
                [roles],
                disable_execute_api=stack.domain is not None and stack.domain.disable_execute_api,
            ),
            tagged,
        )
        for api in plan.apis
    }
    for api in plan.apis:
        for stage in api.stages:
            # With a hyphen, no stage's resource can have the name of a function's package.
            alarms = tuple(alarms_of_stage(place, api.name, stage))
            Alarms(f"stage-{stage.name}", alarms, settings.alarm_actions, tagged)
    authorizer = make_authorizer(stack, apis)
    domain = make_domain(stack, apis)
    make_guard_rail(stack, apis)
    dashboard = aws.cloudwatch.Dashboard(
        "dashboard", dashboard_name=place.prefix, dashboard_body=render_dashboard(plan, place)
    )
    prune_versions(stack, functions, apis)
    pulumi.export("costs", export_costs(stack.costs))
    pulumi.export("next_alias", stack.has_next)
    pulumi.export("account_logging", stack.logging.makes)
    pulumi.export("access_log_class", settings.access_log_class or STANDARD)
    pulumi.export("canary_routes", find_canary_routes(plan, stack.outputs or {}))
    pulumi.export("shared_models", find_shared_models(plan, stack.outputs or {}))
    export(plan, apis, dashboard)
    stages = {name: (api, stage) for api in apis.values() for name, stage in api.stages.items()}
    return DeployedProject(
        plan=plan,
        place=place,
        rest_apis={name: api.rest_api for name, (api, _) in stages.items()},
        stages={name: stage.stage for name, (_, stage) in stages.items()},
        endpoints={name: stage.stage.invoke_url for name, (_, stage) in stages.items()},
        api_keys={name: stage.key for name, (_, stage) in stages.items() if stage.key is not None},
        functions={planned.name: served.function for planned, served in zip(plan.functions, functions, strict=True)},
        aliases={planned.name: served.live for planned, served in zip(plan.functions, functions, strict=True)},
        roles=roles.made,
        dashboard=dashboard,
        consumer_keys={name: stage.consumer_keys for name, (_, stage) in stages.items() if stage.consumer_keys},
        authorizer=None if authorizer is None else authorizer.function,
        domain=None if domain is None else domain.resource,
        addresses={} if domain is None else domain.addresses,
        requests=requests,
    )


def prune_versions(stack: Stack, functions: Sequence[ServedFunction], apis: Mapping[str, ApiComponent]) -> None:
    """Delete old function versions and tables after all aliases and stages are up to date; never in a preview."""
    names = [function.name for function in stack.plan.functions]
    if any(api.has_consumers for api in stack.plan.apis):
        names.append(stack.place.name(CALLERS))
    settled: list[pulumi.Input[Any]] = [version for function in functions for version in function.aliased]
    settled += [stage.stage.id for api in apis.values() for stage in api.stages.values()]
    tables = [table_key(name) for name in stack.plan.tables]

    async def prune() -> None:
        if tables:
            await asyncio.to_thread(stack.account.prune_tables, stack.place, tables)
        keep = stack.settings.keep_versions
        deleted = await asyncio.to_thread(stack.account.prune, stack.place, names, keep)
        if deleted:
            pulumi.info(f"deleted {len(deleted)} old versions of {len({name for name, _ in deleted})} functions")

    def prune_settled(_: object) -> Any:
        return None if pulumi.runtime.is_dry_run() else prune()

    pulumi.Output.all(*settled).apply(prune_settled)


def make_packages(stack: Stack, built: Sequence[BuiltPackage], stored: Sequence[StoredModel]) -> Packages:
    """Make the layers, and upload packages that are too large to be sent directly."""
    place, settings = stack.place, stack.settings
    kept = find_kept(built, stack.account.layers(place), place, None if stack.is_release else settings.keep_versions)
    args = PackagesArgs(place, built, stored, kept, settings.keys.bucket, stack.plan.tables)
    return Packages("packages", args, tagging(settings.tags))


def make_request_storage(stack: Stack) -> RequestStorage | None:
    """Make the bucket and the queues of asynchronous requests, if a stage accepts them."""
    if not stack.plan.is_asynchronous:
        return None
    args = RequestStorageArgs(stack.place, stack.plan, stack.settings)
    storage = RequestStorage("requests", args, tagging(stack.settings.tags))
    pulumi.export(
        "requests",
        {"bucket": stack.place.requests_bucket, "queue": storage.queue.url, "dead_letters": storage.dead_letters.url},
    )
    return storage


def make_request_worker(
    stack: Stack, packages: Packages, storage: RequestStorage, after: Sequence[pulumi.Resource]
) -> WorkerFunction:
    """Make the worker that runs the requests."""
    router = next(function for function in stack.plan.functions if function.kind == "general_router")
    args = WorkerFunctionArgs(
        stack.place,
        stack.plan,
        storage,
        packages.code_of(router.package),
        router.settings.architecture,
        stack.settings,
        after,
    )
    return WorkerFunction("requests-worker", args, tagging(stack.settings.tags))


def make_models(stack: Stack, built: Sequence[BuiltPackage]) -> dict[str, ServedModel]:
    """Make the component of each model, pool and of the general router, by the key of its functions."""
    packages = {package.name: package for package in built}
    inputs: dict[str, list[str]] = {}
    for function in stack.plan.functions:
        package = packages[function.package]
        layer = packages[package.layer].digest if package.layer else ""
        parts = (repr(function), package.digest, layer)
        inputs.setdefault(model_key(function), []).extend(parts)
    tagged = tagging(stack.settings.tags)
    return {
        key: ServedModel(key, hashlib.sha256("\n".join(parts).encode()).hexdigest(), tagged)
        for key, parts in inputs.items()
    }


def model_key(function: Function) -> str:
    """Return the name of a function's component: its model, or its package, with an underscore, which no model has."""
    return function.model if function.kind in {"model", "router"} else f"{function.package}_"


def make_functions(
    stack: Stack,
    models: Mapping[str, ServedModel],
    packages: Packages,
    stored: Sequence[StoredModel],
    roles: Roles,
    storage: RequestStorage | None,
) -> Iterator[ServedFunction]:
    """Make every function with its alarms and its package."""
    plan, settings = stack.plan, stack.settings
    tagged = tagging(settings.tags)
    alarmed = {entry.name for entry in find_alarmed(plan, stack.project.manifest)}
    groups = {entry.name: log_group_name(entry.name, settings.log_groups) for entry in plan.functions}
    shared: Mapping[str, pulumi.Output[str]] = {}
    if settings.log_groups != PER_FUNCTION:
        shared = SharedLogs("logs", set(groups.values()), settings.logs, tagged).names
    requests: Mapping[str, pulumi.Input[str]] = {} if storage is None else storage.environment
    locations = {model.package: {LOCATION: model.location} for model in stored if not model.is_pooled}
    own = {model.package for model in stored if model.is_pooled and model.bucket == stack.place.bucket}
    locations |= {package: {MODELS_VARIABLE: pools_location(stack.place)} for package in own}
    reading = {CHOICES_VARIABLE: tables_location(stack.place)}
    for function in plan.functions:
        read = reading if reads_tables(plan, function) else {}
        args = ServedFunctionArgs(
            function,
            roles.role_of(function.name),
            packages.code_of(function.package),
            packages.layers_of(function.package),
            settings,
            shared.get(groups[function.name]),
            has_next=stack.has_next,
            keep_live=stack.is_release,
            has_async=storage is not None,
            environment={**locations.get(function.package, {}), **requests, **read},
            after=[packages, roles, *([] if storage is None else [storage])],
        )
        model = models[model_key(function)]
        yield ServedFunction(function.package, args, model)
        for alarm in alarms_of_function(function) if function.name in alarmed else ():
            name = f"{function.package}_{alarm.kind}"
            within = model.within("Alarms", "aws:cloudwatch/metricAlarm:MetricAlarm", name)
            make_alarm(name, alarm, settings.alarm_actions, within)
    for model in models.values():
        model.finish()
    pools = plan.pool_of
    for function in find_tested_functions(plan):
        alarms = (alarm_of_version(function, pools[function.name]),)
        Alarms(function.package, alarms, settings.alarm_actions, tagged)


def make_authorizer(stack: Stack, apis: Mapping[str, ApiComponent]) -> Authorizer | None:
    """Make the authorizer, if a stage has consumers."""
    stages = {name: stage for api in apis.values() for name, stage in api.stages.items()}
    keys = rows_of(stack.plan, stages)
    if not keys:
        return None
    return Authorizer("callers", AuthorizerArgs(stack.place, keys, stack.settings), tagging(stack.settings.tags))


def make_domain(stack: Stack, apis: Mapping[str, ApiComponent]) -> ProjectDomain | None:
    """Make the domain, if one is configured, and its exports: the stages' addresses do not depend on their APIs."""
    domain = stack.domain
    if domain is None:
        return None
    stages = {name: stage for api in apis.values() for name, stage in api.stages.items()}
    default = stack.project.manifest.stages[0].name
    tagged = tagging(stack.settings.tags)
    made = ProjectDomain("domain", ProjectDomainArgs(domain, stages, default), tagged)
    pulumi.export("domain", {"name": domain.name, "target": made.target, "addresses": made.addresses})
    return made


def make_guard_rail(stack: Stack, apis: Mapping[str, ApiComponent]) -> None:
    """Make the guard rail, if there is a canary that an alarm may end."""
    guarded = list(find_guarded(stack.plan, stack.project.manifest, apis))
    if guarded:
        rail = GuardRailArgs(stack.place, guarded, stack.settings)
        GuardRail("guard-rail", rail, tagging(stack.settings.tags))


def export(plan: Plan, apis: Mapping[str, ApiComponent], dashboard: aws.cloudwatch.Dashboard) -> None:
    """Export what `pulumi stack output` prints: address, key and API of each stage, and what it serves."""
    stages = {name: (api, stage) for api in apis.values() for name, stage in api.stages.items()}
    pulumi.export("endpoints", {name: stage.stage.invoke_url for name, (_, stage) in stages.items()})
    pulumi.export("api_keys", {name: stage.key for name, (_, stage) in stages.items() if stage.key is not None})
    named = {name: stage.consumer_keys for name, (_, stage) in stages.items() if stage.consumer_keys}
    if named:
        pulumi.export("consumer_keys", pulumi.Output.secret(named))
    pulumi.export("rest_apis", {name: api.rest_api_id for name, (api, _) in stages.items()})
    pulumi.export("stages", {stage.name: served_by(stage) for api in plan.apis for stage in api.stages})
    pulumi.export("functions", [function.name for function in plan.functions])
    pulumi.export("dashboard", dashboard.dashboard_name)


def served_by(stage: StagePlan) -> dict[str, Any]:
    """Return a stage's variables and canary as deployed, for `turnout canary status --outputs`."""
    canary = stage.canary
    return {
        "variables": dict(stage.variables),
        "canary": None if canary is None else {"percent": canary.percent, "overrides": dict(canary.overrides)},
    }
