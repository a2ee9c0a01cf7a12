"""The engine, an account in moto, and a project that is deployed to it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from infra.program import deploy
from tests.engine.account import MotoAccount
from tests.engine.life import Life
from tests.engine.project import ChangingProject
from tests.engine.stand_in.aws import REGION
from tests.engine.stand_in.clients import forget_clients
from tests.engine.world import World, find_engine, opened_world


@pytest.fixture(scope="session")
def engine() -> str:
    """Return the folder of the `pulumi` command."""
    result = find_engine()
    if result is None:
        pytest.skip("there is no Pulumi engine: neither `pulumi` on the PATH nor what `make engine` builds")
    return result


@pytest.fixture
def world(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A new account and a new home folder of the engine."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PULUMI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # The Automation API looks for the engine on this process's PATH.
    monkeypatch.setenv("PATH", engine, prepend=os.pathsep)
    with opened_world(tmp_path) as opened:
        yield opened
    # Close the loops that the Automation API leaves behind here, not in some later test.
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """Collect what threads still held when the last test ended within its teardown."""
    yield
    gc.collect()


@pytest.fixture
def moto_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account in moto without an engine, for calls of single resources."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", REGION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    forget_clients()
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield
    forget_clients()


@pytest.fixture
def life(world: World, tmp_path: Path) -> Life:
    """A project that has not been deployed yet."""
    folder = tmp_path / "project"
    folder.mkdir()
    project = ChangingProject(folder)
    return Life(
        world,
        project,
        world.stack(lambda: deploy(folder, build=project.build, account=MotoAccount(stages=world.aws.stages))),
    )
