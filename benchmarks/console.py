"""Measures the cost of open consoles: requests/s of a tiny model with and without five, and the time of an idle server.

A console here sends the same requests as the page: its files and its state once, then its events for as long as it is
open, and the state again whenever the events name another generation. Rounds without and with consoles alternate, and
the median of their ratios counts. On a machine that does other work, too, the part of a core says more. The bars: 97%
of the requests, and under 1% of a core for an idle server with one console. Exits with 1 if one is missed.

    python benchmarks/console.py [--consoles 5] [--workers 1] [--clients 8] [--seconds 4] [--rounds 9] [--idle 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serving import Server, serving, write_tiny, wrk

MANIFEST = """\
models:
  tiny: {versions: {v1: {artifact: tiny.onnx}, v2: {artifact: tiny.onnx}}}
stages:
  dev: {serve: {tiny: v1}}
  prod: {serve: {tiny: v1}, canary: {serve: {tiny: v2}, percent: 10}}
"""
PATH = "/dev/models/tiny/inference"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consoles", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=4, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=9, help="of which the median counts")
    parser.add_argument("--idle", type=float, default=20, help="seconds of one measurement without requests")
    arguments = parser.parse_args()
    alone, beside, costs = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MANIFEST)
        tiny = write_tiny(folder / "tiny.onnx")
        options = ["--no-access-log", "--workers", str(arguments.workers)]
        with serving(folder, PATH, tiny, options) as server:

            def measure(count: int) -> tuple[float, float]:
                """Return requests/s, and the server's processor time per request in microseconds."""
                with open_consoles(server, folder, count):
                    before = processor_s(server)
                    rate = wrk(server.port, PATH, tiny, clients=arguments.clients, seconds=seconds, folder=folder).rate
                    return rate, 1e6 * (processor_s(server) - before) / (rate * seconds)

            seconds = arguments.seconds
            measure(0)
            for number in range(arguments.rounds):
                runs = {}
                for count in (0, arguments.consoles) if number % 2 == 0 else (arguments.consoles, 0):
                    runs[count] = measure(count)
                alone.append(runs[0][0])
                beside.append(runs[arguments.consoles][0])
                costs.append((runs[0][1], runs[arguments.consoles][1]))
            idle = {count: measure_idle(server, folder, count, arguments.idle) for count in (0, 1, arguments.consoles)}
    ratio = statistics.median(with_them / without for without, with_them in zip(alone, beside, strict=True))
    without_us, with_us = (statistics.median(values) for values in zip(*costs, strict=True))
    consoles = f"{arguments.consoles} consoles"
    print(f"{'':14}{'requests/s':>12}{'us of server time each':>26}")
    print(f"{'no console':14}{statistics.median(alone):>12,.0f}{without_us:>26.1f}")
    print(f"{consoles:14}{statistics.median(beside):>12,.0f}{with_us:>26.1f}")
    print(f"ratio of requests/s, median of {arguments.rounds} rounds: {ratio:.3f} (at least {LEAST_RATIO})")
    extra = statistics.median((with_us - without_us) * rate for rate in beside) / 1e6
    print(f"the consoles take {extra:.2%} of a core while requests come")
    for count, share in idle.items():
        print(
            f"idle with {count} consoles: {share:.2%} of a core" + (f" (at most {MOST_IDLE:.0%})" if count == 1 else "")
        )
    print(json.dumps({"ratio": ratio, "idle": idle}))
    sys.exit(ratio < LEAST_RATIO or idle[1] > MOST_IDLE)


if __name__ == "__main__":
    main()
