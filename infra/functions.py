"""One Lambda function with its log group, its aliases and its warm-up settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.packaging.build import HANDLER
from turnout.packaging.routers import ROUTER_HANDLER
from turnout.plan.log_groups import log_group_name
from turnout.plan.values import Function
from turnout.protocol.naming import ASYNC_ALIASES, LIVE, NEXT
from turnout.protocol.telemetry import TELEMETRY_OFF

from .packages import RUNTIME, PackageCode
from .stack.log_groups import make_log_group
from .stack.settings import StackSettings


@dataclass(frozen=True, slots=True)
class ServedFunctionArgs:
    """Arguments of a function.

    Args:
        function: the function from the plan.
        role_arn: the role that the function runs as.
        code: location of its zip.
        layers: ARNs of its layers.
        log_group: a log group shared by several functions; None if the function gets its own.
        settings: the stack's settings: networks, keys and logs.
        has_next: whether it also has the alias `next`, which only release canaries call.
        keep_live: whether the alias `live` keeps its current version, because a stage has a release canary.
        has_async: whether each alias has another one for asynchronous runs.
        environment: Turnout's own variables, in addition to the manifest's.
        after: resources that its code needs at start; with SnapStart it starts while it is published.
    """

    function: Function
    role_arn: pulumi.Input[str]
    code: PackageCode
    layers: list[pulumi.Input[str]]
    settings: StackSettings = field(default_factory=StackSettings)
    log_group: pulumi.Input[str] | None = None
    has_next: bool = False
    keep_live: bool = False
    has_async: bool = False
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    after: Sequence[pulumi.Resource] = ()


class ServedModel(pulumi.ComponentResource):
    """What one model has on AWS: the functions of its versions, its router, and their alarms; or a pool, or the router.

    A component for each function would be a third of a stack's resources with thousands of versions. Its output
    `inputs` is a digest of everything that its functions are made of: while it is the same, a deployment changes none
    of them.
    """

    def __init__(self, name: str, inputs: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:ServedModel", name, None, opts)
        self._inputs = inputs

    def within(self, former: str, kind: str, name: str, **options: Any) -> pulumi.ResourceOptions:
        """Return the options of one of its resources.

        Args:
            former: the component that the resource was part of in stacks of earlier releases, which keep it.
            kind: its type.
            name: its name.
            options: further options.
        """
        urn = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::turnout:infra:{former}${kind}::{name}"
        return pulumi.ResourceOptions(parent=self, aliases=[urn], **options)

    def finish(self) -> None:
        """Register its output, after all of its resources."""
        self.register_outputs({"inputs": self._inputs})


FORMER = "ServedFunction"
"""The component of a function in stacks of earlier releases."""


class ServedFunction:
    """A function that API Gateway and the routers call through its alias `live`, in release canaries through `next`.

    Attributes:
        function: the Lambda function.
        live: the alias.
        aliased: the version of each alias, known once the alias is up to date.
    """

    def __init__(self, name: str, args: ServedFunctionArgs, model: ServedModel) -> None:
        planned, settings = args.function, args.function.settings
        own = TELEMETRY_OFF if planned.runs_models else {}
        variables = {**own, **settings.environment, **args.environment}
        log_group = args.log_group
        if log_group is None:
            within = model.within(FORMER, "aws:cloudwatch/logGroup:LogGroup", name)
            log_group = make_log_group(name, log_group_name(planned.name), args.settings.logs, within).name
        network, key = args.settings.network, args.settings.keys.environment
        made = aws.lambda_.Function(
            name,
            name=planned.name,
            role=args.role_arn,
            runtime=RUNTIME,
            handler=HANDLER if planned.runs_models else ROUTER_HANDLER,
            architectures=[settings.architecture],
            memory_size=settings.memory_mb,
            timeout=settings.timeout_s,
            layers=args.layers,
            publish=True,
            # An empty block would differ from AWS's answer at each refresh.
            environment={"variables": variables} if variables else None,
            # AWS does not store the key of a function without variables.
            kms_key_arn=key if key and variables else None,
            vpc_config={"subnet_ids": list(network.subnet_ids), "security_group_ids": list(network.security_group_ids)}
            if network.subnet_ids
            else None,
            ephemeral_storage={"size": settings.ephemeral_storage_mb},
            logging_config={"log_format": args.settings.log_format, "log_group": log_group},
            tracing_config={"mode": "Active" if settings.tracing else "PassThrough"},
            snap_start={"apply_on": "PublishedVersions"} if settings.warm.snap_start else None,
            # For the provider, -1 means "no reservation": without it, an earlier reservation would stay.
            reserved_concurrent_executions=-1
            if settings.reserved_concurrency is None
            else settings.reserved_concurrency,
            opts=model.within(FORMER, "aws:lambda/function:Function", name, depends_on=args.after),
            **args.code,
        )
        live = _make_alias(name, LIVE, made, model, ignore_changes=["functionVersion"] if args.keep_live else None)
        aliases = {LIVE: live} | ({NEXT: _make_alias(name, NEXT, made, model)} if args.has_next else {})
        if args.has_async:
            aliases |= {
                ASYNC_ALIASES[alias]: _make_alias(name, ASYNC_ALIASES[alias], made, model, of.function_version)
                for alias, of in aliases.items()
            }
        self.function, self.live = made, live
        self.aliased = [alias.function_version for alias in aliases.values()]
        if planned.is_shadow:
            for alias, of in aliases.items():
                _make_event_config(f"{name}_{alias}", made, of, model)
        if settings.warm.provisioned:
            aws.lambda_.ProvisionedConcurrencyConfig(
                name,
                function_name=made.name,
                qualifier=live.name,
                provisioned_concurrent_executions=settings.warm.provisioned,
                opts=model.within(FORMER, "aws:lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig", name),
            )


SHADOW_AGE_S = 60
"""Time that a shadow copy may wait in Lambda's queue: the minimum that Lambda allows."""


def _make_event_config(name: str, of: aws.lambda_.Function, alias: aws.lambda_.Alias, model: ServedModel) -> None:
    """Send a shadow's copies only once.

    By default, Lambda retries a failing asynchronous call twice, within six hours.
    """
    aws.lambda_.FunctionEventInvokeConfig(
        name,
        function_name=of.name,
        qualifier=alias.name,
        maximum_retry_attempts=0,
        maximum_event_age_in_seconds=SHADOW_AGE_S,
        opts=model.within(FORMER, "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig", name),
    )


def _make_alias(
    name: str,
    alias: str,
    of: aws.lambda_.Function,
    model: ServedModel,
    version: pulumi.Input[str] | None = None,
    **options: Any,
) -> aws.lambda_.Alias:
    """Make an alias of a version of the function, by default of the newest."""
    resource = f"{name}_{alias}"
    return aws.lambda_.Alias(
        resource,
        name=alias,
        function_name=of.name,
        function_version=version or of.version,
        opts=model.within(FORMER, "aws:lambda/alias:Alias", resource, **options),
    )
