"""`turnout serve --services`: with a token, off, and on an address other than loopback."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.builders.graphs import write_identity
from tests.builders.running_server import TURNOUT, RunningServer, running_server

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
      v2: {artifact: echo.onnx}
stages:
  keyed: {serve: {echo: v1}, auth: api_key}
"""
PATHS = ("/restapis", "/turnout/metrics?stage=keyed", "/turnout/samples?stage=keyed", "/turnout/replay")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


def turnout(project: Path, *arguments: str) -> str:
    done = subprocess.run([*TURNOUT, *arguments], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def api_names(server: RunningServer, access_key: str) -> list[str]:
    client = boto3.client(
        "apigateway",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="eu-west-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="any",
    )
    try:
        return [item["name"] for item in client.get_rest_apis()["items"]]
    finally:
        client.close()


@pytest.mark.parametrize("arguments", [("--services", "token"), ("--host", "0.0.0.0")])
def test_a_token_gives_boto3_and_our_own_commands_access_to_the_services(
    project: Path, arguments: tuple[str, ...]
) -> None:
    with running_server(project, "--workers", "1", *arguments) as server:
        assert [server.request("GET", path).status for path in PATHS] == [403] * len(PATHS)
        path = project / ".turnout" / "services.json"
        assert path.stat().st_mode & 0o777 == 0o600
        token = turnout(project, "keys", "--services").strip()
        assert token not in server.stderr.read_text()
        bearer = {"authorization": f"Bearer {token}", "x-forwarded-for": "10.0.0.7"}
        assert [server.request("GET", path, headers=bearer).status for path in PATHS] == [200] * len(PATHS)
        assert len(api_names(server, token)) == 1
        with pytest.raises(ClientError, match="AccessDenied"):
            api_names(server, "local")
        url = f"http://127.0.0.1:{server.port}"
        start = ("canary", "start", "keyed", "--model", "echo", "--to", "v2", "--percent", "10", "--now")
        turnout(project, *start, "--endpoint-url", url)
        assert "10" in turnout(project, "canary", "status", "keyed", "--endpoint-url", url)
        assert server.stop() == 0
    assert "token" not in path.read_text()


def test_disabled_services_do_not_exist(project: Path) -> None:
    with running_server(project, "--workers", "1", "--services", "off") as server:
        for path in PATHS:
            answer = server.request("GET", path)
            assert (answer.status, answer.json()) == (403, {"message": "Missing Authentication Token"})


def test_keys_are_printed_by_a_command_and_not_at_startup(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        text = server.stderr.read_text()
        key = turnout(project, "keys", "keyed").strip()
        assert key == server.api_key("keyed")
        assert key not in text
        curl = re.search(r"\n  (curl .*)\n", text)
        assert curl is not None
        assert "$(turnout keys keyed" in curl[1]
        assert (
            server.post("/keyed/models/echo/inference", {"inputs": {"x": [[1, 2, 3, 4]]}}, x_api_key=key).status == 200
        )
