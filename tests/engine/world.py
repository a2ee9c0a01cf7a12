"""Where a test deploys to: an account in moto, the provider that works in it, the engine's home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.stand_in.aws import REGION, Aws
from tests.engine.stand_in.provider import StandIn


@dataclass
class World:
    """An account, the provider that works in it, and stacks that are deployed to it."""

    aws: Aws
    provider: StandIn
    environment: dict[str, str]
    backend: Path
    folder: Path

    def stack(self, program: Callable[[], None], name: str = "test") -> Any:
        """A stack of the engine over a program in this process."""
        from pulumi import automation

        options = automation.LocalWorkspaceOptions(
            work_dir=str(self.folder), env_vars=self.environment, pulumi_home=self.environment["PULUMI_HOME"]
        )
        found = automation.create_or_select_stack(name, project_name="turnout", program=program, opts=options)
        found.set_config("aws:region", automation.ConfigValue(REGION))
        return found
