"""`/docs` of a running server: every example runs and gets the answer that the page shows; and who may read the
pages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.html_pages import Page, read_page
from tests.builders.running_server import TURNOUT, Answer, RunningServer, running_server

ROOT = Path(__file__).resolve().parents[2]

TAB = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "none"}

MANIFEST = """
platform: turnout
models:
  echo: {versions: {v1: {artifact: echo.onnx}}}
stages:
  keyed: {serve: {echo: v1}, auth: api_key}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The sample project, whose stage `prod` requires a key."""
    project = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copy(ROOT / "models.yaml", project)
    with running_server(project, "--workers", "1", "--no-access-log") as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("keyed")
    write_identity(project / "echo.onnx")
    (project / "models.yaml").write_text(MANIFEST)
    return project


def page_of(server: RunningServer, path: str) -> Page:
    answer = server.request("GET", path)
    assert answer.status == 200
    return read_page(answer.body)


def run(command: list[str], server: RunningServer) -> str:
    environment = {**os.environ, "TURNOUT_API_KEY": server.api_key("prod"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_answer(printed: str, expected: str) -> None:
    """Compare two bodies: everything but floats must be equal."""
    assert comparable(json.loads(printed)) == comparable(json.loads(expected))


def comparable(value: object) -> object:
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, list):
        return [comparable(entry) for entry in value]
    return {name: comparable(entry) for name, entry in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("path", ["/docs/prod/iris/v1", "/docs/dev/credit", "/docs/dev/spam"])
def test_every_example_gets_the_answer_that_the_page_shows(server: RunningServer, path: str) -> None:
    page = page_of(server, path)
    answers = page.of("answer")
    assert answers
    assert len(page.of("curl")) == len(page.of("python")) == len(page.of("javascript")) == len(answers)
    for curl, expected in zip(page.of("curl"), answers, strict=True):
        check_answer(run(["sh", "-c", curl], server), expected)
    check_answer(run([sys.executable, "-c", page.of("python")[0]], server), answers[0])
    if node := shutil.which("node"):
        script = page.of("javascript")[-1]
        check_answer(run([node, "--input-type=module", "-e", script], server), answers[-1])


def root_of(server: RunningServer, **headers: str) -> Answer:
    return server.request("GET", "/", None, {name.replace("_", "-"): value for name, value in headers.items()})


def test_root_redirects_a_browser_and_no_other_client(server: RunningServer) -> None:
    led = server.request("GET", "/", None, TAB)
    assert (led.status, led.headers["location"]) == (302, "/console/")
    assert '</docs>; rel="service-doc"' in led.headers["link"]
    for headers in ({}, {"accept": "*/*"}, TAB | {"host": "evil.example"}, TAB | {"sec-fetch-dest": "iframe"}):
        answer = server.request("GET", "/", None, headers)
        assert (answer.status, answer.json()) == (403, {"message": "Missing Authentication Token"})
    assert server.request("GET", "/dev/", None, TAB).status == 403
    assert server.request("POST", "/", b"", TAB).status == 403


def test_dns_rebinding_gives_no_access(server: RunningServer) -> None:
    answer = server.request("GET", "/docs/dev/iris", None, TAB | {"host": "evil.example"})
    assert answer.status == 403
    assert b"iris" not in answer.body


def test_a_server_for_other_machines_hides_stages_with_keys(keyed: Path) -> None:
    with running_server(keyed, "--workers", "1", "--host", "0.0.0.0") as server:
        assert server.request("GET", "/docs", None, TAB).status == 403
        assert root_of(server, accept="text/html").status == 403, "there is nothing to lead to"
        token = subprocess.run([*TURNOUT, "keys", "--services"], cwd=keyed, capture_output=True, text=True, check=True)
        assert (
            server.request("GET", "/docs/keyed/echo", None, {"authorization": f"Bearer {token.stdout.strip()}"}).status
            == 200
        )


def test_without_a_console_a_browser_is_redirected_to_the_documentation(keyed: Path) -> None:
    with running_server(keyed, "--workers", "1", "--no-console") as server:
        led = server.request("GET", "/", None, TAB)
        assert (led.status, led.headers["location"]) == (302, "/docs")
        page = page_of(server, "/docs/keyed/echo")
        assert not [link for link in page.links if "console" in link]


def test_services_that_are_off_have_no_documentation(keyed: Path) -> None:
    with running_server(keyed, "--workers", "1", "--services", "off") as server:
        for path in ("/docs", "/"):
            answer = server.request("GET", path, None, TAB)
            assert (answer.status, answer.json()) == (403, {"message": "Missing Authentication Token"})
