"""The workflows of `turnout init --ci github`: their shell steps are run as a runner would run them.

Actions (`uses:`) are left out, `gh`, `pulumi` and `aws` are scripts that record their calls, and the remote is a bare
repository.
"""

from __future__ import annotations

import fnmatch
import json
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

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git") or "git"
NOTING = '#!/bin/sh\nprintf "%s %s\\n" "$(basename "$0")" "$*" >> "$CALLS"\n'
COPYING = 'for target; do :; done\ncp "$IN_S3" "$target"\n'
"""What `aws s3 cp` does beside that: its last argument gets the object."""


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

    def run_job(self, workflow: str, job: str, *, only: tuple[str, ...] = ("",), **variables: str) -> tuple[int, str]:
        """Run the steps of a job that have a script; return the exit code of the first that fails, and the output of
        all.

        Args:
            workflow: its file's name without `turnout-`.
            job: the job.
            only: beginnings of the names of the steps.
            variables: values of the environment that expressions would have.
        """
        tree = read_workflow(self.project, workflow)
        code, printed = 0, ""
        for step in tree["jobs"][job]["steps"]:
            script = step.get("run", "")
            is_always = "always()" in str(step.get("if", ""))
            if not script or script.startswith("pip install") or (code and not is_always):
                continue
            if not step.get("name", "").startswith(only):
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


def read_workflow(project: Path, name: str) -> dict[str, Any]:
    """Return a workflow that `turnout init` wrote."""
    tree: dict[str, Any] = yaml.safe_load((project / ".github/workflows" / f"turnout-{name}.yml").read_text())
    return tree


