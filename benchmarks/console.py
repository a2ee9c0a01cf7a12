"""Measures the cost of open consoles: requests/s of a tiny model with and without five, and the time of an idle server.

A console here sends the same requests as the page: its files and its state once, then its events for as long as it is
open, and the state again whenever the events name another generation.

A shared machine's speed changes by a third within seconds, so rounds of wrk cannot be compared. Here wrk runs once, and
the consoles are open in every second window of it, in the order without, with, with, without. The server's own counter
from `GET /metrics`, read at both ends of a window, counts the requests. A pair of adjacent windows makes a ratio; the
median of all pairs counts, and its bootstrap interval says how much it is worth. The bars: 97% of the requests, and
under 1% of a core for an idle server with one console. Exits with 1 if one is missed.

    python benchmarks/console.py [--consoles 5] [--workers 1] [--clients 8] [--pairs 80] [--window 2] [--idle 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import DIRECT, PATIENCE_S, Server, serving, write_tiny, wrk_command

MANIFEST = """\
models:
  tiny: {versions: {v1: {artifact: tiny.onnx}, v2: {artifact: tiny.onnx}}}
stages:
  dev: {serve: {tiny: v1}}
  prod: {serve: {tiny: v1}, canary: {serve: {tiny: v2}, percent: 10}}
"""
PATH = "/dev/models/tiny/inference"
DAY_S = 86_400
LEAST_RATIO = 0.97
MOST_IDLE = 0.01
FILES = ("", "static/app.js", "static/lib.js", "static/style.css", "static/vendor/preact.js", "static/vendor/uplot.js")


@dataclass
class Visits:
    """Measurements of the consoles.

    Args:
        events: events that they received.
        states: states that they read.
        ready: set once each has received an event.
    """

    events: int = 0
    states: int = 0
    opened: int = 0
    ready: threading.Event = field(default_factory=threading.Event)


class Console:
    """One tab: its connection, and the cookie of its session."""

    def __init__(self, port: int, token: str, visits: Visits) -> None:
        self._port = port
        self._token = token
        self._visits = visits
        self._cookie = ""
        self._generation = ""

    async def live(self, awaited: int) -> None:
        """Open the page and follow the events until canceled."""
        head, _ = await self._ask(f"/console?token={self._token}", "none")
        match = re.search(r"(?i)set-cookie: ([^;\r]+)", head)
        assert match is not None, head
        self._cookie = match[1]
        for file in FILES:
            await self._ask(f"/console/{file}", "same-origin" if file else "none")
        await self._read_state()
        is_first = True
        while True:
            retry_s = 1.0
            async for line in self._follow():
                if line.startswith("retry:"):
                    retry_s = float(line.partition(":")[2]) / 1000
                if line.startswith("data:"):
                    self._visits.events += 1
                    if is_first:
                        is_first = False
                        self._visits.opened += 1
                        if self._visits.opened == awaited:
                            self._visits.ready.set()
                    await self._obey(line)
            await asyncio.sleep(retry_s)  # the stream has ended, and a browser requests it again

    async def _obey(self, line: str) -> None:
        match = re.search(r'"generation":"([^"]*)"', line)
        if match is not None and match[1] != self._generation:
            self._generation = match[1]
            await self._read_state()

    async def _read_state(self) -> None:
        self._visits.states += 1
        await self._ask("/console/state", "same-origin")

    def _request(self, path: str, site: str, *, close: bool) -> bytes:
        fields = {
            "Host": f"127.0.0.1:{self._port}",
            "Sec-Fetch-Site": site,
            "Cookie": self._cookie,
            "Connection": "close" if close else "keep-alive",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()

    async def _ask(self, path: str, site: str) -> tuple[str, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request(path, site, close=True))
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 20" in head[:14] or b" 303" in head[:14], head
        return head.decode("latin-1"), body

    async def _follow(self) -> AsyncIterator[str]:
        """Yield the lines of one event stream, whether it ends immediately or continues."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request("/console/events", "same-origin", close=False))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            assert " 200 " in head, head
            length = re.search(r"(?i)content-length: (\d+)", head)
            if length is not None:
                for line in (await reader.readexactly(int(length[1]))).decode().splitlines():
                    yield line
                return
            while line := await reader.readline():
                yield line.decode().strip()
        finally:
            writer.close()


