"""The installed wheel without a checkout: which files it installs, and that its commands work."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.installed_wheel import Installed, install_wheel, make_environment, plain_environment
from tests.builders.markdown import Block, read_blocks, run_in
from tests.builders.running_server import await_port
from tests.builders.waiting import PATIENCE_S
from turnout.scaffold.new_project import create_project

IRIS = json.dumps(
    {"inputs": [{"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
)

EXTRAS = {
    "aws": {"boto3", "pulumi", "pulumi-aws", "uv"},
    "build": {"uv"},
    "jwt": {"pyjwt[crypto]"},
    "otlp": {"opentelemetry-exporter-otlp-proto-http"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Installed:
    return install_wheel(root, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(installed: Installed) -> Path:
    """A project made by the installed command."""
    installed.run("init", "my-models")
    return installed.elsewhere / "my-models"


def test_only_turnout_is_installed_into_site_packages(installed: Installed) -> None:
    names = {entry.name.split("-")[0] for entry in installed.site.iterdir()}
    assert names == {"turnout", "dependencies.pth"}


@pytest.mark.parametrize("name", ["infra", "schemas", "model_lambdas", "router_lambda", "models", "tests"])
def test_no_other_package_of_the_checkout_can_be_imported(installed: Installed, name: str) -> None:
    code = f"import importlib.util, turnout; print(turnout.__file__); print(importlib.util.find_spec({name!r}))"
    done = subprocess.run(
        [installed.python, "-c", code],
        cwd=installed.elsewhere,
        env=installed.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    place, spec = done.stdout.splitlines()
    assert Path(place).is_relative_to(installed.site)
    assert spec == "None"


def test_the_data_files_are_in_the_wheel(installed: Installed, root: Path) -> None:
    package = installed.site / "turnout"
    for folder in ("schemas", "model_lambdas"):
        expected = {path.relative_to(root) for path in (root / folder).rglob("*") if path.suffix in {".json", ".py"}}
        assert expected == {path.relative_to(package) for path in (package / folder).rglob("*") if path.is_file()}
    assert (package / "py.typed").is_file()


def test_the_extras_install_what_their_commands_need(installed: Installed) -> None:
    (metadata,) = installed.site.glob("turnout-*.dist-info/METADATA")
    rows = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.MULTILINE)
    named = {
        extra: {re.split(r"[>;]", entry)[0] for entry in rows if f"extra == '{extra}'" in entry} for extra in EXTRAS
    }
    assert named == EXTRAS
    plain = {re.split(r"[>;]", entry)[0] for entry in rows if "extra ==" not in entry}
    assert "numpy" in plain
    assert not plain & {"boto3", "pulumi", "uv"}


def test_the_page_on_installing_names_the_wheel_and_the_extras(installed: Installed, root: Path) -> None:
    page = (root / "docs" / "installing.md").read_text()
    (wheel,) = (installed.elsewhere.parent / "dist").glob("*.whl")
    assert set(re.findall(r"turnout-[\w.-]+\.whl", page)) == {wheel.name}
    assert set(re.findall(r"`turnout\[(\w+)\]`", page)) == set(EXTRAS)


PAGE = "docs/installing.md"


def commands_of_the_page(page: str) -> list[str]:
    """Return the commands that install something: the page's blocks, and those in its sentences."""
    blocks = [block.text.strip() for block in read_blocks(page) if block.language == "sh"]
    assert all("\n" not in block for block in blocks)
    sentences = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(pip install [^`]*(?:/|\.whl)[^`]*)`", sentences)
    return [*blocks, *(" ".join(command.split()) for command in inline)]


def test_the_page_on_installing_has_commands_of_every_kind(root: Path) -> None:
    commands = commands_of_the_page((root / PAGE).read_text())
    assert len(commands) == 7
    assert sum("[aws]" in command for command in commands) == 2
    assert sum("--find-links" in command for command in commands) == 2


@pytest.mark.parametrize("number", range(7))
def test_command_of_the_page_installs_turnout(number: int, installed: Installed, root: Path, tmp_path: Path) -> None:
    """pip gets neither an index nor dependencies: those of the tests' environment can be imported."""
    command = commands_of_the_page((root / PAGE).read_text())[number]
    made = make_environment(tmp_path / "venv")
    project, dist = tmp_path / "project", installed.elsewhere.parent / "dist"
    create_project(project)
    (wheel,) = dist.iterdir()
    shutil.copy(wheel, project)
    (project / "dist").symlink_to(dist)
    text = command.replace("/path/to/turnout/dist", str(dist)).replace("/path/to/turnout", str(root))
    options = "--quiet --no-index --no-deps --no-build-isolation --ignore-installed"  # of the tests' environment
    program = f'pip() {{ "{sys.executable}" -m pip --python "{made}" "$@" {options}; }}'
    run_in(Block("sh", f"{program}\n{text}", None), project, {})
    turnout = made.with_name("turnout")
    done = subprocess.run([turnout, "--version"], env=plain_environment(), capture_output=True, text=True, check=True)
    assert wheel.name.split("-")[1] in done.stdout


def test_the_program_for_aws_is_in_the_wheel(installed: Installed) -> None:
    code = "import turnout.infra.program as program; print(program.__file__)"
    command = [installed.python, "-W", "ignore", "-c", code]
    process = subprocess.run(
        command, cwd=installed.elsewhere, env=installed.environment, check=True, capture_output=True, text=True
    )
    assert process.stdout.strip() == str(installed.site / "turnout" / "infra" / "program.py")
    assert not (installed.site / "turnout" / "infra" / "__main__.py").exists()


def test_a_new_project_is_valid(installed: Installed, project: Path) -> None:
    assert installed.run("validate", "--manifest", str(project)).endswith("ok: 1 model, 2 versions, 2 stages.\n")
    assert "iris" in installed.run("plan", "--manifest", str(project))
    assert json.loads(installed.run("openapi", "--manifest", str(project)))["openapi"].startswith("3.0")


@pytest.fixture(scope="module")
def port(installed: Installed, project: Path) -> Iterator[int]:
    """Return the port at which the installed command serves the new project."""
    log = installed.elsewhere / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            installed.command("serve", "--manifest", str(project), "--port", "0"),
            cwd=installed.elsewhere,
            env=installed.environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield await_port(process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_new_project_answers_requests(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", "/models/iris/v1/inference", IRIS, {"content-type": "application/json"})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert (response.status, response.headers["x-turnout-version"]) == (200, "v1")
    label = next(output for output in body["outputs"] if output["name"] == "label")
    assert label["data"] == [0]


def test_the_installed_command_invokes_and_adds(installed: Installed, project: Path, port: int) -> None:
    printed = installed.run("invoke", "iris", "v2", "--manifest", str(project), "--url", f"http://127.0.0.1:{port}")
    assert "The response matches example" in printed
    model = project / "models" / "iris" / "v1" / "model.onnx"
    assert "iris v3" in installed.run("add", "iris", "v3", str(model), "--manifest", str(project))
    assert "3 versions" in installed.run("validate", "--manifest", str(project))