def _literal(value: Any) -> str:
    """Return the value of a variable that a test does not set: expressions are empty."""
    return re.sub(r"\$\{\{.*?\}\}", "", str(value))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    project, remote, tools = tmp_path / "project", tmp_path / "remote.git", tmp_path / "tools"
    create_project(project, ci="github")
    tools.mkdir()
    (tmp_path / "temp").mkdir()
    for name, more in (("gh", ""), ("pulumi", ""), ("aws", COPYING)):
        (tools / name).write_text(NOTING + more)
        (tools / name).chmod(0o755 | stat.S_IXUSR)
    calls = tmp_path / "calls"
    calls.touch()
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {
        **os.environ,
        "PATH": path,
        "CALLS": str(calls),
        "RUNNER_TEMP": str(tmp_path / "temp"),
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
    assert "captured requests" not in summary

    # A change that breaks callers is commented on and fails the job. A version that replaces another one answers the
    # captured requests of the repository.
    edit(runner.project, "auth: api_key", "auth: iam")
    edit(runner.project, "serve: {iris: v1}", "serve: {iris: v2}")
    edit(runner.project, "canary:", "slo: {error_percent: 5}  # canary:")
    write_capture(runner.project / "captured.jsonl")
    code, printed = runner.run_job("pull-request", "check", **base, REQUESTS="captured.jsonl")
    assert code == 1
    assert "Breaking for callers" in printed
    assert "iris: v2 instead of v1 in prod**: 0 of 3 answers to captured requests agree (0%)" in printed
    assert runner.calls.read_text().count("gh pr comment 7") == 2


def write_capture(path: Path) -> None:
    """Write a capture of three requests to iris that v1 and v2 answer differently."""
    body = {"inputs": {"measurements": [[6.3, 2.8, 5.1, 1.5]]}}
    fields = {
        "time": 1.0, "stage": "prod", "model": "iris", "version": "v1", "canary": False,
        "content_type": "application/json", "body": body, "status": 200, "duration_ms": 1.0,
    }  # fmt: skip
    path.write_text(f"{json.dumps({'turnout_capture': fields})}\n" * 3)


def test_captured_requests_are_fetched_from_s3_and_differing_answers_fail_the_job(runner: Runner) -> None:
    edit(runner.project, "serve: {iris: v1}", "serve: {iris: v2}")
    edit(runner.project, "canary:", "slo: {error_percent: 5}  # canary:")
    in_s3 = runner.project.parent / "object"
    write_capture(in_s3)
    runner.environment["IN_S3"] = str(in_s3)
    compared = {"BASE": "origin/main", "FAIL_ON": "breaking,disagreement", "REQUESTS": "s3://captures/iris.jsonl"}
    names = ("Find captured requests", "Compare", "Refuse")

    # Pull requests of forks have no credentials: they are compared without captured requests.
    code, printed = runner.run_job("pull-request", "check", only=names, **compared)
    assert (code, "Without credentials, nothing is fetched from s3://captures/iris.jsonl." in printed) == (0, True)
    assert "aws " not in runner.calls.read_text()

    code, printed = runner.run_job("pull-request", "check", only=names, **compared, AWS_ACCESS_KEY_ID="key")
    assert (code, "Answers that differ" in printed) == (1, True), printed
    fetched = f"{runner.environment['RUNNER_TEMP']}/requests.jsonl"
    assert runner.calls.read_text() == f"aws s3 cp --only-show-errors s3://captures/iris.jsonl {fetched}\n"

    # A capture that cannot be read fails the job at once, not as a change.
    in_s3.write_text("nothing\n")
    code, printed = runner.run_job("pull-request", "check", only=names, **compared, AWS_ACCESS_KEY_ID="key")
    assert (code, "contains no captured requests" in printed) == (2, True), printed
    compared["REQUESTS"] = "missing.jsonl"
    code, printed = runner.run_job("pull-request", "check", only=names, **compared)
    assert (code, "missing.jsonl" in printed) == (1, True), printed


def test_only_the_step_that_fetches_has_credentials(runner: Runner) -> None:
    steps = read_workflow(runner.project, "pull-request")["jobs"]["check"]["steps"]
    (credentials,) = [step for step in steps if "configure-aws-credentials" in step.get("uses", "")]
    assert credentials["with"]["output-env-credentials"] is False
    assert "head.repo.full_name == github.repository" in credentials["if"]
    given = [step["name"] for step in steps if "AWS_SECRET_ACCESS_KEY" in step.get("env", {})]
    assert given == ["Find captured requests"]


WITH_CREDENTIALS = {("pull-request", "check"), ("pull-request", "preview"), ("deploy", "deploy"), ("canary", "look")}


def test_jobs_get_credentials_by_oidc_alone(runner: Runner) -> None:
    """The action asks GitHub for a token and STS for a role's credentials, which no test can do here. What it needs is
    checked: permission to ask, the role, the region, and no stored key. Its default audience is the one of STS.
    """
    jobs = set()
    for workflow in ("pull-request", "deploy", "canary"):
        tree = read_workflow(runner.project, workflow)
        assert "secrets.AWS" not in (runner.project / f".github/workflows/turnout-{workflow}.yml").read_text()
        for job, content in tree["jobs"].items():
            used = [step for step in content["steps"] if "configure-aws-credentials@" in step.get("uses", "")]
            if not used:
                continue
            (step,) = used
            assert content.get("permissions", tree["permissions"])["id-token"] == "write"
            given = step["with"]
            assert given["role-to-assume"] == "${{ vars.AWS_DEPLOY_ROLE }}"
            assert given["aws-region"] == "${{ vars.AWS_REGION }}"
            assert given.keys() <= {"role-to-assume", "aws-region", "output-credentials", "output-env-credentials"}
            # The releases before run on a Node.js that GitHub removed.
            assert int(step["uses"].rpartition("@v")[2]) >= 4
            # Nothing that calls AWS runs before it.
            before = content["steps"][: content["steps"].index(step)]
            assert not [entry for entry in before if re.search(r"\b(pulumi|aws|canary) ", entry.get("run", ""))]
            jobs.add((workflow, job))
    assert jobs == WITH_CREDENTIALS


@pytest.mark.parametrize(
    ("subject", "audience", "trusted"),
    [
        ("repo:my-org/my-models:ref:refs/heads/main", "sts.amazonaws.com", True),
        ("repo:my-org/my-models:pull_request", "sts.amazonaws.com", True),
        ("repo:my-org/my-models-fork:ref:refs/heads/main", "sts.amazonaws.com", False),
        ("repo:other/my-models:pull_request", "sts.amazonaws.com", False),
        ("repo:my-org/my-models:ref:refs/heads/main", "https://github.com/my-org", False),
    ],
)
def test_role_of_the_page_trusts_the_tokens_of_this_repository_alone(
    subject: str, audience: str, trusted: bool
) -> None:
    page = (ROOT / "docs/pull-requests.md").read_text()
    (text,) = re.findall(r"^ *```json\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    (statement,) = json.loads(text)["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    issuer = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
    claims = {f"{issuer}:sub": subject, f"{issuer}:aud": audience}
    tests = [(key, wanted) for condition in statement["Condition"].values() for key, wanted in condition.items()]
    assert {key for key, _ in tests} == claims.keys()
    assert all(fnmatch.fnmatchcase(claims[key], wanted) for key, wanted in tests) is trusted


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
        assert "The run of prod continues at 10%." in printed
        assert runner.git("log", "-1", "--format=%s", "origin/main").startswith("Canary of prod: ")
        assert runner.git("show", "--stat", "--format=", "origin/main").split()[0] in {"models.yaml", "rollouts.jsonl"}

        # Another runner has only the repository; nothing has changed, so it commits nothing.
        commits = runner.git("rev-list", "--count", "origin/main")
        subprocess.run([GIT, "clone", "-q", str(runner.remote), str(tmp_path / "other")], check=True)
        shutil.copytree(runner.project / ".turnout", tmp_path / "other" / ".turnout")  # the server's token
        other = Runner(tmp_path / "other", runner.remote, runner.calls, runner.environment)
        code, printed = other.run_job("canary", "look", **target)
        assert code == 0, printed
        assert "The run of prod continues at 10%." in printed
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
