"""The worker of asynchronous requests: a function that the queue calls, with its role, log and alarms.

Its zip is the general router's. Its name has a hyphen, so that API Gateway's role may not call it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from turnout.plan.log_groups import log_group_name
from turnout.plan.values import Plan
from turnout.protocol.aws_requests.settings import MOST_RUN_S

from ..naming import Place, stage_alarm_name
from ..observability.alarms import Alarm, Alarms
from ..packages import RUNTIME, PackageCode
from ..policies import LAMBDA, VPC_ACCESS, Statement, allow, allow_invoke, allow_logs, render_policy
from ..roles import make_role
from ..stack.log_groups import make_log_group
from ..stack.settings import StackSettings
from .asked import longest_run_s
from .permissions import allow_working
from .storage import RequestStorage

HANDLER = "router_lambda.requests.entry.handler"
MEMORY_MB = 256

MOST_RUNNING = 50
"""Most requests that run at once: each uses two of the account's concurrent executions, 1,000 unless AWS raised
them.
"""

WAITED_S = 600
"""A message that is this much older than the longest run has waited for its turn, or is stuck."""

ALARMS = "requests"
"""The first word of the alarms' names. No stage has this name."""


@dataclass(frozen=True, slots=True)
class WorkerFunctionArgs:
    """The parts of the worker.

    Args:
        place: names the resources.
        plan: plan with the functions.
        storage: the bucket and the queues.
        code: the general router's zip.
        settings: settings of the stack.
        environment: the variables that contain the storage's names.
        after: resources that must exist before it runs requests.
    """

    place: Place
    plan: Plan
    storage: RequestStorage
    code: PackageCode
    architecture: str
    settings: StackSettings = field(default_factory=StackSettings)
    after: Sequence[pulumi.Resource] = ()


class WorkerFunction(pulumi.ComponentResource):
    """The worker and the mapping by which the queue calls it.

    Attributes:
        function: the Pulumi resource.
    """

    def __init__(self, name: str, args: WorkerFunctionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:RequestWorker", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        function_name, network = args.place.requests, args.settings.network
        log = make_log_group(name, log_group_name(function_name), args.settings.logs, within)
        role: pulumi.Input[str] = args.settings.roles.function_arn
        policies: list[pulumi.Resource] = []
        if not role:
            made = make_role(name, function_name, LAMBDA, args.place, args.settings.roles.boundary_arn, within)
            policy = render_policy(list(_statements(args)))
            policies.append(aws.iam.RolePolicy(name, name="turnout", role=made.name, policy=policy, opts=within))
            role = made.arn
        key = args.settings.keys.environment
        self.function = aws.lambda_.Function(
            name,
            name=function_name,
            role=role,
            runtime=RUNTIME,
            handler=HANDLER,
            architectures=[args.architecture],
            memory_size=MEMORY_MB,
            timeout=MOST_RUN_S,
            environment={"variables": args.storage.worker_environment},
            kms_key_arn=key or None,
            vpc_config={"subnet_ids": list(network.subnet_ids), "security_group_ids": list(network.security_group_ids)}
            if network.subnet_ids
            else None,
            logging_config={"log_format": args.settings.log_format, "log_group": log.name},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*policies, *args.after]),
            **args.code,
        )
        aws.lambda_.EventSourceMapping(
            name,
            event_source_arn=args.storage.queue.arn,
            function_name=self.function.arn,
            batch_size=1,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config={"maximum_concurrency": MOST_RUNNING},
            opts=pulumi.ResourceOptions(parent=self, depends_on=policies),
        )
        # An idle stack with asynchronous requests costs no more than one without: alarms are billed all month, and
        # without a topic these notify nobody. `turnout requests list --state failed` shows the dead letters.
        if args.settings.alarm_actions:
            alarms = tuple(plan_alarms(args.place, args.plan))
            Alarms(name, alarms, args.settings.alarm_actions, within)
        self.register_outputs({})


def _statements(args: WorkerFunctionArgs) -> Iterator[Statement]:
    place, settings = args.place, args.settings
    yield allow_logs(place, log_group_name(place.requests))
    yield allow_invoke(place, [place.name("*")], with_async=True)
    yield from allow_working(place, settings.keys.bucket)
    if settings.network.subnet_ids:
        yield VPC_ACCESS
    if settings.keys.environment:
        yield allow(["kms:Decrypt"], [settings.keys.environment])


def plan_alarms(place: Place, plan: Plan) -> Iterator[Alarm]:
    """Yield the alarms for requests that wait too long, and for dead letters."""
    age_s = longest_run_s(plan) + WAITED_S
    yield Alarm(
        "age",
        stage_alarm_name(place, ALARMS, "age"),
        f"An asynchronous request has waited or run for more than {age_s:g} s.",
        age_s,
        {**_metric("ApproximateAgeOfOldestMessage", place.requests), "statistic": "Maximum"},
    )
    yield Alarm(
        "dead",
        stage_alarm_name(place, ALARMS, "dead"),
        "Asynchronous requests have failed after all attempts: `turnout requests list --stack --state failed`.",
        0,
        {**_metric("ApproximateNumberOfMessagesVisible", place.dead_letters), "statistic": "Maximum"},
    )


PERIOD_S = 300
"""SQS writes its metrics at most once in five minutes, while a queue is used."""


def _metric(metric: str, queue: str) -> dict[str, object]:
    return {
        "namespace": "AWS/SQS",
        "metric_name": metric,
        "dimensions": {"QueueName": queue},
        "period": PERIOD_S,
    }
