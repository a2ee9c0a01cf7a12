"""Measures how a flood of asynchronous requests slows synchronous calls of the same version.

Run: `.venv/bin/python -m benchmarks.async_fairness [ROUNDS]`. One client calls a small model for three seconds,
alternately alone and while two clients send asynchronous requests of 300 KB as fast as they are accepted. Prints p50
and p99 of both, and their ratios, which depend less on the machine.
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
CLIENTS = 2
ROWS = 10_000
PATH = "/models/echo/v1/inference"
SMALL = json.dumps({"inputs": {"x": [[1, 2, 3, 4]]}})
LARGE = json.dumps({"inputs": {"x": [[1.5, 2.5, 3.5, 4.5]] * ROWS}})
ENDED = {"done", "failed", "expired", "canceled"}


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


class Flood:
    """Clients that send asynchronous requests until they are stopped."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._locations: list[str] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port)
        headers = {"content-type": "application/json", "prefer": "respond-async"}
        while not self._stop.is_set():
            connection.request("POST", PATH, LARGE, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 202, response.status
            self._locations.append(response.headers["location"])
        connection.close()

    def stop(self) -> int:
        """Stop sending, wait until all requests have ended, and return their number."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port)
        for location in self._locations:
            state = ""
            while state not in ENDED:
                connection.request("GET", location)
                state = json.loads(connection.getresponse().read())["state"]
                time.sleep(0.0 if state in ENDED else 0.05)
            assert state == "done", state
        connection.close()
        return len(self._locations)


def percentile(times: list[float], share: float) -> float:
    """Return a percentile of the sorted times."""
    return times[min(len(times) - 1, int(share * len(times)))]


def median(values: list[float]) -> float:
    """Return the middle one of the values."""
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Measure both cases alternately, and print the medians of the rounds and of their ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "beside a flood": []}
    sent = 0
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder) / "project")
        manifest = project / "models.yaml"
        manifest.write_text(manifest.read_text().replace("  dev:\n", "  dev:\n    async: {}\n"))
        with serving((sys.executable, "-m", "turnout.cli"), project, "--no-access-log", "--preload") as server:
            measure(server)
            for _ in range(rounds):
                for name, pairs in measured.items():
                    flood = Flood(server) if name != "alone" else None
                    times = measure(server)
                    pairs.append((percentile(times, 0.5), percentile(times, 0.99)))
                    sent += 0 if flood is None else flood.stop()
    for name, pairs in measured.items():
        p50, p99 = (median(list(values)) for values in zip(*pairs, strict=True))
        sys.stdout.write(f"{name:14}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms\n")
    alone, beside = measured.values()
    p50, p99 = (median([other[at] / one[at] for one, other in zip(alone, beside, strict=True)]) for at in (0, 1))
    sys.stdout.write(f"{'ratio':14}  p50 {p50:6.2f}     p99 {p99:6.2f}\n")
    sys.stdout.write(f"{sent:,} asynchronous requests, all answered, in {rounds} rounds of {SECONDS:g} s\n")


if __name__ == "__main__":
    main()
