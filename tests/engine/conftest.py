"""The engine, an account in moto, and a project that is deployed to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from moto import mock_aws

from infra.program import deploy
from tests.engine.life import Life
from tests.engine.project import ChangingProject
from tests.engine.stand_in.aws import REGION, Aws, make_provider
from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.server import serving
from tests.engine.world import World

REPOSITORY = Path(__file__).resolve().parents[2]


def find_engine() -> str | None:
    """The engine's folder: the one on the PATH, or what `make engine` built."""
    found = shutil.which("pulumi")
    if found is not None:
        return str(Path(found).parent)
    built = REPOSITORY / ".engine"
    return str(built) if (built / "pulumi").is_file() else None


@pytest.fixture(scope="session")
def engine() -> str:
    """The folder of the `pulumi` command."""
    found = find_engine()
    if found is None:
        pytest.skip("there is no Pulumi engine: neither `pulumi` on the PATH nor what `make engine` builds")
    return found


@pytest.fixture
def world(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A new account and a new home of the engine."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PULUMI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # The Automation API looks for the engine on this process's own path.
    monkeypatch.setenv("PATH", engine, prepend=os.pathsep)
    home, backend, folder = tmp_path / "home", tmp_path / "backend", tmp_path / "work"
    for made in (home, backend, folder):
        made.mkdir()
    client_of.cache_clear()
    aws = Aws()
    provider = make_provider(aws, version("pulumi-aws"))
    with mock_aws(config={"lambda": {"use_docker": False}}), serving(provider, version("pulumi-aws")) as port:
        environment = {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_HOME": str(home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_PROVIDERS": f"aws:{port}",
        }
        yield World(aws, provider, environment, backend, folder)


@pytest.fixture
def life(world: World, tmp_path: Path) -> Life:
    """A project that nothing has been deployed of yet."""
    folder = tmp_path / "project"
    folder.mkdir()
    project = ChangingProject(folder)
    return Life(world, project, world.stack(lambda: deploy(folder, build=project.build)))
