"""The wheel with only the packages pinned in requirements.lock: it serves, and names the extra that a command lacks."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.installed_wheel import build_wheel, plain_environment
from tests.builders.waiting import PATIENCE_S
from turnout import __version__
from turnout.packaging.layer import find_uv

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Plain:
    """A separate environment with a project created in it.

    Args:
        python: the environment's interpreter.
        project: the project created by `turnout init`.
    """

    python: Path
    project: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command in the project; return its output, stdout and stderr together."""
        done = subprocess.run(
            [str(self.python.with_name("turnout")), *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables without a uv on the PATH."""
        return {**plain_environment(), "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Plain:
    folder = tmp_path_factory.mktemp("plain")
    wheel = build_wheel(root, folder / "dist")
    python = folder / "venv" / "bin" / "python"
    pip = ["pip", "install", "--quiet", "--python", str(python)]
    for arguments in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "venv")],
        [*pip, "--require-hashes", "-r", str(root / "requirements.lock")],
        [*pip, "--no-deps", str(wheel)],
        ["pip", "check", "--quiet", "--python", str(python)],
    ):
        subprocess.run([find_uv(), *arguments], cwd=folder, env=plain_environment(), check=True, timeout=PATIENCE_S)
    plain = Plain(python, folder)
    plain.run("init", "project")
    return Plain(python, folder / "project")


@pytest.fixture(scope="module")
def url(plain: Plain) -> Iterator[str]:
    """The URL at which the project is served."""
    errors = plain.project / "stderr"
    command = [str(plain.python.with_name("turnout")), "serve", "--port", "0", "--workers", "1"]
    with errors.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=plain.project, env=plain.environment, stdout=subprocess.DEVNULL, stderr=stream
        )
        try:
            yield await_url(process, errors)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.parametrize("name", ["boto3", "botocore", "uv", "pulumi", "pytest"])
def test_packages_not_needed_for_serving_are_not_installed(plain: Plain, name: str) -> None:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([str(plain.python), "-c", code], check=False).returncode == 0


def test_a_project_is_validated_and_planned(plain: Plain) -> None:
    plain.run("validate")
    plain.run("plan")
    plain.run("openapi")


def test_the_requirements_of_a_project_install_from_the_wheel(plain: Plain) -> None:
    dist = plain.project.parent / "dist"
    command = [find_uv(), "pip", "compile", "--quiet", "--find-links", str(dist), "requirements.txt"]
    done = subprocess.run(
        command, cwd=plain.project, env=plain_environment(), check=True, capture_output=True, text=True
    )
    names = set(re.findall(r"^([a-z0-9-]+)==", done.stdout, re.MULTILINE))
    assert f"turnout=={__version__}\n" in done.stdout
    assert {"turnout", "boto3", "pulumi", "pulumi-aws", "uv", "onnxruntime"} <= names


def test_a_local_canary_works_without_boto3(plain: Plain, url: str) -> None:
    assert "The response matches example" in plain.run("invoke", "iris", "v1", "--url", url)
    now = ("--now", "--endpoint-url", url)
    plain.run("canary", "start", "dev", "--model", "iris", "--to", "v1", "--percent", "10", *now)
    status = plain.run("canary", "status", "dev", "--endpoint-url", url)
    assert "boto3" not in status
    plain.run("canary", "set", "dev", "--percent", "20", *now)
    plain.run("canary", "promote", "dev", *now)
    plain.run("canary", "start", "dev", "--model", "iris", "--to", "v2", *now)
    plain.run("canary", "promote", "dev", *now)
    plain.run("canary", "start", "dev", "--model", "iris", "--to", "v1", *now)
    plain.run("canary", "rollback", "dev", *now)


@pytest.mark.parametrize("command", [("start", "dev", "--model", "iris", "--to", "v1", "--now"), ("status", "dev")])
def test_a_command_for_a_stage_on_aws_names_the_missing_extra_and_changes_nothing(
    plain: Plain, command: tuple[str, ...]
) -> None:
    before = (plain.project / "models.yaml").read_text()
    said = plain.run("canary", *command, "--stack", "prod", code=1)
    assert "needs boto3, which is not installed" in said
    assert "turnout[aws]" in said
    assert (plain.project / "models.yaml").read_text() == before


@pytest.mark.parametrize("command", [("build",), ("build", "--here"), ("serve", "--isolated", "--port", "0")])
def test_building_packages_names_the_missing_extra(plain: Plain, command: tuple[str, ...]) -> None:
    said = plain.run(*command, code=1)
    assert "needs uv, which is not installed" in said
    assert "turnout[build]" in said


def await_url(process: subprocess.Popen[bytes], errors: Path) -> str:
    """Return the address that the server prints once it listens."""
    while process.poll() is None:
        if match := re.search(r"http://127\.0\.0\.1:\d+", errors.read_text()):
            return match[0]
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the server did not start:\n{errors.read_text()}")
