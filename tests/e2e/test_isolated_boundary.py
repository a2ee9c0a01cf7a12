"""`turnout serve --isolated` under attack by one of its versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.hostile_project import write_hostile
from tests.builders.isolated_project import share_packages
from tests.builders.processes import children
from tests.builders.running_server import running_server
from turnout.gateway.functions.isolated.landlock import SIGNALS_ABI, landlock_abi

pytestmark = pytest.mark.skipif(landlock_abi() < SIGNALS_ABI, reason="the kernel has no Landlock 6")

CHANGE_STAGE = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=5)
connection.request("GET", "/restapis")
result = connection.getresponse().status
"""


def test_a_version_cannot_reach_the_server_that_runs_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "secret")
    project = write_hostile(tmp_path)
    manifest = (project / "models.yaml").read_text().replace('"*": newest}', '"*": newest}, auth: api_key')
    (project / "models.yaml").write_text(manifest)
    share_packages(project, tmp_path_factory)
    with running_server(project, "--isolated", "--workers", "1") as server:
        assert "Isolation: each environment has" in server.stderr.read_text()
        key = json.loads((project / ".turnout" / "api_keys.json").read_text())["dev"]
        supervisor = server.process.pid
        own = [supervisor, *children(supervisor)]
        attacks = {
            "keys": f"result = open({str(project / '.turnout/api_keys.json')!r}).read()",
            "services": CHANGE_STAGE.format(port=server.port),
            "manifest": f"open({str(project / 'models.yaml')!r}, 'a')",
            **{f"environment of {pid}": f"result = open('/proc/{pid}/environ', 'rb').read()" for pid in own},
            **{f"signal to {pid}": f"import os; os.kill({pid}, 15)" for pid in own},
        }
        for name, source in attacks.items():
            answer = server.post("/models/hostile/inference", {"inputs": {"x": [source]}}, x_api_key=key)
            assert answer.status == 200, answer
            assert answer.json()["outputs"]["y"] == ["PermissionError"], name
        assert [supervisor, *children(supervisor)] == own
        assert server.request("GET", "/health/live", headers={"x-api-key": key}).status == 200
        assert server.stop() == 0
