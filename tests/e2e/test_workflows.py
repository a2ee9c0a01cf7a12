"""The workflows of `turnout init --ci github`: their shell steps are run as a runner would run them.

Actions (`uses:`) are left out, `gh` and `pulumi` are scripts that record their calls, and the remote is a bare
repository.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.running_server import running_server
from turnout.scaffold.new_project import create_project

GIT = shutil.which("git") or "git"
NOTING = '#!/bin/sh\nprintf "%s %s\\n" "$(basename "$0")" "$*" >> "$CALLS"\n'


@dataclass
class Runner:
    """A clone of a repository with a new project, and its environment."""

    project: Path
    remote: Path
    calls: Path
    environment: dict[str, str]

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Ana", "-c", "user.email=ana@example.com")
        done = subprocess.run(
            [GIT, *identity, *arguments], cwd=self.project, capture_output=True, text=True, check=True
        )
        return done.stdout

    def run_job(self, workflow: str, job: str, **variables: str) -> tuple[int, str]:
        """Run the steps of a job that have a script; return the exit code of the first that fails, and the output of
        all.
        """
        text = (self.project / ".github/workflows" / f"turnout-{workflow}.yml").read_text()
        tree: dict[str, Any] = yaml.safe_load(text)
        code, printed = 0, ""
        for step in tree["jobs"][job]["steps"]:
            script = step.get("run", "")
            is_always = "always()" in str(step.get("if", ""))
            if not script or script.startswith("pip install") or (code and not is_always):
                continue
            declared = {**tree.get("env", {}), **step.get("env", {})}
            filled = {name: variables.get(name, _literal(value)) for name, value in declared.items()}
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=self.project,
                env={**self.environment, **filled},
                capture_output=True,
                text=True,
                check=False,
            )
            code = code or done.returncode
            printed += done.stdout + done.stderr
        return code, printed


def _literal(value: Any) -> str:
    """Return the value of a variable that a test does not set: expressions are empty."""
    return re.sub(r"\$\{\{.*?\}\}", "", str(value))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    project, remote, tools = tmp_path / "project", tmp_path / "remote.git", tmp_path / "tools"
    create_project(project, ci="github")
    tools.mkdir()
    for name in ("gh", "pulumi"):
        (tools / name).write_text(NOTING)
        (tools / name).chmod(0o755 | stat.S_IXUSR)
    calls = tmp_path / "calls"
    calls.touch()
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {
        **os.environ,
        "PATH": path,
        "CALLS": str(calls),
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    made = Runner(project, remote, calls, environment)
    subprocess.run([GIT, "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    made.git("init", "-q", "-b", "main")
    made.git("remote", "add", "origin", str(remote))
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "first")
    made.git("push", "-q", "-u", "origin", "main")
    return made


def edit(project: Path, before: str, after: str) -> None:
    path = project / "models.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_pull_request_is_checked_compared_and_commented(runner: Runner) -> None:
    base = {"BASE": "origin/main", "NUMBER": "7"}
    edit(runner.project, "rate: 100", "rate: 50")
    code, printed = runner.run_job("pull-request", "check", **base)
    assert code == 0, printed
    assert f"gh pr comment 7 --edit-last --create-if-none --body-file {runner.environment['RUNNER_TEMP']}/plan.md" in (
        runner.calls.read_text()
    )
    summary = Path(runner.environment["GITHUB_STEP_SUMMARY"]).read_text()
    assert "the throttle changes from 100/s" in summary

    # A change that breaks callers is commented on and fails the job.
    edit(runner.project, "auth: api_key", "auth: iam")
    code, printed = runner.run_job("pull-request", "check", **base)
    assert code == 1
    assert "Breaking for callers" in printed
    assert runner.calls.read_text().count("gh pr comment 7") == 2


def test_preview_and_deployment_call_pulumi(runner: Runner) -> None:
    assert runner.run_job("pull-request", "preview", PULUMI_BACKEND="s3://state")[0] == 0
    code, printed = runner.run_job("deploy", "deploy", PULUMI_BACKEND="s3://state")
    assert code == 0, printed
    assert runner.calls.read_text().splitlines() == [
        "pulumi login s3://state",
        "pulumi preview --stack prod --diff",
        "pulumi login s3://state",
        "pulumi up --stack prod --yes --refresh",
    ]


def test_canary_job_checks_once_commits_and_continues_on_another_runner(runner: Runner, tmp_path: Path) -> None:
    (runner.project / ".gitignore").write_text(".turnout/\n")
    with running_server(runner.project, "--no-access-log", cwd=runner.project) as server:
        target = {"STAGE": "prod", "TARGET": f"--url http://127.0.0.1:{server.port}"}
        code, printed = runner.run_job("canary", "look", **target)
        assert code == 0, printed
        assert "The run of prod goes on at 10%." in printed
        assert runner.git("log", "-1", "--format=%s", "origin/main").startswith("Canary of prod: ")
        assert runner.git("show", "--stat", "--format=", "origin/main").split()[0] in {"models.yaml", "rollouts.jsonl"}

        # Another runner has only the repository; nothing has changed, so it commits nothing.
        commits = runner.git("rev-list", "--count", "origin/main")
        subprocess.run([GIT, "clone", "-q", str(runner.remote), str(tmp_path / "other")], check=True)
        shutil.copytree(runner.project / ".turnout", tmp_path / "other" / ".turnout")  # the server's token
        other = Runner(tmp_path / "other", runner.remote, runner.calls, runner.environment)
        code, printed = other.run_job("canary", "look", **target)
        assert code == 0, printed
        assert "The run of prod goes on at 10%." in printed
        assert other.git("rev-list", "--count", "origin/main") == commits

        # Once the canary has ended, a check does nothing.
        edit(other.project, "canary:", "slo: {error_percent: 5}  # canary:")
        code, printed = other.run_job("canary", "look", **target)
        assert (code, "No canary on prod." in printed) == (0, True), printed


def test_workflows_are_written_for_github_only_and_never_overwrite(tmp_path: Path) -> None:
    create_project(tmp_path / "plain")
    assert not (tmp_path / "plain" / ".github").exists()
    made = create_project(tmp_path / "plain", beside_others=True, ci="github")
    assert {path.name for path in made.written} == {
        "turnout-pull-request.yml", "turnout-deploy.yml", "turnout-canary.yml"
    }  # fmt: skip
