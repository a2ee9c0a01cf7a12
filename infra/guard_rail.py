"""The guard rail: an alarm of a canary takes the canary away by itself, whether or not anybody watches.

Comes in: the stages with a canary and the alarms that end it. Goes out: a function, and for each stage a rule that
calls it. Called by the program, where some stage has a canary with `auto_rollback`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.manifest import Manifest
from turnout.observation.source import watched_of
from turnout.plan import Plan, StagePlan

from .naming import Place, errors_alarm_name, log_group_name
from .packages import RUNTIME
from .policies import LAMBDA, allow, allow_logs, render_policy, render_trust

SOURCE = Path(__file__).with_name("guard_rail_function.py")

ALARMS_CHARACTERS = 1800
"""Of a rule's pattern the part that names alarms; a pattern has 2,048 at most. Where what a canary moves does not fit,
every function's error alarm ends it. Source: EventBridge User Guide, "Quotas".
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A stage whose canary is guarded.

    Args:
        stage: its name.
        rest_api_id: of its API.
        alarms: what EventBridge compares an alarm's ARN with: ARNs, or one pattern.
    """

    stage: str
    rest_api_id: pulumi.Output[str]
    alarms: Sequence[str | Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class GuardRailArgs:
    """What the guard rail is made of."""

    place: Place
    guarded: Sequence[Guarded]
    log_retention_days: int


class GuardRail(pulumi.ComponentResource):
    """One function for all stages; it may change those stages and nothing else."""

    def __init__(self, name: str, args: GuardRailArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:GuardRail", name, None, opts)
        self._within = pulumi.ResourceOptions(parent=self)
        function = self._make_function(name, args)
        for guarded in args.guarded:
            self._make_rule(args.place.guard_rail_rule(guarded.stage), guarded, function)
        self.register_outputs({})

    def _make_function(self, name: str, args: GuardRailArgs) -> aws.lambda_.Function:
        function_name = args.place.guard_rail
        log = aws.cloudwatch.LogGroup(
            name,
            name=log_group_name(function_name),
            retention_in_days=args.log_retention_days,
            opts=self._within,
        )
        role = aws.iam.Role(
            name,
            name=function_name,
            assume_role_policy=render_trust(args.place, LAMBDA),
            opts=self._within,
        )
        stages = [guarded.rest_api_id.apply(_stage_arn(args.place, guarded.stage)) for guarded in args.guarded]
        policy = pulumi.Output.all(*stages).apply(
            lambda arns: render_policy(
                [allow_logs(args.place, function_name), allow(["apigateway:GET", "apigateway:PATCH"], arns)]
            )
        )
        aws.iam.RolePolicy(name, name="turnout", role=role.name, policy=policy, opts=self._within)
        return aws.lambda_.Function(
            name,
            name=function_name,
            role=role.arn,
            runtime=RUNTIME,
            handler=f"{SOURCE.stem}.handler",
            code=pulumi.AssetArchive({SOURCE.name: pulumi.FileAsset(str(SOURCE))}),
            architectures=["arm64"],
            memory_size=256,
            timeout=30,
            logging_config={"log_format": "JSON", "log_group": log.name},
            opts=self._within,
        )

    def _make_rule(self, name: str, guarded: Guarded, function: aws.lambda_.Function) -> None:
        pattern = {
            "source": ["aws.cloudwatch"],
            "detail-type": ["CloudWatch Alarm State Change"],
            "resources": list(guarded.alarms),
            "detail": {"state": {"value": ["ALARM"]}},
        }
        rule = aws.cloudwatch.EventRule(
            guarded.stage,
            name=name,
            description=f"Takes the canary of stage {guarded.stage} away when an alarm of it goes off.",
            event_pattern=json.dumps(pattern, separators=(",", ":")),
            opts=self._within,
        )
        template = pulumi.Output.json_dumps(
            {"rest_api_id": guarded.rest_api_id, "stage": guarded.stage, "alarm": "<alarm>"}
        )
        aws.cloudwatch.EventTarget(
            guarded.stage,
            rule=rule.name,
            arn=function.arn,
            input_transformer={"input_paths": {"alarm": "$.detail.alarmName"}, "input_template": template},
            opts=self._within,
        )
        aws.lambda_.Permission(
            guarded.stage,
            statement_id=guarded.stage,
            action="lambda:InvokeFunction",
            function=function.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=self._within,
        )


def find_alarms(plan: Plan, manifest: Manifest, stage: StagePlan, place: Place) -> list[str | dict[str, str]]:
    """The alarms that end a stage's canary; none where it has no canary, or one that only a person ends.

    Args:
        plan: names the functions.
        manifest: says which alarms, and whether.
        stage: one of the plan's.
        place: their account and region.
    """
    canary = next(row.canary for row in manifest.stages if row.name == stage.name)
    if canary is None or stage.canary is None or not canary.judgement.auto_rollback:
        return []
    if canary.judgement.alarms:
        return [place.alarm_arn(name) for name in canary.judgement.alarms]
    every = [{"wildcard": place.alarm_arn(errors_alarm_name(place.name("*")))}]
    if canary.release:
        return [*every]  # new code of every function
    moved = watched_of(plan, stage.variables, stage.canary.overrides)
    functions = {
        resource.partition(":")[0] for row in moved for resource in row.canary.versions - row.baseline.versions
    }
    named = [place.alarm_arn(errors_alarm_name(name)) for name in sorted(functions)]
    return [*named] if len(json.dumps(named)) <= ALARMS_CHARACTERS else [*every]


def _stage_arn(place: Place, stage: str) -> Any:
    return lambda rest_api_id: place.stage_arn(rest_api_id, stage)
