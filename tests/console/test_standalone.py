"""`turnout console`: a real process next to a server, and next to API Gateway's protocol as boto3 speaks it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S, wait_until

MANIFEST = """\
platform: turnout
models:
  echo: {versions: {v1: {artifact: models/echo.onnx}, v2: {artifact: models/echo.onnx}}}
stages:
  dev: {serve: {echo: v1}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("standalone")
    (project / "models").mkdir()
    write_identity(project / "models" / "echo.onnx")
    (project / "models.yaml").write_text(MANIFEST)
    with running_server(project, "--workers", "1", "--no-access-log", "--no-console") as server:
        yield server


class Page:
    """The page of a console."""

    def __init__(self, address: str) -> None:
        self.host = address.split("/")[2]
        answer, _ = self.send("GET", "/console" + address.partition("/console")[2], cookie="")
        self.cookie = (answer.getheader("set-cookie") or "").partition(";")[0]

    def send(self, method: str, path: str, body: Any = None, cookie: str | None = None) -> tuple[Any, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        headers = {"sec-fetch-site": "same-origin", "cookie": self.cookie if cookie is None else cookie}
        headers |= {"content-type": "application/json", "origin": f"http://{self.host}"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def get(self, path: str) -> Any:
        return json.loads(self.send("GET", f"/console{path}")[1])


@contextmanager
def console(project: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Page]:
    output = project / "console.txt"
    command = (sys.executable, "-m", "turnout.cli", "console", "--manifest", str(project), *arguments)
    with output.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env={**os.environ, **(environment or {})})
    try:
        address = re.compile(r"Console: (\S+)")
        wait_until(
            lambda: address.search(output.read_text()) is not None or process.poll() is not None,
            "the console's address",
        )
        match = address.search(output.read_text())
        assert match is not None, output.read_text()
        yield Page(match[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_canary_of_a_server_is_started_and_rolled_back(server: RunningServer) -> None:
    with console(server.project, "--url", f"http://127.0.0.1:{server.port}") as page:
        state = page.get("/state")
        assert (state["is_local"], state["is_served_here"], state["may_write"]) == (True, False, True)
        wish = {"action": "start", "stage": "dev", "serve": {"echo": "v2"}, "percent": 100}
        answer, body = page.send("POST", "/console/act", {**wish, "generation": state["generation"]})
        assert answer.status == 200, body
        sent = server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
        assert sent.headers["x-turnout-version"] == "v2"
        wish = {"action": "rollback", "stage": "dev", "generation": page.get("/state")["generation"]}
        assert page.send("POST", "/console/act", wish)[0].status == 200
        sent = server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
        assert sent.headers["x-turnout-version"] == "v1"


def test_a_stack_is_accessed_through_boto3(server: RunningServer) -> None:
    """The server implements the protocols of API Gateway and Lambda; CloudWatch is missing, and the page says so."""
    url = f"http://127.0.0.1:{server.port}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    with console(server.project, "--stack", "local", environment=environment) as page:
        state = page.get("/state")
        assert (state["place"], state["is_local"]) == ("stack local", False)
        wish = {"action": "start", "stage": "dev", "serve": {"echo": "v2"}, "percent": 50}
        shown = json.loads(page.send("POST", "/console/preview", {**wish, "generation": state["generation"]})[1])
        assert shown["command"] == "turnout canary start dev --model echo --to v2 --percent 50 --now --stack local"
        assert {"op": "replace", "path": "/canarySettings/percentTraffic", "value": "50.0"} in shown["operations"][0]


def test_read_only_changes_nothing(server: RunningServer) -> None:
    before = (server.project / "models.yaml").read_bytes()
    with console(server.project, "--url", f"http://127.0.0.1:{server.port}", "--read-only") as page:
        state = page.get("/state")
        assert not any(action["allowed"] for action in state["stages"][0]["actions"])
        wish = {"action": "start", "stage": "dev", "serve": {"echo": "v2"}, "generation": state["generation"]}
        assert page.send("POST", "/console/act", wish)[0].status == 403
    assert (server.project / "models.yaml").read_bytes() == before


def test_the_plan_matches_the_command(server: RunningServer) -> None:
    command = (sys.executable, "-m", "turnout.cli", "plan", "--json", "--manifest", str(server.project))
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S).stdout)
    with console(server.project, "--url", f"http://127.0.0.1:{server.port}") as page:
        shown = page.get("/plan")
    assert [function["name"] for function in shown["functions"]] == [
        function["name"] for function in printed["functions"]
    ]
    assert shown["costs"] == printed["costs"]
    routes = [(route["method"], route["path"]) for api in printed["apis"] for route in api["routes"]]
    assert [(route["method"], route["path"]) for route in shown["operations"]] == routes
    assert shown["routes"] == len(routes)
    assert len(shown["quotas"]) == len(printed["quotas"])
    assert shown["quotas"][0]["share"] == max(quota["share"] for quota in shown["quotas"])


def test_a_place_is_required(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "turnout.cli", "console", "--manifest", str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if name != "TURNOUT_URL"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert ended.returncode == 2
    assert "--stack NAME" in ended.stderr


def test_a_server_without_a_console_serves_none(server: RunningServer) -> None:
    assert b"Console:" not in server.stderr.read_bytes()
    assert server.request("GET", "/console/").status == 403
    led = server.request("GET", "/", headers={"accept": "text/html"})
    assert (led.status, led.headers["location"]) == (302, "/docs")
