"""The program: everything that a models.yaml asks for, from the file to the stack's exports.

Comes in: the folder of models.yaml, the stack's configuration, the provider's account and region. Goes out: Pulumi
resources. Called by `__main__`, by a project's own three lines, and by the tests.

All that can be wrong with the files is told before the first resource, in the words of `turnout validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.openapi.document import build_document, check_document, lambda_uri, render_document
from turnout.packaging.build import BuiltPackage, build_packages
from turnout.packaging.layer import LayerError
from turnout.packaging.routers import find_routers
from turnout.plan.deployment_notes import Outputs, find_canary_routes, find_deployment_notes
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan, StagePlan
from turnout.problems import ProblemsError
from turnout.project.document_examples import read_document_examples
from turnout.project.project import CACHE_DIR, Project, load_project
from turnout.project.remote_artifacts import fetch_remote
from turnout.protocol.naming import function_prefix
from turnout.protocol.telemetry import disable_telemetry
from turnout.trials.checks import check_opens, try_versions

from .account import AccountSettings, read_account, read_logs_role
from .api import RestApi, RestApiArgs
from .functions import ServedFunction, ServedFunctionArgs
from .limits import check_limits, check_names
from .naming import Place
from .observability.access_logs import AccountLogging, LoggingPlan, plan_logging
from .observability.alarms import Alarms, alarms_of_function, alarms_of_stage
from .observability.dashboard import render_dashboard
from .observability.guard_rail import GuardRail, GuardRailArgs, find_guarded
from .own_outputs import read_own_outputs
from .packages import Packages, PackagesArgs
from .roles import Roles, RolesArgs
from .settings import Settings, read_settings
from .stored_models import LOCATION, StoredModel, find_stored

Load = Callable[[Path], Project]
Account = Callable[[Place], AccountSettings | None]
LogsRole = Callable[[Place], str | None]
Build = Callable[[Project, Plan], Sequence[BuiltPackage]]


def load_whole_project(folder: Path) -> Project:
    """The project, with what lies in S3; a ProblemsError also where onnxruntime cannot open a version."""
    disable_telemetry()
    project = fetch_remote(load_project(folder))
    check_opens(project, try_versions(project))
    return project


def build_zips(project: Project, plan: Plan) -> Sequence[BuiltPackage]:
    """The packages as `turnout build` builds them, in the same place."""
    out = project.manifest.path.parent / CACHE_DIR / "packages"
    return build_packages(project, out=out, routers=find_routers(project, plan))


def deploy(
    folder: Path,
    *,
    load: Load = load_whole_project,
    build: Build = build_zips,
    account: Account = read_account,
    logs_role: LogsRole = read_logs_role,
) -> None:
    """Everything that `folder`'s models.yaml asks for.

    Args:
        folder: the project's.
        load: reads it.
        build: makes the packages.
        account: reads what AWS allows the account.
        logs_role: reads the role by which API Gateway writes logs in the account and region.

    Raises:
        pulumi.RunError: the files or the configuration cannot be used; nothing has been made.
    """
    disable_telemetry()
    settings = read_settings()
    try:
        project = load(folder)
        plan = make_plan(project.manifest, project.artifacts, stack=pulumi.get_stack())
        place = find_place(function_prefix(plan.platform, plan.stack))
        documents = dict(render_documents(project, plan, place))
        built = build(project, plan)
    except ProblemsError as error:
        raise pulumi.RunError(str(error)) from None
    except LayerError as error:
        raise pulumi.RunError(f"the layer cannot be made: {error}") from None
    check_limits(plan, place, built, keep_versions=settings.keep_versions, account=account(place))
    outputs = read_own_outputs()
    if not settings.new_names:
        check_names(plan, place, outputs)
    for note in (*plan.notes, *find_deployment_notes(plan, outputs)):
        pulumi.warn(f"{note.path}: {note.message}")
    logging = LoggingPlan(makes=False)
    if settings.account_logging:
        logging = plan_logging(place, logs_role(place), outputs)
    if logging.note:
        pulumi.warn(f"turnout:account_logging: {logging.note}")
    make_stack(Stack(project, plan, place, settings, logging, outputs), documents, built)


def find_place(prefix: str) -> Place:
    """Where the provider's credentials and configuration lead."""
    return Place(aws.get_partition().partition, aws.get_region().region, aws.get_caller_identity().account_id, prefix)


