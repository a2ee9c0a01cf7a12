"""Where a test deploys to: an account in moto, the provider that works in it, the engine's home folder."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moto import mock_aws

from tests.builders.waiting import wait_until
from tests.engine.stand_in.aws import REGION, Aws, make_provider
from tests.engine.stand_in.clients import RECORDER, forget_clients
from tests.engine.stand_in.provider import Resource, StandIn
from tests.engine.stand_in.server import serving

REPOSITORY = Path(__file__).resolve().parents[2]


def find_engine() -> str | None:
    """Return the engine's folder: the one on the PATH, or what `make engine` built."""
    result = shutil.which("pulumi")
    if result is not None:
        return str(Path(result).parent)
    built = REPOSITORY / ".engine"
    return str(built) if (built / "pulumi").is_file() else None


@dataclass
class World:
    """An account, the provider that works in it, and the stacks that are deployed to it."""

    aws: Aws
    provider: StandIn
    environment: dict[str, str]
    backend: Path
    folder: Path
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)

    def stack(self, program: Callable[[], None], name: str = "test") -> Any:
        """Return a stack of the engine with a program in this process."""
        from pulumi import automation

        options = automation.LocalWorkspaceOptions(
            work_dir=str(self.folder), env_vars=self.environment, pulumi_home=self.environment["PULUMI_HOME"]
        )

        def noted() -> None:
            self.loops.append(asyncio.get_running_loop())
            program()

        result = automation.create_or_select_stack(name, project_name="turnout", program=noted, opts=options)
        result.set_config("aws:region", automation.ConfigValue(REGION))
        ask_outputs, ask_info = result.outputs, result.info
        result.outputs = lambda: Later(ask_outputs)
        result.info = lambda *arguments: Later(lambda: ask_info(*arguments))
        return result


class Later:
    """A result that the engine is asked for when a test reads it.

    After each `up` the Automation API starts the engine three more times, for outputs and a summary, which few tests
    read.
    """

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = cache(ask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ask(), name)

    def __getitem__(self, name: str) -> Any:
        return self._ask()[name]


def close_loops(loops: Sequence[asyncio.AbstractEventLoop]) -> None:
    """Close what the Automation API leaves open if the engine ends before the program does."""
    for loop in loops:
        wait_until(lambda one=loop: not one.is_running(), "the end of the program's loop")
        if loop.is_closed():
            continue
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


@contextmanager
def opened_world(scratch: Path, others: Mapping[str, Resource] = {}) -> Iterator[World]:
    """A new account and a new home folder of the engine, until the end of the block.

    Args:
        scratch: an empty folder. The environment contains credentials, a region, and the engine on its PATH.
        others: resources that Turnout does not use.
    """
    home, backend, folder = scratch / "home", scratch / "backend", scratch / "work"
    for made in (home, backend, folder):
        made.mkdir()
    forget_clients()
    RECORDER.calls.clear()
    aws = Aws()
    provider = make_provider(aws, version("pulumi-aws"), others)
    with mock_aws(config={"lambda": {"use_docker": False}}), serving(provider, version("pulumi-aws")) as port:
        environment = {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_HOME": str(home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_PROVIDERS": f"aws:{port}",
        }
        world = World(aws, provider, environment, backend, folder)
        try:
            yield world
        finally:
            close_loops(world.loops)
