"""A stack that a test takes through its life: `up` after each change of its project, and what it did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from tests.builders.iam import ACCOUNT, refused_by
from tests.engine.project import ChangingProject
from tests.engine.stand_in.aws import REGION
from tests.engine.stand_in.clients import RECORDER
from tests.engine.world import World
from turnout.gateway.rules.stages import StageSettings
from turnout.plan.deployer.policy import DeployerScope, build_deployer_policies
from turnout.plan.planner import make_plan
from turnout.project.project import load_project

Done = list[tuple[str, str, str, tuple[str, ...]]]
"""Verb, type, name and changed inputs of each operation."""

LEAVES_LOOPS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The Automation API leaves an event loop behind for each run of a program."""


@dataclass
class Life:
    """The stack, its project and its account."""

    world: World
    project: ChangingProject
    stack: Any

    def up(self, *, refresh: bool = False) -> Done:
        """Write models.yaml, deploy, and return the operations; with `refresh`, read the account's state first."""
        self.project.write()
        self.world.provider.journal.take()
        self.world.aws.sent.clear()
        self.world.aws.stages.patches.clear()
        self.result = self.stack.up(on_output=lambda _: None, refresh=refresh)
        return self.world.provider.journal.take()

    def fail(self) -> str:
        """Deploy something invalid; return the engine's message."""
        from pulumi.automation import CommandError

        with pytest.raises(CommandError) as raised:
            self.up()
        return str(raised.value)

    def check_deployer_policy(self) -> list[dict[str, Any]]:
        """Check that the policy of the current project and configuration allows every call of the engine so far; return
        it.

        The project must still need all that it needed before.
        """
        project = load_project(self.project.folder)
        plan = make_plan(project.manifest, project.artifacts, stack="test")
        given = {name.removeprefix("turnout:"): value.value for name, value in self.stack.get_all_config().items()}
        settings = {name: json.loads(text) if text.startswith("[") else text for name, text in given.items()}
        scope = DeployerScope("aws", REGION, ACCOUNT, settings, project.manifest.domain)
        assert len(RECORDER.calls) > 50
        policies = build_deployer_policies(plan, scope)
        refused = refused_by(policies, RECORDER.calls)
        assert refused == [], refused
        return policies

    @property
    def stage(self) -> StageSettings:
        """Return the only stage, as AWS has it."""
        (stage,) = self.world.aws.stages.kept.values()
        return stage

    def stage_named(self, name: str) -> StageSettings:
        """Return one of several stages."""
        (stage,) = (entry for (_, result), entry in self.world.aws.stages.kept.items() if result == name)
        return stage

    def alias(self, function: str, alias: str) -> str:
        """Return the version that an alias names."""
        result: str = boto3.client("lambda").get_alias(FunctionName=function, Name=alias)["FunctionVersion"]
        return result


def touched(rows: Done) -> set[tuple[str, str, str]]:
    """Return verb, short type and name of each operation."""
    return {(verb, kind.rpartition(":")[2], name) for verb, kind, name, _ in rows}


def functions() -> set[str]:
    """Return the names of all functions in the account."""
    return {function["FunctionName"] for function in boto3.client("lambda").list_functions()["Functions"]}
