"""The guard rail: an alarm of a canary ends the canary, even if no user is watching.

A function ends the canary. Two rules of each stage's canary call it: one when an alarm's state changes, and one every
minute, because an alarm that was in ALARM before the canary started does not change its state. `pulumi up` also calls
it after it has started or changed a canary. Routed canaries of a stage share rules, as many as one input can hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.manifest.parser import Manifest
from turnout.plan.guard_alarms import (
    ERRORS,
    GuardAlarms,
    RoutedGuard,
    find_guard_alarms,
    find_routed_guards,
    group_routed_guards,
)
from turnout.plan.log_groups import log_group_name
from turnout.plan.values import CanaryPlan, Plan

from ..api import ApiComponent
from ..naming import Place
from ..packages import RUNTIME
from ..policies import DESCRIBE_ALARMS, LAMBDA, allow, allow_logs, render_policy
from ..roles import make_role
from ..stack.log_groups import make_log_group
from ..stack.settings import StackSettings

SOURCE = Path(__file__).with_name("guard_rail_function.py")

PATTERN_CHARACTERS = 2_048
"""Longest event pattern of a rule. Source: EventBridge User Guide, "Amazon EventBridge quotas"."""

AlarmPattern = str | dict[str, str]

CHECKED = "rate(1 minute)"
"""The interval at which alarms are checked while a canary is on."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A stage's canary that is guarded, or a group of its routed canaries.

    Args:
        stage: the stage's name.
        rest_api_id: the identifier of its API.
        alarms: the alarms that end a canary.
        canary: the canary from the plan; None for routed ones.
        made: the stage's resource.
        routed: the routed canaries.
        group: number of the group among the stage's groups of routed canaries, from 1.
    """

    stage: str
    rest_api_id: pulumi.Output[str]
    alarms: GuardAlarms
    canary: CanaryPlan | None
    made: pulumi.Resource
    routed: tuple[RoutedGuard, ...] = ()
    group: int = 1

    @property
    def name(self) -> str:
        """Name of its resources, unique within the stack: no stage's name contains a dot."""
        if self.canary is not None:
            return self.stage
        return f"{self.stage}.routed{'' if self.group == 1 else self.group}"

    @property
    def statement(self) -> str:
        """Identifier of its first statement in the function's policy; no stage's name has capitals."""
        return self.stage if self.canary is not None else f"ROUTED{self.group}-{self.stage}"

    @property
    def settings(self) -> str:
        """Everything about the canaries whose change requires another check, as JSON."""
        if self.canary is None:
            return json.dumps([asdict(routed) for routed in self.routed])
        return json.dumps([self.canary.percent, sorted(self.canary.overrides.items()), self.canary.release])

    def rule_name(self, place: Place) -> str:
        """Return the name of the rule that receives its alarms."""
        if self.canary is not None:
            return place.guard_rail_rule(self.stage)
        return place.guard_rail_routed(self.stage, self.group)


@dataclass(frozen=True, slots=True)
class GuardRailArgs:
    """Arguments of the guard rail."""

    place: Place
    guarded: Sequence[Guarded]
    settings: StackSettings = field(default_factory=StackSettings)


