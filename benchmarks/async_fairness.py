"""Measures how a backlog of asynchronous requests slows synchronous calls of the same version.

Run: `.venv/bin/python -m benchmarks.async_fairness [ROUNDS]`. One client calls a small model for three seconds,
alternately alone and while 100 asynchronous requests of 300 KB wait for the same version. Prints p50 and p99 of both.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from soak.project import write_project
from soak.server import Server, serving

SECONDS = 3.0
BACKLOG = 100
ROWS = 10_000
PATH = "/models/echo/v1/inference"
SMALL = json.dumps({"inputs": {"x": [[1, 2, 3, 4]]}})
LARGE = json.dumps({"inputs": {"x": [[1.5, 2.5, 3.5, 4.5]] * ROWS}})


def measure(server: Server) -> list[float]:
    """Return the milliseconds of each call, sorted."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    times, end = [], time.monotonic() + SECONDS
    while time.monotonic() < end:
        started = time.perf_counter()
        connection.request("POST", PATH, SMALL, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        times.append(1000 * (time.perf_counter() - started))
    connection.close()
    return sorted(times)


def fill(server: Server) -> int:
    """Send the backlog; return the number of accepted requests."""
    connection, accepted = http.client.HTTPConnection("127.0.0.1", server.port), 0
    headers = {"content-type": "application/json", "prefer": "respond-async"}
    for _ in range(BACKLOG):
        connection.request("POST", PATH, LARGE, headers)
        response = connection.getresponse()
        response.read()
        accepted += response.status == 202
    connection.close()
    return accepted


def percentile(times: list[float], share: float) -> float:
    """Return a percentile of the sorted times."""
    return times[min(len(times) - 1, int(share * len(times)))]


def main() -> None:
    """Measure both cases alternately, and print the medians of the rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "beside a backlog": []}
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder) / "project")
        manifest = project / "models.yaml"
        manifest.write_text(manifest.read_text().replace("  dev:\n", "  dev:\n    async: {}\n"))
        with serving((sys.executable, "-m", "turnout.cli"), project, "--no-access-log", "--preload") as server:
            measure(server)
            for _ in range(rounds):
                for name, pairs in measured.items():
                    flood = threading.Thread(target=fill, args=(server,))
                    if name != "alone":
                        flood.start()
                    times = measure(server)
                    pairs.append((percentile(times, 0.5), percentile(times, 0.99)))
                    if name != "alone":
                        flood.join()
                        time.sleep(SECONDS)  # waits for the rest of the backlog
    for name, pairs in measured.items():
        p50, p99 = (sorted(values)[len(values) // 2] for values in zip(*pairs, strict=True))
        sys.stdout.write(f"{name:17} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms\n")


if __name__ == "__main__":
    main()
