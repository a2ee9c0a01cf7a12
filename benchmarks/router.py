"""Measures the time that a router adds to a warm local call of a tiny model, for several kinds of routing.

One client with one connection measures the kinds alternately in several rounds; the same version answers all of them.
The bar: weights, stickiness and an unused fallback add less than 1 ms to the p50. Exits with 1 otherwise.

    python benchmarks/router.py [--isolated] [--calls 400] [--rounds 7]
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from serving import serving, write_tiny

MANIFEST = """\
models:
  tiny: {versions: {v1: {artifact: tiny.onnx}}}
  routed:
    versions: {v1: {artifact: tiny.onnx}, v2: {artifact: tiny.onnx}}
    routing: {sticky: {header: x-user-id}, fallback: v2}
  shadowed:
    versions: {v1: {artifact: tiny.onnx}, v2: {artifact: tiny.onnx}}
    routing: {shadow: {version: v2, percent: 100}}
  graph:
    graph: {sequence: [{model: tiny}]}
stages:
  dev: {serve: {"*": newest}, weights: {routed: {v1: 100}, shadowed: {v1: 100}}}
"""
BAR_MS = 1.0
DIRECT = "direct"
WAYS = {
    DIRECT: ("tiny", {}),
    "weights, with a fallback": ("routed", {}),
    "sticky by a header": ("routed", {"x-user-id": "someone"}),
    "shadowed": ("shadowed", {}),
    "a graph of one step": ("graph", {}),
}
WITHIN_BAR = ("weights, with a fallback", "sticky by a header")


def measure(connection: http.client.HTTPConnection, way: str, body: bytes, calls: int) -> list[float]:
    """Return the seconds of each call."""
    model, headers = WAYS[way]
    fields = {"content-type": "application/json", **headers}
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        connection.request("POST", f"/models/{model}/inference", body, fields)
        response = connection.getresponse()
        content = response.read()
        times.append(time.perf_counter() - started)
        if response.status != 200:
            raise RuntimeError(f"{way}: {response.status} {content[:200]!r}")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isolated", action="store_true", help="each function in a process of its own")
    parser.add_argument("--calls", type=int, default=400, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts")
    arguments = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MANIFEST)
        body: Any = write_tiny(folder / "tiny.onnx")
        options = ["--no-access-log", "--workers", "1", *(["--isolated"] if arguments.isolated else [])]
        with serving(folder, "/models/tiny/inference", body, options) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            data = orjson.dumps(body)
            for way in WAYS:
                measure(connection, way, data, 50)
            for _ in range(arguments.rounds):
                for way, measured in rows.items():
                    times = measure(connection, way, data, arguments.calls)
                    measured.append((statistics.median(times) * 1000, statistics.quantiles(times, n=100)[98] * 1000))
            connection.close()
    print("| a warm call | p50 ms | p99 ms | added to the p50, ms |\n|---|---|---|---|")
    added = {}
    for way, measured in rows.items():
        p50, p99 = (statistics.median(column) for column in zip(*measured, strict=True))
        pairs = zip(measured, rows[DIRECT], strict=True)
        added[way] = statistics.median(mine[0] - direct[0] for mine, direct in pairs)
        print(f"| {way} | {p50:.2f} | {p99:.2f} | {added[way]:.2f} |")
    sys.exit(any(added[way] >= BAR_MS for way in WITHIN_BAR))


if __name__ == "__main__":
    main()
