"""Roles: one for the functions of all models, one for each router, and one with which API Gateway calls the functions.

Functions are matched by patterns with the stack's prefix, not listed one by one: 300 of them do not fit into the 10,240
characters of a role's policies, and each new version would change the policy of everything that calls it. Nothing else
has a name with that prefix and an underscore (`Place.prefix`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from turnout.plan.log_groups import log_group_name
from turnout.plan.values import Function, Plan
from turnout.protocol.naming import router_name
from turnout.protocol.routing.graph_nodes import Node, calls_of

from .naming import INTEGRATION, Place
from .policies import (
    API_GATEWAY,
    LAMBDA,
    TRACE,
    VPC_ACCESS,
    Statement,
    allow,
    allow_invoke,
    allow_logs,
    deny_invoke,
    render_policy,
    render_trust,
)
from .requests.permissions import allow_accepting
from .stack.choice_tables import allow_reading_tables
from .stack.settings import StackSettings
from .stored_models import POOLED, StoredModel

MODELS = "models"
"""The role that all models' functions share. No function has this name: a model's function name has two words."""


@dataclass(frozen=True, slots=True)
class RolesArgs:
    """Arguments of the roles.

    Args:
        place: account, region and prefix of the stack.
        plan: contains the functions and the models that a graph calls.
        stored: the models that functions fetch from S3.
        settings: the stack's settings: existing roles, rules for new roles, networks and keys.
    """

    place: Place
    plan: Plan
    stored: Sequence[StoredModel] = ()
    settings: StackSettings = field(default_factory=StackSettings)


POLICY_CHARACTERS = 10_240
"""Most characters in all inline policies of a role. Source: IAM User Guide, "IAM and AWS STS quotas"."""


class Roles(pulumi.ComponentResource):
    """Every role of the functions and of the API, unless the company has already made them.

    Attributes:
        made: the roles that this stack makes, by name.
    """

    def __init__(self, name: str, args: RolesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:Roles", name, None, opts)
        self._place = args.place
        self._boundary_arn = args.settings.roles.boundary_arn
        self._by_function: dict[str, pulumi.Input[str]] = {}
        self.made: dict[str, aws.iam.Role] = {}
        existing = args.settings.roles
        if existing.function_arn:
            self._by_function = {function.name: existing.function_arn for function in args.plan.functions}
        else:
            for role, functions, statements in plan_roles(args):
                arn = self._make(role, LAMBDA, statements)
                self._by_function |= dict.fromkeys(functions, arn)
        if not existing.integration_arn:
            self._make(INTEGRATION, API_GATEWAY, [allow_invoke(args.place, [args.place.name("*")])])
        self.register_outputs({})

    def role_of(self, function: str) -> pulumi.Input[str]:
        """The role that the function runs as."""
        return self._by_function[function]

    def _make(self, name: str, service: str, statements: Sequence[Statement]) -> pulumi.Output[str]:
        within = pulumi.ResourceOptions(parent=self)
        role = make_role(name, self._place.name(name), service, self._place, self._boundary_arn, within)
        self.made[name] = role
        aws.iam.RolePolicy(name, name="turnout", role=role.name, policy=render_policy(statements), opts=within)
        return role.arn


def make_role(
    name: str, role_name: str, service: str, place: Place, boundary_arn: str, opts: pulumi.ResourceOptions
) -> aws.iam.Role:
    """Make a role that one service assumes, under the stack's rules for roles.

    Args:
        name: name of the resource.
        role_name: name on AWS.
        service: the service that assumes it.
        place: contains the account and the path of roles.
        boundary_arn: the permissions boundary, or empty.
        opts: options of the resource.
    """
    return aws.iam.Role(
        name,
        name=role_name,
        assume_role_policy=render_trust(place, service),
        path=place.own_role_path,
        permissions_boundary=boundary_arn or None,
        opts=opts,
    )


def plan_roles(args: RolesArgs) -> Iterator[tuple[str, list[str], list[Statement]]]:
    """Return (role, the functions that run as it, its statements).

    Models share one role, unless they read an object of their own.
    """
    common, kinds = list(_of_all(args.settings)), {function.name: function.kind for function in args.plan.functions}
    for role, functions, statements in _plan_own(args):
        yield role, functions, [*statements, *common, *_of_requests(args, kinds[functions[0]])]


def _of_all(settings: StackSettings) -> Iterator[Statement]:
    """Return what every function needs for the stack's networks and keys."""
    if settings.network.subnet_ids:
        yield VPC_ACCESS
    if settings.keys.environment:
        yield allow(["kms:Decrypt"], [settings.keys.environment])