class GuardRail(pulumi.ComponentResource):
    """One function for all stages; it may change only these stages."""

    def __init__(self, name: str, args: GuardRailArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:GuardRail", name, None, opts)
        self._within = pulumi.ResourceOptions(parent=self)
        self._place = args.place
        function, policy = self._make_function(name, args)
        for guarded in args.guarded:
            self._make_rules(guarded, function)
            self._check_now(guarded, function, policy)
        self.register_outputs({})

    def _make_function(self, name: str, args: GuardRailArgs) -> tuple[aws.lambda_.Function, list[pulumi.Resource]]:
        function_name = args.place.guard_rail
        log = make_log_group(name, log_group_name(function_name), args.settings.logs, self._within)
        existing = args.settings.roles.guard_rail_arn
        role, policy = (existing, []) if existing else self._make_role(name, args)
        function = aws.lambda_.Function(
            name,
            name=function_name,
            role=role,
            runtime=RUNTIME,
            handler=f"{SOURCE.stem}.handler",
            code=pulumi.AssetArchive({SOURCE.name: pulumi.FileAsset(str(SOURCE))}),
            architectures=["arm64"],
            memory_size=256,
            timeout=30,
            logging_config={"log_format": args.settings.log_format, "log_group": log.name},
            opts=self._within,
        )
        return function, policy

    def _make_role(self, name: str, args: GuardRailArgs) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
        """Make the function's role and its policy: read alarms and change the canaries of these stages."""
        function_name = args.place.guard_rail
        boundary = args.settings.roles.boundary_arn
        role = make_role(name, function_name, LAMBDA, args.place, boundary, self._within)
        apis = {guarded.stage: guarded.rest_api_id for guarded in args.guarded}
        stages = [rest_api_id.apply(_stage_arn(args.place, stage)) for stage, rest_api_id in apis.items()]
        policy = pulumi.Output.all(*stages).apply(
            lambda arns: render_policy(
                [
                    allow_logs(args.place, log_group_name(function_name)),
                    allow(["apigateway:GET", "apigateway:PATCH"], arns),
                    DESCRIBE_ALARMS,
                ]
            )
        )
        attached = aws.iam.RolePolicy(name, name="turnout", role=role.name, policy=policy, opts=self._within)
        return role.arn, [attached]

    def _make_rules(self, guarded: Guarded, function: aws.lambda_.Function) -> None:
        name, rule = guarded.name, guarded.rule_name(self._place)
        whose = f"the canary of stage {guarded.stage}" if guarded.canary else f"routed canaries of {guarded.stage}"
        for number, part in enumerate(split_patterns(alarm_patterns(self._place, guarded.alarms)), start=1):
            suffix = "" if number == 1 else f".{number}"
            went_off = aws.cloudwatch.EventRule(
                f"{name}{suffix}",
                name=f"{rule}{suffix}",
                description=f"Ends {whose} when an alarm goes off.",
                event_pattern=_render_pattern(part),
                opts=self._within,
            )
            aws.cloudwatch.EventTarget(
                f"{name}{suffix}",
                rule=went_off.name,
                arn=function.arn,
                input_transformer={
                    "input_paths": {"alarm": "$.detail.alarmName"},
                    "input_template": _template_of(guarded),
                },
                opts=self._within,
            )
            statement = guarded.statement if number == 1 else f"PART-{number}-{guarded.statement}"
            self._permit(f"{name}{suffix}", statement, went_off, function)
        check = f"{name}.check"
        minutely = aws.cloudwatch.EventRule(
            check,
            name=self._place.guard_rail_check(rule),
            description=f"Ends {whose} while an alarm is in ALARM.",
            schedule_expression=CHECKED,
            opts=self._within,
        )
        aws.cloudwatch.EventTarget(
            check, rule=minutely.name, arn=function.arn, input=_check_of(guarded), opts=self._within
        )
        self._permit(check, f"CHECK-{guarded.statement}", minutely, function)

    def _permit(
        self, name: str, statement: str, rule: aws.cloudwatch.EventRule, function: aws.lambda_.Function
    ) -> None:
        aws.lambda_.Permission(
            name,
            statement_id=statement,
            action="lambda:InvokeFunction",
            function=function.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=self._within,
        )

    def _check_now(self, guarded: Guarded, function: aws.lambda_.Function, policy: Sequence[pulumi.Resource]) -> None:
        """Call the function once the stage has its canary, and again after each change of the canary."""
        checked = aws.lambda_.Invocation(
            guarded.name,
            function_name=function.name,
            input=_check_of(guarded),
            triggers={"canary": guarded.settings},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[guarded.made, *policy]),
        )
        checked.result.apply(_warn_of_end(guarded.stage))


