"""Workflows, devcontainer and templates name only existing make targets and folders."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conversion.conftest import LARGE

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md", "docs/*.md")

ECOSYSTEMS = {"github-actions": ".github/workflows/*.yml", "gomod": "go.mod", "devcontainers": ".devcontainer/*.json"}
"""Files that Dependabot looks for in a directory, by ecosystem."""


def load(path: Path) -> Any:
    """Load a YAML file with all values as text, so that `on` is a key and `3.10` is not a number."""
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)


def targets() -> set[str]:
    """The targets that the Makefile has rules for."""
    rules = re.findall(r"^([\w./-]+(?: [\w./-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target for rule in rules for target in rule.split()} - {".PHONY"}


def steps(workflow: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, job in load(workflow)["jobs"].items():
        yield from ((name, step) for step in job.get("steps", ()))


def commands() -> Iterator[tuple[str, str]]:
    """Every command that a workflow or the devcontainer runs, with the file that names it."""
    for path in WORKFLOWS:
        for _, step in steps(path):
            yield from ((path.name, line) for line in step.get("run", "").splitlines())
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    yield from (("devcontainer.json", text) for key, text in container.items() if key.endswith("Command"))


def check_command(command: str) -> str:
    """Return why a command does not run the Makefile's targets; empty if it does."""
    words = shlex.split(command)
    if words[:1] != ["make"]:
        return "no make command"
    wanted = [word for word in words[1:] if "=" not in word]
    if missing := [word for word in wanted if word not in targets()]:
        return f"no such targets: {missing}"
    return "" if wanted else "names no target"


def test_workflows_exist() -> None:
    assert [path.name for path in WORKFLOWS] == ["dependencies.yml", "release.yml", "test.yml", "torch.yml"]


@pytest.mark.parametrize(("source", "command"), list(commands()))
def test_command_is_a_target_of_the_makefile(source: str, command: str) -> None:
    assert check_command(command) == ""
    # A dry run also finds a prerequisite without a rule. GitHub's variables are empty here.
    done = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command", ["make docs", "make tests", "pip install .", "make", "make PYTHON=python3", "make -j test"]
)
def test_command_that_is_not_a_target_is_reported(command: str) -> None:
    assert check_command(command)


@pytest.mark.parametrize("path", [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))], ids=str)
def test_page_names_only_targets_of_the_makefile(path: Path) -> None:
    named = re.findall(r"`make ((?:[^`\n]|\n)+)`", path.read_text())
    assert [text for text in named if check_command(f"make {text}".replace("[", "").replace("]", ""))] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_step_runs_a_command_or_uses_an_action_of_a_fixed_release(workflow: Path) -> None:
    for _, step in steps(workflow):
        assert ("run" in step) != ("uses" in step), step
        assert "uses" not in step or re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", step["uses"]), step


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_job_with_write_permission_runs_no_command(workflow: Path) -> None:
    content = load(workflow)
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        if "write" in job.get("permissions", {}).values():
            assert not any("run" in step for step in job["steps"]), name


def test_tests_run_on_every_supported_python_with_the_engine() -> None:
    job = load(ROOT / ".github/workflows/test.yml")["jobs"]["test"]
    minors = [int(version.removeprefix("3.")) for version in job["strategy"]["matrix"]["python"]]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f">=3.{minors[0]}" == oldest
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert len(minors) >= 4
    run = [step["run"] for step in job["steps"] if "run" in step]
    assert run == ["make engine", "make browser", "make types-js", "make test"]


def test_converter_of_gigabytes_is_tested_weekly_and_after_its_changes() -> None:
    """No other workflow sets the variable that installs its packages, so its tests are skipped there."""
    content = load(ROOT / ".github/workflows/torch.yml")
    assert set(content["on"]) == {"schedule", "workflow_dispatch", "push", "pull_request"}
    for event in ("push", "pull_request"):
        for pattern in content["on"][event]["paths"]:
            assert list(ROOT.glob(pattern)), pattern
        assert "turnout/conversion/**" in content["on"][event]["paths"]
    assert [step["run"] for step in content["jobs"]["torch"]["steps"] if "run" in step] == ["make test-torch"]
    rule = subprocess.run(["make", "-n", "test-torch"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = (line for line in rule.splitlines() if " pytest " in line)
    assert shlex.split(command)[0] == f"{LARGE['torch']}=1"


def test_release_publishes_the_tested_build_without_a_password() -> None:
    content = load(ROOT / ".github/workflows/release.yml")
    assert content["on"] == {"push": {"tags": ["v*"]}}
    publish = content["jobs"]["publish"]
    assert set(publish["needs"]) == set(content["jobs"]) - {"publish"}
    assert publish["permissions"] == {"id-token": "write"}
    assert not any(step["uses"].startswith("actions/checkout") for step in publish["steps"])
    assert "secrets." not in json.dumps(content)
    stored = {
        step["with"]["path"] for _, step in steps(ROOT / ".github/workflows/release.yml") if "artifact" in str(step)
    }
    assert stored == {"dist/"}


def test_dependabot_checks_existing_folders() -> None:
    for update in load(ROOT / ".github/dependabot.yml")["updates"]:
        folder = ROOT / update["directory"].lstrip("/")
        assert list(folder.glob(ECOSYSTEMS[update["package-ecosystem"]])), update


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_form_asks_only_what_github_can_show(name: str) -> None:
    form = load(ROOT / f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    assert {field["type"] for field in form["body"]} <= {"markdown", "textarea", "input", "dropdown"}
    identifiers = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers) > 0
    assert all(field["attributes"]["label"] for field in form["body"] if field["type"] != "markdown")
