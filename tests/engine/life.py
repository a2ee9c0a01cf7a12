"""A stack that a test leads through its life: `up` after each change of its project, and what was done by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from tests.engine.project import ChangingProject
from tests.engine.world import World
from turnout.gateway.rules.stages import StageSettings

Done = list[tuple[str, str, str, tuple[str, ...]]]
"""Verb, type, name and the inputs that changed, of each act."""

LEAVES_LOOPS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The Automation API leaves an event loop behind for each run of a program."""


@dataclass
class Life:
    """The stack, its project and its account."""

    world: World
    project: ChangingProject
    stack: Any

    def up(self, *, refresh: bool = False) -> Done:
        """Write models.yaml, deploy, and tell what was done; `refresh` looks at the account first."""
        self.project.write()
        self.world.provider.journal.take()
        self.world.aws.sent.clear()
        self.world.aws.stages.patches.clear()
        self.result = self.stack.up(on_output=lambda _: None, refresh=refresh)
        return self.world.provider.journal.take()

    def fail(self) -> str:
        """Deploy what cannot be: what the engine tells."""
        from pulumi.automation import CommandError

        with pytest.raises(CommandError) as raised:
            self.up()
        return str(raised.value)

    @property
    def stage(self) -> StageSettings:
        """The one stage, as AWS has it."""
        (stage,) = self.world.aws.stages.kept.values()
        return stage

    def stage_named(self, name: str) -> StageSettings:
        """One of several."""
        (stage,) = (entry for (_, result), entry in self.world.aws.stages.kept.items() if result == name)
        return stage

    def alias(self, function: str, alias: str) -> str:
        """The version that an alias names."""
        result: str = boto3.client("lambda").get_alias(FunctionName=function, Name=alias)["FunctionVersion"]
        return result


def touched(rows: Done) -> set[tuple[str, str, str]]:
    """Verb, short type and name of each act."""
    return {(verb, kind.rpartition(":")[2], name) for verb, kind, name, _ in rows}


def functions() -> set[str]:
    """The names of all that the account has."""
    return {function["FunctionName"] for function in boto3.client("lambda").list_functions()["Functions"]}