def _of_requests(args: RolesArgs, kind: str) -> Iterator[Statement]:
    """Yield the permissions to accept and run asynchronous requests, if a stage accepts them."""
    if args.plan.is_asynchronous:
        yield from allow_accepting(args.place, kind, args.settings.keys.bucket)


def _plan_own(args: RolesArgs) -> Iterator[tuple[str, list[str], list[Statement]]]:
    """Return the statements of each role that do not depend on the stack's settings."""
    place, plan = args.place, args.plan
    beside = [*_of_all(args.settings), *_of_requests(args, "general_router")]
    graphs = {graph.model: graph.node for graph in plan.graphs}
    models = [function for function in plan.functions if function.kind == "model"]
    stored = {model.package: model for model in args.stored if not model.is_pooled}
    sharing = [function for function in models if function.package not in stored]
    if sharing:
        yield (
            MODELS,
            [function.name for function in sharing],
            list(_of_models(place, f"/aws/lambda/{place.name('*')}", sharing)),
        )
    for function in models:
        if function.package in stored:
            own, read = (
                list(_of_models(place, log_group_name(function.name, args.settings.log_groups), [function])),
                stored[function.package],
            )
            named, below = read.arns(place.partition), [read.folder_arn(place.partition)]
            statements = choose_fitting([*own, *_reading(read, named)], [*own, *_reading(read, below)], beside)
            yield function.package, [function.name], statements
    yield from _plan_pools(args)
    for function in plan.functions:
        if function.kind == "router":
            reached = find_called(function.model, graphs)
            called = [place.name(model, "*") for model in sorted(reached)]
            called += sorted(
                pool.function for pool in plan.pools if any(model in reached for model, _ in pool.versions)
            )
            routers = router_name(place.prefix, "*")
        elif function.kind == "general_router":
            called, routers = [place.name("*")], function.name
        else:
            continue
        log = allow_logs(place, log_group_name(function.name, args.settings.log_groups))
        invoking = functools.partial(allow_invoke, place, with_async=plan.is_asynchronous)
        tables = allow_reading_tables(plan, function, place, args.settings.keys.bucket)
        others = [deny_invoke(place, [routers], with_async=plan.is_asynchronous), *tables]
        narrow, wide = invoking(called), invoking([place.name("*")])
        yield function.package, [function.name], choose_fitting([log, narrow, *others], [log, wide, *others], beside)


def _plan_pools(args: RolesArgs) -> Iterator[tuple[str, list[str], list[Statement]]]:
    """Make a role for each pool, which may read the models of all its versions."""
    place = args.place
    beside = [*_of_all(args.settings), *_of_requests(args, "general_router")]
    for function in (function for function in args.plan.functions if function.kind == "pool"):
        models = [model for model in args.stored if model.is_pooled and model.package == function.package]
        log_group = log_group_name(function.name, args.settings.log_groups)
        own = list(_of_models(place, log_group, [function]))
        below = [f"arn:{place.partition}:s3:::{place.bucket}/{POOLED}/*"] * any(model.name for model in models)
        elsewhere = [model for model in models if not model.name]
        keys = sorted({model.kms_key_arn for model in models if model.kms_key_arn})
        named = sorted({arn for model in elsewhere for arn in model.arns(place.partition)})
        folders = sorted({f"arn:{place.partition}:s3:::{model.bucket}/*" for model in elsewhere})
        decrypt = [allow(["kms:Decrypt"], keys)] if keys else []
        narrow, wide = ([*own, allow(["s3:GetObject"], [*below, *objects]), *decrypt] for objects in (named, folders))
        yield function.package, [function.name], choose_fitting(narrow, wide, beside)


def choose_fitting(narrow: list[Statement], wide: list[Statement], beside: Sequence[Statement] = ()) -> list[Statement]:
    """Return the statements that name each resource, or those with patterns if the names exceed IAM's limit."""
    return narrow if len(render_policy([*narrow, *beside])) <= POLICY_CHARACTERS else wide


def _of_models(place: Place, log_group: str, functions: Sequence[Function]) -> Iterator[Statement]:
    yield allow_logs(place, log_group)
    if any(function.settings.tracing for function in functions):
        yield TRACE


def _reading(model: StoredModel, objects: Sequence[str]) -> Iterator[Statement]:
    """Return the statements for reading a model's files.

    A bucket with a customer's key also needs permission to use the key.
    """
    yield allow(["s3:GetObject"], objects)
    if model.kms_key_arn:
        yield allow(["kms:Decrypt"], [model.kms_key_arn])


def find_called(model: str, graphs: Mapping[str, Node]) -> frozenset[str]:
    """Return the models whose versions a model's router calls: its own, or all that its graph reaches."""
    if model not in graphs:
        return frozenset({model})
    return frozenset().union(*(find_called(call.model, graphs) for _, call in calls_of(graphs[model])))