@contextlib.contextmanager
def open_consoles(server: Server, folder: Path, count: int) -> Iterator[Visits]:
    """Open this number of consoles in a thread; enter the block after the last one's first event."""
    visits = Visits()
    if not count:
        yield visits
        return
    match = re.search(r"console\?token=(\S+)", (folder / "server.log").read_text())
    assert match is not None
    consoles = [Console(server.port, match[1], visits) for _ in range(count)]
    loop = asyncio.new_event_loop()

    async def live() -> None:
        await asyncio.gather(*(console.live(count) for console in consoles))

    task = loop.create_task(live())

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not visits.ready.wait(0.1):
            assert thread.is_alive(), "a console was refused"
        yield visits
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def processor_s(server: Server) -> float:
    """Return the processor time of the server and all of its processes so far."""
    ticks = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_idle(server: Server, folder: Path, count: int, seconds: float) -> float:
    """Return the part of a core that the server uses with this number of consoles and no request."""
    with open_consoles(server, folder, count):
        time.sleep(1)
        before, started = processor_s(server), time.perf_counter()
        time.sleep(seconds)
        return (processor_s(server) - before) / (time.perf_counter() - started)


@dataclass(frozen=True)
class Window:
    """Measurements of one window: requests per second, and the server's processor time per request."""

    rate: float
    cost_s: float


def count_requests(server: Server) -> int:
    """Return the model's requests so far, over all workers. Reading them does not count."""
    with DIRECT.open(f"http://127.0.0.1:{server.port}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    counters = (line for line in lines if line.startswith("turnout_requests_total{") and 'model="tiny"' in line)
    return round(sum(float(line.rpartition(" ")[2]) for line in counters))


@contextlib.contextmanager
def continuous_load(server: Server, body: Any, clients: int, folder: Path) -> Iterator[None]:
    """Send requests to the model until the block ends."""
    command = wrk_command(server.port, PATH, body, clients=clients, seconds=DAY_S, folder=folder)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
            if process.poll() is not None:
                raise SystemExit("wrk ended before the measurement")
        finally:
            process.kill()


def measure_window(server: Server, seconds: float) -> Window:
    """Return what happens within the next seconds."""
    requests, processor, started = count_requests(server), processor_s(server), time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - started
    spent, answered = processor_s(server) - processor, count_requests(server) - requests
    if not answered:
        raise SystemExit(f"no request was answered within {seconds} s")
    return Window(answered / elapsed, spent / answered)


def measure_pairs(
    server: Server, folder: Path, consoles: int, pairs: int, seconds: float
) -> list[tuple[Window, Window]]:
    """Return pairs of windows without and with consoles, in the order without, with, with, without."""
    measured = []
    for number in range(pairs):
        windows = {}
        for count in (0, consoles) if number % 2 == 0 else (consoles, 0):
            with open_consoles(server, folder, count):
                windows[count] = measure_window(server, seconds)
        measured.append((windows[0], windows[consoles]))
    return measured


def bootstrap_interval(ratios: Sequence[float], resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95% interval of the median: the percentiles of the medians of resamples."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(resamples))
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consoles", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=80, help="of a window without and a window with consoles")
    parser.add_argument("--window", type=float, default=2, help="seconds of a window")
    parser.add_argument("--idle", type=float, default=20, help="seconds of one measurement without requests")
    arguments = parser.parse_args()
    if arguments.consoles < 1 or arguments.pairs < 1:
        parser.error("--consoles and --pairs must be at least 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MANIFEST)
        tiny = write_tiny(folder / "tiny.onnx")
        options = ["--no-access-log", "--workers", str(arguments.workers)]
        with serving(folder, PATH, tiny, options) as server:
            with continuous_load(server, tiny, arguments.clients, folder):
                measure_window(server, arguments.window)
                pairs = measure_pairs(server, folder, arguments.consoles, arguments.pairs, arguments.window)
            idle = {count: measure_idle(server, folder, count, arguments.idle) for count in (0, 1, arguments.consoles)}
    ratios = [beside.rate / alone.rate for alone, beside in pairs]
    ratio, (low, high) = statistics.median(ratios), bootstrap_interval(ratios)
    print(f"{'':14}{'requests/s':>12}{'us of server time each':>26}")
    for title, windows in zip(("no console", f"{arguments.consoles} consoles"), zip(*pairs, strict=True), strict=True):
        rate, cost_s = (statistics.median(getattr(window, field) for window in windows) for field in ("rate", "cost_s"))
        print(f"{title:14}{rate:>12,.0f}{1e6 * cost_s:>26.1f}")
    print(f"ratio of requests/s, median of {len(ratios)} pairs: {ratio:.3f} (at least {LEAST_RATIO})")
    print(f"95% interval of this median: {low:.3f} to {high:.3f}")
    extra = statistics.median((beside.cost_s - alone.cost_s) * beside.rate for alone, beside in pairs)
    print(f"the consoles take {extra:.2%} of a core while requests come")
    for count, share in idle.items():
        print(
            f"idle with {count} consoles: {share:.2%} of a core" + (f" (at most {MOST_IDLE:.0%})" if count == 1 else "")
        )
    print(json.dumps({"ratio": ratio, "interval": [low, high], "idle": idle}))
    sys.exit(ratio < LEAST_RATIO or idle[1] > MOST_IDLE)


if __name__ == "__main__":
    main()