def split_patterns(patterns: Sequence[AlarmPattern]) -> Iterator[list[AlarmPattern]]:
    """Yield the patterns in groups, in order; each group fits into one rule."""
    part: list[AlarmPattern] = []
    for pattern in patterns:
        if part and len(_render_pattern([*part, pattern])) > PATTERN_CHARACTERS:
            yield part
            part = []
        part.append(pattern)
    yield part


def _render_pattern(alarms: Sequence[AlarmPattern]) -> str:
    pattern = {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": list(alarms),
        "detail": {"state": {"value": ["ALARM"]}},
    }
    return json.dumps(pattern, separators=(",", ":"))


def alarm_patterns(place: Place, alarms: GuardAlarms) -> list[AlarmPattern]:
    """Return the pattern with which EventBridge matches an alarm's ARN."""
    every = [{"wildcard": place.alarm_arn(f"{alarms.prefix}*{ERRORS}")}] if alarms.prefix else []
    return [*(place.alarm_arn(name) for name in alarms.names), *every]


def _template_of(guarded: Guarded) -> pulumi.Output[str]:
    """Return the input for an alarm that goes off; EventBridge replaces `<alarm>`, and nothing else in it."""
    fields: dict[str, Any] = {"rest_api_id": guarded.rest_api_id, "stage": guarded.stage}
    if guarded.canary is None:
        fields["routed"] = [asdict(routed) for routed in guarded.routed]
    return pulumi.Output.json_dumps(fields).apply(_with_alarm)


def _with_alarm(text: str) -> str:
    escaped = text.replace("<", "\\u003c")  # otherwise part of an alarm's name would be a placeholder
    return f'{escaped.removesuffix("}")}, "alarm": "<alarm>"}}'


def _check_of(guarded: Guarded) -> pulumi.Output[str]:
    fields: dict[str, Any] = {"rest_api_id": guarded.rest_api_id, "stage": guarded.stage}
    if guarded.canary is None:
        fields["routed"] = [asdict(routed) for routed in guarded.routed]
    else:
        fields["alarms"] = {"names": guarded.alarms.names, "prefix": guarded.alarms.prefix, "suffix": ERRORS}
    return pulumi.Output.json_dumps(fields)


def find_guarded(plan: Plan, manifest: Manifest, apis: Mapping[str, ApiComponent]) -> Iterator[Guarded]:
    """Yield the canaries that an alarm can end; routed canaries of a stage in groups."""
    judgements = {stage.name: stage.canary.judgement for stage in manifest.stages if stage.canary}
    for api in plan.apis:
        for stage in api.stages:
            made = apis[api.name]
            where, resource = made.rest_api_id, made.stages[stage.name].stage
            if stage.name in judgements and stage.canary is not None:
                alarms = find_guard_alarms(plan, judgements[stage.name], stage)
                if alarms is not None:
                    yield Guarded(stage.name, where, alarms, stage.canary, resource)
            for number, group in enumerate(group_routed_guards(find_routed_guards(plan, stage)), start=1):
                alarms = GuardAlarms(tuple(dict.fromkeys(name for routed in group for name in routed.alarms)))
                yield Guarded(stage.name, where, alarms, None, resource, group, number)


def _stage_arn(place: Place, stage: str) -> Any:
    return lambda rest_api_id: place.stage_arn(rest_api_id, stage)


def _warn_of_end(stage: str) -> Any:
    def warn(result: str | None) -> None:
        done = json.loads(result or "{}")
        for model in done.get("models", ()):
            pulumi.warn(
                f"stages.{stage}.routed_canaries.{model}: the guard rail ended it when it started, because one of its "
                f"alarms was in ALARM. All requests get the baseline again. Remove the canary from models.yaml: "
                f"`turnout canary rollback {stage} --model {model}`."
            )
        if done.get("ended") and "models" not in done:
            pulumi.warn(
                f"stages.{stage}.canary: the guard rail ended it when it started, because the alarm "
                f"{done['alarm']} was in ALARM. Its share is now 0%. Remove it from models.yaml: "
                f"`turnout canary rollback {stage}`."
            )

    return warn
