"""Where a test deploys to: an account in moto, the provider that works in it, the engine's home."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moto import mock_aws

from tests.engine.stand_in.aws import REGION, Aws, make_provider
from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.provider import Resource, StandIn
from tests.engine.stand_in.server import serving

REPOSITORY = Path(__file__).resolve().parents[2]


def find_engine() -> str | None:
    """The engine's folder: the one on the PATH, or what `make engine` built."""
    found = shutil.which("pulumi")
    if found is not None:
        return str(Path(found).parent)
    built = REPOSITORY / ".engine"
    return str(built) if (built / "pulumi").is_file() else None


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


@contextmanager
def opened_world(scratch: Path, others: Mapping[str, Resource] = {}) -> Iterator[World]:
    """A new account and a new home of the engine, until the end of the block.

    Args:
        scratch: an empty folder. The environment holds credentials, a region, and the engine on its PATH.
        others: resources that Turnout has none of.
    """
    home, backend, folder = scratch / "home", scratch / "backend", scratch / "work"
    for made in (home, backend, folder):
        made.mkdir()
    client_of.cache_clear()
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
        yield World(aws, provider, environment, backend, folder)