def render_documents(project: Project, plan: Plan, place: Place) -> Iterator[tuple[str, str]]:
    """(API, its document as text): nothing in it has to be made first.

    Raises:
        ProblemsError: API Gateway would refuse one for its size.
    """
    uri_of = lambda_uri(place.partition, place.region, place.account)
    credentials = place.role_arn(place.integration_role)
    examples = read_document_examples(project.manifest)
    for api in plan.apis:
        document = build_document(plan, api, uri_of, examples=examples, credentials=credentials)
        check_document(document)
        yield api.name, render_document(document).decode()


@dataclass(frozen=True, slots=True)
class Stack:
    """What is deployed and where to."""

    project: Project
    plan: Plan
    place: Place
    settings: Settings
    logging: LoggingPlan
    outputs: Outputs | None


def make_stack(stack: Stack, documents: Mapping[str, str], built: Sequence[BuiltPackage]) -> None:
    """Every resource, and the exports."""
    plan, place, settings = stack.plan, stack.place, stack.settings
    # A stage sends no traffic before its functions are there, nor writes a log before it may.
    stored = tuple(find_stored(plan, built, place))
    roles = Roles("roles", RolesArgs(place, plan, stored))
    after: list[pulumi.Resource] = [*make_functions(stack, built, stored, roles)]
    if stack.logging.makes:
        after.append(AccountLogging("api-logs", place))
    apis = {
        api.name: RestApi(api.name, RestApiArgs(api, documents[api.name], settings.log_retention_days, after, [roles]))
        for api in plan.apis
    }
    for api in plan.apis:
        for stage in api.stages:
            # A hyphen, lest a stage be called as a function's package is.
            alarms = tuple(alarms_of_stage(place, api.name, stage))
            Alarms(f"stage-{stage.name}", alarms, settings.alarm_actions)
    make_guard_rail(stack, apis)
    dashboard = aws.cloudwatch.Dashboard(
        "dashboard", dashboard_name=place.prefix, dashboard_body=render_dashboard(plan, place)
    )
    pulumi.export("account_logging", stack.logging.makes)
    pulumi.export("canary_routes", find_canary_routes(plan, stack.outputs or {}))
    export(plan, apis, dashboard)


def make_functions(
    stack: Stack, built: Sequence[BuiltPackage], stored: Sequence[StoredModel], roles: Roles
) -> Iterator[ServedFunction]:
    """Every function with its alarms and its package."""
    plan, place, settings = stack.plan, stack.place, stack.settings
    packages = Packages("packages", PackagesArgs(place, built, stored))
    locations = {model.package: {LOCATION: model.location} for model in stored}
    is_release = any(stage.canary and stage.canary.release for api in plan.apis for stage in api.stages)
    for function in plan.functions:
        args = ServedFunctionArgs(
            function,
            roles.role_of(function.name),
            packages.code_of(function.package),
            packages.layers_of(function.package),
            settings.log_retention_days,
            keep_live=is_release,
            environment=locations.get(function.package, {}),
            after=[packages, roles],
        )
        yield ServedFunction(function.package, args)
        Alarms(function.package, tuple(alarms_of_function(function)), settings.alarm_actions)


def make_guard_rail(stack: Stack, apis: Mapping[str, RestApi]) -> None:
    """The guard rail, where a canary is on that an alarm may end."""
    guarded = list(find_guarded(stack.plan, stack.project.manifest, apis))
    if guarded:
        GuardRail("guard-rail", GuardRailArgs(stack.place, guarded, stack.settings.log_retention_days))


def export(plan: Plan, apis: Mapping[str, RestApi], dashboard: aws.cloudwatch.Dashboard) -> None:
    """What `pulumi stack output` tells: by stage where it is called, with which key, its API, and what it serves."""
    stages = {name: (api, stage) for api in apis.values() for name, stage in api.stages.items()}
    pulumi.export("endpoints", {name: stage.stage.invoke_url for name, (_, stage) in stages.items()})
    pulumi.export("api_keys", {name: stage.key for name, (_, stage) in stages.items() if stage.key is not None})
    pulumi.export("rest_apis", {name: api.rest_api_id for name, (api, _) in stages.items()})
    pulumi.export("stages", {stage.name: served_by(stage) for api in plan.apis for stage in api.stages})
    pulumi.export("functions", [function.name for function in plan.functions])
    pulumi.export("dashboard", dashboard.dashboard_name)


def served_by(stage: StagePlan) -> dict[str, Any]:
    """A stage's variables and canary as deployed, for `turnout canary status --outputs`."""
    canary = stage.canary
    return {
        "variables": dict(stage.variables),
        "canary": None if canary is None else {"percent": canary.percent, "overrides": dict(canary.overrides)},
    }
