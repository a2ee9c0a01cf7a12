"""Measures the cost of storing requests durably: in SQLite, or in one file each.

Run: `.venv/bin/python -m benchmarks.request_queue [FOLDER]`; FOLDER is on the disk to be measured. Each request of 2 KB
is accepted, started and completed. With files, each step writes a new state next to the old one and renames it, as
several processes require. One request waits at a time, or 32 together.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.builders.queued_requests import new_request
from turnout.gateway.requests import store
from turnout.gateway.requests.database import connect, transaction
from turnout.gateway.requests.files import Content, sync_folder
from turnout.gateway.requests.rows import NewRequest, StoredAnswer
from turnout.protocol.requests import states

REQUESTS = 256
BODY = secrets.token_bytes(2048)


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one method: milliseconds per request, and for listing the waiting ones among 10,000."""

    name: str
    together: int
    ms_a_request: float
    ms_to_find_next: float


def make_request(number: int) -> NewRequest:
    """Return a request of the queue."""
    return new_request(f"r{number}", body=Content(BODY, "", len(BODY)))


def measure_sqlite(folder: Path, together: int) -> Cost:
    """Measure transactions that contain all requests waiting together."""
    connection = connect(folder)
    answer = StoredAnswer(200, (), Content(BODY, "", len(BODY)))
    started = time.perf_counter()
    for first in range(0, REQUESTS, together):
        with transaction(connection):
            for number in range(first, first + together):
                store.accept(connection, make_request(number), 1 << 40)
        with transaction(connection):
            claims = store.claim(connection, 1, 1.0, most=together, most_running=together, max_stored_bytes={})
        with transaction(connection):
            for claim in claims:
                store.finish(connection, claim, lambda progress: states.succeed(progress, 2.0), answer, 2.0)
    cost = (time.perf_counter() - started) / REQUESTS
    with transaction(connection):
        for number in range(10_000):
            store.accept(connection, make_request(100_000 + number), 1 << 40)
    find_s = _median(lambda: store.has_work(connection, 1.0))
    connection.close()
    return Cost("SQLite, WAL", together, 1000 * cost, 1000 * find_s)


def measure_files(folder: Path, together: int) -> Cost:
    """Measure a folder for each state, a synchronized file per request, and folders synchronized once per group."""
    places = [folder / name for name in ("queued", "running", "done")]
    for place in places:
        place.mkdir()
    started = time.perf_counter()
    for first in range(0, REQUESTS, together):
        names = [f"r{number}" for number in range(first, first + together)]
        for name in names:
            _write(places[0] / name, BODY)
        sync_folder(places[0])
        for before, after in ((places[0], places[1]), (places[1], places[2])):
            for name in names:
                if after is places[2]:
                    _write(after / f"{name}.answer", BODY)
                (before / name).rename(after / name)
            sync_folder(before)
            sync_folder(after)
    cost = (time.perf_counter() - started) / REQUESTS
    for number in range(10_000):
        (places[0] / f"w{number}").touch()
    find_s = _median(lambda: min(entry.name for entry in os.scandir(places[0])))
    return Cost("files", together, 1000 * cost, 1000 * find_s)


def _write(path: Path, data: bytes) -> None:
    made = path.with_name(f".{path.name}")
    with made.open("wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())
    made.rename(path)


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times)[4]


def main() -> None:
    """Measure both, and print a table."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    sys.stdout.write("| | waiting together | ms a request | ms to find the next of 10,000 |\n|---|---|---|---|\n")
    for measure in (measure_sqlite, measure_files):
        for together in (1, 32):
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                cost = measure(Path(folder), together)
            cells = (cost.name, str(together), f"{cost.ms_a_request:.2f}", f"{cost.ms_to_find_next:.2f}")
            sys.stdout.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
