"""`/metrics` of a server with two workers, read by the official parser and scraped by a real Prometheus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import parser

from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: models/echo.onnx}
      v2: {artifact: models/echo.onnx}
stages:
  dev: {serve: {echo: v1}, canary: {percent: 50, serve: {echo: v2}}}
  metrics-of-ours: {serve: {echo: v1}}
"""

CONFIGURATION = """
global: {{scrape_interval: 200ms}}
scrape_configs:
  - job_name: turnout
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

REQUESTS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("scraped")
    (project / "models").mkdir()
    write_identity(project / "models" / "echo.onnx")
    (project / "models.yaml").write_text(MANIFEST)
    with running_server(project, "--workers", "2", "--no-access-log") as server:
        for _ in range(REQUESTS):
            # One connection each, so that both workers have some.
            assert server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]}).status == 200
        assert server.post("/dev/models/echo/inference", b"{").status == 400
        yield server


def scrape(server: RunningServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = server.request("GET", "/metrics")
    assert answer.status == 200
    families = parser.text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_request_is_counted_once_across_all_workers(server: RunningServer) -> None:
    samples = scrape(server)
    shares = {
        dict(labels)["share"]: value
        for (name, labels), value in samples.items()
        if name == "turnout_requests_total" and ("code_class", "2xx") in labels and ("stage", "dev") in labels
    }
    assert set(shares) == {"baseline", "canary"}
    assert sum(shares.values()) == REQUESTS
    errors = [value for (name, _), value in samples.items() if name == "turnout_errors_total"]
    assert sum(errors) == 1
    assert samples["turnout_canary_percent", frozenset({("stage", "dev")})] == 50


def test_requests_that_the_http_server_rejects_are_counted(server: RunningServer) -> None:
    def errors() -> Counter[str]:
        by_code: Counter[str] = Counter()
        for (name, labels), value in scrape(server).items():
            if name == "turnout_errors_total":
                by_code[dict(labels)["code"]] += int(value)
        return by_code

    before = errors()
    for head, status in (
        (b"POST /dev/models/echo/inference HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
    ):
        with closing(server.connect()) as connection:
            connection.sendall(head)
            assert connection.recv(100).split()[1] == status
    assert errors() == before + Counter({"413": 1, "431": 1, "400": 1})


def test_gauges_of_workers_appear(server: RunningServer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        samples = scrape(server)
        sessions = sum(value for (name, _), value in samples.items() if name == "turnout_open_sessions")
        memory = [value for (name, _), value in samples.items() if name == "turnout_worker_resident_memory_bytes"]
        if sessions >= 2 and len(memory) == 2 and all(value > 10_000_000 for value in memory):
            break
        assert time.monotonic() < deadline, (sessions, memory)
        time.sleep(0.1)


def test_other_machines_and_browsers_are_rejected(server: RunningServer) -> None:
    assert server.request("GET", "/metrics", headers={"x-forwarded-for": "192.0.2.1"}).status == 403
    assert server.request("GET", "/metrics", headers={"origin": "http://example.org"}).status == 403
    assert server.request("POST", "/metrics").status == 404


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed: apt install prometheus")
def test_a_real_prometheus_scrapes_the_metrics(server: RunningServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # Prometheus does not report a port that it chose itself
    (tmp_path / "prometheus.yml").write_text(CONFIGURATION.format(port=server.port))
    command = (
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    try:
        result = ask_prometheus(port, 'sum(turnout_requests_total{stage="dev",code_class="2xx"})')
        assert [float(entry["value"][1]) for entry in result] == [REQUESTS]
        (up,) = ask_prometheus(port, 'up{job="turnout"}')
        assert up["value"][1] == "1"
        quantile = "histogram_quantile(0.5, sum by (le) (turnout_request_duration_seconds_bucket))"
        assert 0 < float(ask_prometheus(port, quantile)[0]["value"][1]) < 30
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def ask_prometheus(port: int, query: str) -> list[dict[str, list[str]]]:
    """Return the result of an instant query, once it is not empty."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                body: list[dict[str, list[str]]] = json.load(answer)["data"]["result"]
        except OSError:
            body = []
        if body:
            return body
        assert time.monotonic() < deadline, f"Prometheus has no result for {query}"
        time.sleep(0.1)
