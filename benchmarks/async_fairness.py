"""Measures how a flood of asynchronous requests slows synchronous calls of the same version.

Run: `.venv/bin/python -m benchmarks.async_fairness [ROUNDS]`. One client calls a small model for three seconds, in turn
alone, while two other processes send asynchronous requests of 300 KB as fast as they are accepted, and while the same
processes send them to a sink, which shows what the clients alone cost on this machine. Prints p50 and p99 of each, and
the ratios to the first, which depend less on the machine.
"""

from __future__ import annotations

import http.client
import http.server
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from soak.project import write_project
from soak.server import Server, serving

SECONDS = 3.0
CLIENTS = 2
ROWS = 10_000
PATH = "/models/echo/v1/inference"
SMALL = json.dumps({"inputs": {"x": [[1, 2, 3, 4]]}})
LARGE = json.dumps({"inputs": {"x": [[1.5, 2.5, 3.5, 4.5]] * ROWS}})
_CONTEXT = multiprocessing.get_context("spawn")
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
    """Clients, in processes of their own, that send asynchronous requests until they are stopped.

    Args:
        port: where they send them.
    """

    def __init__(self, port: int) -> None:
        self._stop = _CONTEXT.Event()
        self._sent: multiprocessing.Queue[list[str]] = _CONTEXT.Queue()
        arguments = (port, self._stop, self._sent)
        self._processes = [_CONTEXT.Process(target=send, args=arguments, daemon=True) for _ in range(CLIENTS)]
        for process in self._processes:
            process.start()

    def stop(self) -> list[str]:
        """Stop sending, and return the addresses of the requests."""
        self._stop.set()
        locations = [location for _ in self._processes for location in self._sent.get(timeout=60)]
        for process in self._processes:
            process.join()
        return locations


def send(port: int, stop: Any, sent: Any) -> None:
    """Send requests as fast as they are accepted."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json", "prefer": "respond-async"}
    locations = []
    while not stop.is_set():
        connection.request("POST", PATH, LARGE, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 202, response.status
        locations.append(response.headers["location"])
    connection.close()
    sent.put(locations)


def wait_for_all(port: int, locations: list[str]) -> None:
    """Wait until all requests have ended well."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for location in locations:
        state = ""
        while state not in ENDED:
            connection.request("GET", location)
            state = json.loads(connection.getresponse().read())["state"]
            time.sleep(0.0 if state in ENDED else 0.05)
        assert state == "done", state
    connection.close()


class Sink(http.server.BaseHTTPRequestHandler):
    """Accepts requests and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(202)
        self.send_header("location", "/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def serve_sink(ready: Any) -> None:
    """Serve the sink, in a process of its own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        ready.put(server.server_address[1])
        server.serve_forever()


def percentile(times: list[float], share: float) -> float:
    """Return a percentile of the sorted times."""
    return times[min(len(times) - 1, int(share * len(times)))]


def median(values: list[float]) -> float:
    """Return the middle one of the values."""
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Measure the cases alternately, and print the medians of the rounds and of their ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "beside a sink": [], "beside a flood": []}
    sent = 0
    ready: multiprocessing.Queue[int] = _CONTEXT.Queue()
    sink = _CONTEXT.Process(target=serve_sink, args=(ready,), daemon=True)
    sink.start()
    sink_port = ready.get(timeout=60)
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder) / "project")
        manifest = project / "models.yaml"
        manifest.write_text(manifest.read_text().replace("  dev:\n", "  dev:\n    async: {}\n"))
        with serving((sys.executable, "-m", "turnout.cli"), project, "--no-access-log", "--preload") as server:
            measure(server)
            for _ in range(rounds):
                for name, pairs in measured.items():
                    port = server.port if name == "beside a flood" else sink_port
                    flood = None if name == "alone" else Flood(port)
                    times = measure(server)
                    pairs.append((percentile(times, 0.5), percentile(times, 0.99)))
                    locations = [] if flood is None else flood.stop()
                    if name == "beside a flood":
                        wait_for_all(server.port, locations)
                        sent += len(locations)
    sink.terminate()
    for name, pairs in measured.items():
        p50, p99 = (median(list(values)) for values in zip(*pairs, strict=True))
        alone = measured["alone"]
        r50, r99 = (median([other[at] / one[at] for one, other in zip(alone, pairs, strict=True)]) for at in (0, 1))
        sys.stdout.write(f"{name:14}  p50 {p50:6.2f} ms {r50:5.2f} x   p99 {p99:6.2f} ms {r99:5.2f} x\n")
    sys.stdout.write(f"{sent:,} asynchronous requests, all answered, in {rounds} rounds of {SECONDS:g} s\n")


if __name__ == "__main__":
    main()
