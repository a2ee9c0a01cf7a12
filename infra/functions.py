"""One Lambda function with its log, its aliases and what keeps it warm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from turnout.packaging.build import HANDLER
from turnout.packaging.routers import ROUTER_HANDLER
from turnout.plan.values import Function
from turnout.protocol.naming import LIVE, NEXT
from turnout.protocol.telemetry import TELEMETRY_OFF

from .naming import log_group_name
from .packages import RUNTIME, PackageCode


@dataclass(frozen=True, slots=True)
class ServedFunctionArgs:
    """What a function is made of.

    Args:
        function: as planned.
        role_arn: what it runs as.
        code: where its zip is.
        layers: ARNs.
        log_retention_days: of its log.
        keep_live: whether the alias `live` stays at the code that it names now: a stage has a release canary.
        environment: variables of our own beside the manifest's.
        after: what its code needs when it starts; with SnapStart it starts while it is published.
    """

    function: Function
    role_arn: pulumi.Input[str]
    code: PackageCode
    layers: list[pulumi.Input[str]]
    log_retention_days: int
    keep_live: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[pulumi.Resource] = ()


class ServedFunction(pulumi.ComponentResource):
    """A function that API Gateway and the routers call by its aliases `live` and `next`.

    Attributes:
        aliased: the version of each alias, known once the alias is what it is to be.
    """

    def __init__(self, name: str, args: ServedFunctionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:ServedFunction", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        planned, settings = args.function, args.function.settings
        own = TELEMETRY_OFF if planned.kind == "model" else {}
        variables = {**own, **settings.environment, **args.environment}
        log = aws.cloudwatch.LogGroup(
            name, name=log_group_name(planned.name), retention_in_days=args.log_retention_days, opts=within
        )
        made = aws.lambda_.Function(
            name,
            name=planned.name,
            role=args.role_arn,
            runtime=RUNTIME,
            handler=HANDLER if planned.kind == "model" else ROUTER_HANDLER,
            architectures=[settings.architecture],
            memory_size=settings.memory_mb,
            timeout=settings.timeout_s,
            layers=args.layers,
            publish=True,
            # An empty block would differ from AWS's answer at each refresh.
            environment={"variables": variables} if variables else None,
            ephemeral_storage={"size": settings.ephemeral_storage_mb},
            logging_config={"log_format": "JSON", "log_group": log.name},
            tracing_config={"mode": "Active" if settings.tracing else "PassThrough"},
            snap_start={"apply_on": "PublishedVersions"} if settings.warm.snap_start else None,
            # -1 is the provider's word for "no reservation": left out, one that was made would stay.
            reserved_concurrent_executions=-1
            if settings.reserved_concurrency is None
            else settings.reserved_concurrency,
            opts=pulumi.ResourceOptions(parent=self, depends_on=args.after),
            **args.code,
        )
        live = _make_alias(
            name,
            LIVE,
            made,
            pulumi.ResourceOptions(parent=self, ignore_changes=["functionVersion"] if args.keep_live else None),
        )
        aliases = {LIVE: live, NEXT: _make_alias(name, NEXT, made, within)}
        self.aliased = [alias.function_version for alias in aliases.values()]
        if planned.is_shadow:
            for alias, of in aliases.items():
                _make_event_config(f"{name}_{alias}", made, of, within)
        if settings.warm.provisioned:
            aws.lambda_.ProvisionedConcurrencyConfig(
                name,
                function_name=made.name,
                qualifier=live.name,
                provisioned_concurrent_executions=settings.warm.provisioned,
                opts=within,
            )
        self.register_outputs({})


SHADOW_AGE_S = 60
"""How long a copy may wait for its function, in Lambda's queue: the least that Lambda allows."""


def _make_event_config(
    name: str, of: aws.lambda_.Function, alias: aws.lambda_.Alias, opts: pulumi.ResourceOptions
) -> None:
    """A shadow's copies are sent once: Lambda repeats a failing asynchronous call twice otherwise, within six hours."""
    aws.lambda_.FunctionEventInvokeConfig(
        name,
        function_name=of.name,
        qualifier=alias.name,
        maximum_retry_attempts=0,
        maximum_event_age_in_seconds=SHADOW_AGE_S,
        opts=opts,
    )


def _make_alias(name: str, alias: str, of: aws.lambda_.Function, opts: pulumi.ResourceOptions) -> aws.lambda_.Alias:
    return aws.lambda_.Alias(
        f"{name}_{alias}", name=alias, function_name=of.name, function_version=of.version, opts=opts
    )
