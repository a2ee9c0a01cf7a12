"""The Lambda authorizer of stages with consumers: a function that API Gateway calls before any other.

Its code is one file, `turnout.protocol.aws.callers`, with a table of the digests of all keys. It contains no key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.manifest.parser import Consumer
from turnout.plan.auth import CALLERS
from turnout.plan.log_groups import log_group_name
from turnout.plan.values import Plan
from turnout.protocol.aws import callers
from turnout.protocol.naming import LIVE

from ..naming import Place
from ..packages import RUNTIME
from ..policies import LAMBDA, allow_logs, render_policy
from ..roles import make_role
from ..stack.log_groups import make_log_group
from ..stack.settings import StackSettings
from ..stages import ApiStage

SOURCE = Path(callers.__file__)

MEMORY_MB, TIMEOUT_S = 256, 5


@dataclass(frozen=True, slots=True)
class AuthorizerArgs:
    """Arguments of the authorizer.

    Args:
        place: account, region and prefix of the stack.
        keys: the authorizer's entries for each stage with consumers, as `rows_of` returns them.
        settings: the stack's settings.
    """

    place: Place
    keys: Mapping[str, list[tuple[dict[str, Any], pulumi.Output[str]]]]
    settings: StackSettings


class Authorizer(pulumi.ComponentResource):
    """The authorizer's function with its role and its log group.

    API Gateway calls its alias `live` with the role of the integrations.
    """

    def __init__(self, name: str, args: AuthorizerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:Authorizer", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        place, function_name = args.place, args.place.name(CALLERS)
        log = make_log_group(name, log_group_name(function_name), args.settings.logs, within)
        role: pulumi.Input[str] = args.settings.roles.function_arn
        policies: list[pulumi.Resource] = []
        if not role:
            made = make_role(name, function_name, LAMBDA, place, args.settings.roles.boundary_arn, within)
            policy = render_policy([allow_logs(place, log_group_name(function_name))])
            policies.append(aws.iam.RolePolicy(name, name="turnout", role=made.name, policy=policy, opts=within))
            role = made.arn
        self.function = aws.lambda_.Function(
            name,
            name=function_name,
            role=role,
            runtime=RUNTIME,
            handler=f"{SOURCE.stem}.handler",
            code=render_table(args.keys).apply(_make_code),
            architectures=["arm64"],
            memory_size=MEMORY_MB,
            timeout=TIMEOUT_S,
            publish=True,
            logging_config={"log_format": args.settings.log_format, "log_group": log.name},
            opts=pulumi.ResourceOptions(parent=self, depends_on=policies),
        )
        aws.lambda_.Alias(
            name,
            name=LIVE,
            function_name=self.function.name,
            function_version=self.function.version,
            opts=within,
        )
        self.register_outputs({})


def render_table(
    keys: Mapping[str, list[tuple[dict[str, Any], pulumi.Output[str]]]],
) -> pulumi.Output[str]:
    """Return the authorizer's table: stage -> digest of a key -> its consumer and what that consumer may call.

    The table is not secret, because a digest does not reveal its key.
    """

    def render(values: Mapping[str, list[str]]) -> str:
        table = {
            stage: {callers.digest_key(value): caller for (caller, _), value in zip(rows, values[stage], strict=True)}
            for stage, rows in keys.items()
        }
        return json.dumps(table, sort_keys=True)

    values = pulumi.Output.all(**{stage: [value for _, value in rows] for stage, rows in keys.items()})
    return pulumi.Output.unsecret(values.apply(render))


def _make_code(table: str) -> pulumi.Archive:
    return pulumi.AssetArchive({SOURCE.name: pulumi.FileAsset(str(SOURCE)), callers.TABLE: pulumi.StringAsset(table)})


def rows_of(plan: Plan, stages: Mapping[str, ApiStage]) -> dict[str, list[tuple[dict[str, Any], pulumi.Output[str]]]]:
    """Return (the consumer's entry, the key) for every key of each stage with consumers, the stage's own key first."""
    by_stage: dict[str, list[tuple[dict[str, Any], pulumi.Output[str]]]] = {}
    for planned in (stage for api in plan.apis for stage in api.stages if stage.consumers):
        made = stages[planned.name]
        rows = by_stage[planned.name] = []
        if made.key is not None:
            rows.append((Consumer(callers.OWNER).rules, made.key))
        for consumer in planned.consumers:
            rows += ((consumer.rules, value) for value in made.consumer_keys[consumer.name].values())
    return by_stage
