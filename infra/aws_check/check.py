"""The check: a list of steps, each of which passes or fails, and a cleanup that always runs.

A failed step ends the steps that build on it. The stack is destroyed in any case, also after SIGINT and SIGTERM.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnout.client.connection import ApiAnswer, UnreachableError
from turnout.manifest.parser import Manifest
from turnout.plan.costs import find_alarmed
from turnout.plan.guard_alarms import errors_alarm_name
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.project.project import load_project
from turnout.protocol.naming import function_prefix

from .calls import list_calls
from .leftovers import Client, find_leftovers, undo_logs_role
from .sample import MODEL, PLATFORM, SampleProject
from .stack import Deployed

PATIENCE_S = 180.0
"""Time that AWS may take to apply a change: a minute for a new key, two for a log line or an alarm."""

PAUSE_S = 3.0
DRAWS = 60
"""Calls to a canary of 50%: the chance that one share gets none of them is 1 in 10^17."""


class CheckFailedError(Exception):
    """A step failed; the message says what was observed."""


class CheckedStack(Protocol):
    """The stack under test, with the project's current state."""

    def up(self, *, refresh: bool = False) -> Deployed:
        """Deploy the project."""
        ...

    def destroy(self) -> None:
        """Destroy everything."""
        ...


class Caller(Protocol):
    """Sends one request to a stage of the deployed stack."""

    def __call__(
        self, deployed: Deployed, stage: str, method: str, path: str, body: bytes, *, with_key: bool
    ) -> ApiAnswer:
        """Return the response; raise UnreachableError if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class CheckRow:
    """The result of one step.

    Args:
        step: the step's name.
        result: `held`, `failed`, `not tried`.
        seen: what was observed, a phrase.
        seconds: how long it took.
    """

    step: str
    result: str
    seen: str
    seconds: float = 0.0


@dataclass
class AwsCheck:
    """One check.

    Args:
        project: the project that is deployed.
        stack: the stack to which it is deployed.
        name: the stack's name.
        call: sends requests.
        client: makes boto3's clients, for everything that is not a request to the API.
        patience_s: how long AWS may take to apply a change.
        pause_s: pause between two attempts.
        clock: a monotonic clock.
        sleep: waits some seconds.
        begin: called with each step before it is tried.
    """

    project: SampleProject
    stack: CheckedStack
    name: str
    call: Caller
    client: Client
    patience_s: float = PATIENCE_S
    pause_s: float = PAUSE_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    begin: Callable[[str], None] = lambda _: None
    rows: list[CheckRow] = field(default_factory=list)
    deployed: Deployed = field(default_factory=lambda: Deployed({}, {}, {}))

    @property
    def prefix(self) -> str:
        """The prefix of all names in the stack."""
        return function_prefix(PLATFORM, self.name)

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name and function of every step, in order; all others depend on the first one."""
        yield "deploy", self.deploy
        yield "routes", self.call_every_route
        yield "keys", self.refuse_calls_without_a_key
        yield "version canary starts", self.start_version_canary
        yield "version canary is promoted", self.promote_version_canary
        yield "release canary starts", self.start_release_canary
        yield "release canary is promoted", self.promote_release_canary
        yield "guard rail", self.ring_an_alarm
        yield "logs", self.read_logs
        yield "alarms", self.look_at_alarms
        yield "no drift", self.deploy_again

    def try_steps(self) -> None:
        """Run every step. An exception that is not a step's failure, such as a signal, ends all steps."""
        try:
            for number, (name, deed) in enumerate(self.steps()):
                if number and self.rows[0].result != "held":
                    self.rows.append(CheckRow(name, "not tried", "nothing is deployed"))
                else:
                    self._try(name, deed)
        except BaseException as error:
            self.rows.append(CheckRow("interrupted", "failed", str(error) or type(error).__name__))
            raise

    def finish(self) -> bool:
        """Destroy the stack, however many steps have run.

        Returns:
            Whether every step held.
        """
        self._try("destroy", self.destroy)
        return all(step.result == "held" for step in self.rows)

    def _try(self, name: str, deed: Callable[[], str]) -> None:
        started = self.clock()
        try:
            self.begin(name)
            seen, result = deed(), "held"
        except Exception as error:
            seen, result = _first_line(error), "failed"
        self.rows.append(CheckRow(name, result, seen, self.clock() - started))

    # Steps.

    def deploy(self) -> str:
        """Run `pulumi up` on an empty stack."""
        self.deployed = self.stack.up()
        return f"{', '.join(self.deployed.endpoints)} deployed"

    def call_every_route(self) -> str:
        """Call every route of every stage; each must return 200."""
        plan, count = self._plan(), 0
        for api in plan.apis:
            for stage in api.stages:
                for call in list_calls(api):
                    body = self.project.request if call.has_body else b""
                    answer = self._until_status(stage.name, call.method, call.path, body, 200)
                    version = answer.headers.get("x-turnout-version", "")
                    if call.version and version != call.version:
                        raise CheckFailedError(
                            f"{call.path} was answered by {version or 'no version'}, not {call.version}"
                        )
                    count += 1
        return f"{count} calls answered with 200"

    def refuse_calls_without_a_key(self) -> str:
        """A stage with `auth: api_key` rejects calls without a key, except for its health route."""
        path = f"/models/{MODEL}/inference"
        answer = self._until_status("prod", "POST", path, self.project.request, 403, with_key=False)
        self._until_status("prod", "GET", "/health/live", b"", 200, with_key=False)
        return f"{answer.status} without a key, health open"

    def start_version_canary(self) -> str:
        """Half of the traffic gets another version, and responses of both shares name their version."""
        self.project.prod["canary"] = {"percent": 50, "serve": {MODEL: "v2"}}
        self._up()
        return self._until_drawn({("v1", "false"), ("v2", "true")})

    def promote_version_canary(self) -> str:
        """All traffic gets the new version, and responses no longer name a share."""
        del self.project.prod["canary"]
        self.project.prod["serve"] = {MODEL: "v2"}
        self._up()
        return self._until_drawn({("v2", "false")})

    def start_release_canary(self) -> str:
        """The canary's share gets new code through the alias `next`; the baseline keeps the old code."""
        name = f"{self.prefix}_{MODEL}_v1"
        before = self._alias(name, "live")
        self.project.v1["environment"] = {"RELEASE": "2"}
        self.project.prod["canary"] = {"percent": 50, "release": True}
        self._up()
        live, following = self._alias(name, "live"), self._alias(name, "next")
        if live != before or following == before:
            raise CheckFailedError(f"live is at version {live}, next at {following}; live was at {before}")
        return f"live {live}, next {following}; {self._until_drawn({('v2', 'false'), ('v2', 'true')})}"

    def promote_release_canary(self) -> str:
        """The baseline gets the new code."""
        name = f"{self.prefix}_{MODEL}_v1"
        following = self._alias(name, "next")
        del self.project.prod["canary"]
        self._up()
        live = self._alias(name, "live")
        if live != following:
            raise CheckFailedError(f"live is at version {live}, next was at {following}")
        return f"live {live}; {self._until_drawn({('v2', 'false')})}"

    def ring_an_alarm(self) -> str:
        """An alarm of a canary's version ends the canary automatically."""
        self.project.prod["canary"] = {"percent": 50, "serve": {MODEL: "v1"}}
        self._up()
        alarm = errors_alarm_name(f"{self.prefix}_{MODEL}_v1")
        api = self.deployed.rest_apis["prod"]

        def ended() -> bool:
            stage = self.client("apigateway").get_stage(restApiId=api, stageName="prod")
            return not (stage.get("canarySettings") or {}).get("percentTraffic")

        try:
            self.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="aws-check")
            self._until(ended, "the canary is still running after its alarm went off")
        finally:
            del self.project.prod["canary"]
            self.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="aws-check")
            self._up(refresh=True)
        return f"{alarm} ended the canary"

    def read_logs(self) -> str:
        """Requests and calls are logged; the canary's requests also in a log group of their own."""
        api = next(api.name for api in self._plan().apis if any(stage.name == "prod" for stage in api.stages))
        groups = [
            f"/aws/apigateway/{api}/prod",
            f"/aws/apigateway/{api}/prod/Canary",
            f"/aws/lambda/{self.prefix}_{MODEL}_v2",
        ]
        for group in groups:
            self._until(lambda group=group: bool(self._events(group)), f"{group} is empty")  # type: ignore[misc]
        lines = [json.loads(text) for text in self._events(groups[0])]  # raises an error for a line that is not JSON
        shares = Counter(str(line.get("canary", "-")) for line in lines)
        return f"{len(lines)} requests in the access log, canary: {dict(shares)}"

    def look_at_alarms(self) -> str:
        """Every function that receives traffic has its alarms, and none of them is in ALARM."""
        pages = self.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=self.prefix)
        states = {entry["AlarmName"]: entry["StateValue"] for page in pages for entry in page["MetricAlarms"]}
        wanted = {errors_alarm_name(function.name) for function in find_alarmed(*self._planned())}
        missing = sorted(wanted - states.keys())
        if missing:
            raise CheckFailedError(f"no alarm {missing[0]}")
        ringing = sorted(name for name, state in states.items() if state == "ALARM")
        if ringing:
            raise CheckFailedError(f"{ringing[0]} rings")
        return f"{len(states)} alarms, none in ALARM"

    def deploy_again(self) -> str:
        """A second `pulumi up --refresh` of the same project changes nothing visible in the stages."""
        before = self._stages()
        self._up(refresh=True)
        if self._stages() != before:
            raise CheckFailedError("a second `pulumi up` changed a stage")
        return "a second `pulumi up` changed no stage"

    def destroy(self) -> str:
        """Run `pulumi destroy` and check that nothing is left."""
        self.stack.destroy()
        undo_logs_role(self.client, self.prefix)
        left: list[str] = []

        def none_left() -> bool:
            left[:] = find_leftovers(self.client, self.prefix)
            return not left

        try:
            self._until(none_left, "")
        except CheckFailedError:
            raise CheckFailedError(f"{len(left)} left: {', '.join(left[:5])}") from None
        return "nothing is left"

    # Building blocks of the steps.

    def _plan(self) -> Plan:
        return self._planned()[0]

    def _planned(self) -> tuple[Plan, Manifest]:
        project = load_project(self.project.folder)
        return make_plan(project.manifest, project.artifacts, stack=self.name), project.manifest

    def _up(self, *, refresh: bool = False) -> None:
        self.project.write()
        self.deployed = self.stack.up(refresh=refresh)

    def _alias(self, function: str, alias: str) -> str:
        version: str = self.client("lambda").get_alias(FunctionName=function, Name=alias)["FunctionVersion"]
        return version

    def _stages(self) -> dict[str, Any]:
        client, stages = self.client("apigateway"), {}
        for name, api in self.deployed.rest_apis.items():
            stage = client.get_stage(restApiId=api, stageName=name)
            stages[name] = (stage["deploymentId"], stage.get("variables"), stage.get("canarySettings"))
        return stages

    def _events(self, group: str) -> list[str]:
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]

    def _call(self, stage: str, method: str, path: str, body: bytes, *, with_key: bool = True) -> ApiAnswer | str:
        try:
            return self.call(self.deployed, stage, method, path, body, with_key=with_key)
        except UnreachableError as error:
            return str(error)

    def _until_status(
        self, stage: str, method: str, path: str, body: bytes, status: int, *, with_key: bool = True
    ) -> ApiAnswer:
        last: list[ApiAnswer | str] = []

        def answered() -> bool:
            last[:] = [self._call(stage, method, path, body, with_key=with_key)]
            return isinstance(last[0], ApiAnswer) and last[0].status == status

        try:
            self._until(answered, "")
        except CheckFailedError:
            received = (
                last[0]
                if isinstance(last[0], str)
                else f"{last[0].status} {last[0].body[:200].decode(errors='replace')}"
            )
            raise CheckFailedError(f"{method} /{stage}{path}: expected {status}, got {received}") from None
        assert isinstance(last[0], ApiAnswer)
        return last[0]

    def _until_drawn(self, wanted: set[tuple[str, str]]) -> str:
        """Call until only these versions and shares answer, and each of them has answered."""
        drawn: Counter[tuple[str, str]] = Counter()

        def settled() -> bool:
            drawn.clear()
            for _ in range(DRAWS):
                answer = self._call("prod", "POST", f"/models/{MODEL}/inference", self.project.request)
                if isinstance(answer, str) or answer.status != 200:
                    drawn["", answer if isinstance(answer, str) else str(answer.status)] += 1
                    return False
                headers = answer.headers
                drawn[headers.get("x-turnout-version", ""), headers.get("x-turnout-canary", "")] += 1
            return set(drawn) == wanted

        shares = "{" + ", ".join(f"{version} canary {is_canary}" for version, is_canary in sorted(wanted)) + "}"
        try:
            self._until(settled, "")
        except CheckFailedError:
            raise CheckFailedError(f"expected {shares}, got {dict(drawn)}") from None
        counted = ", ".join(
            f"{count} {'canary ' if is_canary == 'true' else ''}{version}"
            for (version, is_canary), count in sorted(drawn.items())
        )
        return f"{counted} of {DRAWS} calls"

    def _until(self, true: Callable[[], bool], failure: str) -> None:
        ends_s = self.clock() + self.patience_s
        while not true():
            if self.clock() >= ends_s:
                raise CheckFailedError(failure)
            self.sleep(self.pause_s)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((text for text in lines if "error:" in text), lines[0] if lines else type(error).__name__)
    return line if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {line}"
