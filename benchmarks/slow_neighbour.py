"""The effect of a model that takes two seconds on the times of a tiny model next to it.

Measures the tiny model alternately alone and while some clients call the slow one without a pause. The bar: the tiny
model's p99 at most doubles. Exits with 1 otherwise.

    python benchmarks/slow_neighbour.py [--workers 1] [--callers 2] [--clients 8] [--seconds 4] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
from serving import post, serving, write_slow, write_tiny, wrk

MANIFEST = """\
models:
  tiny: {versions: {v1: {artifact: tiny.onnx}}}
  slow: {versions: {v1: {artifact: slow.onnx}}}
stages:
  dev: {serve: {"*": newest}}
"""
SLOW_S = 2.0


def make_project(folder: Path) -> tuple[Any, Any]:
    """Return the two models' requests; the slow model is sized to take `SLOW_S` on this machine."""
    (folder / "models.yaml").write_text(MANIFEST)
    tiny = write_tiny(folder / "tiny.onnx")
    trial = 8
    write_slow(folder / "slow.onnx", trial)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "slow.onnx"), options)
    feed = {"x": [[1.0]]}
    session.run(None, feed)
    started = time.thread_time()
    session.run(None, feed)
    each_s = (time.thread_time() - started) / trial
    return tiny, write_slow(folder / "slow.onnx", max(1, round(SLOW_S / each_s)))


@contextlib.contextmanager
def calling(port: int, body: Any, callers: int) -> Iterator[list[float]]:
    """Call the slow model from several threads until the block ends; yield the times in seconds."""
    times: list[float] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            started = time.perf_counter()
            post(port, "/models/slow/v1/inference", body)
            times.append(time.perf_counter() - started)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        yield times
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--callers", type=int, default=1, help="clients of the slow model")
    parser.add_argument("--clients", type=int, default=1, help="clients of the tiny one")
    parser.add_argument("--seconds", type=int, default=4, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny, slow = make_project(folder)
        path = "/models/tiny/v1/inference"
        options = ["--no-access-log", "--workers", str(arguments.workers)]
        alone, beside, times = [], [], []
        with serving(folder, path, tiny, options) as server:
            post(server.port, "/models/slow/v1/inference", slow)
            load = {"clients": arguments.clients, "seconds": arguments.seconds, "folder": folder}
            for _ in range(arguments.rounds):
                alone.append(wrk(server.port, path, tiny, **load))
                with calling(server.port, slow, arguments.callers) as seen:
                    beside.append(wrk(server.port, path, tiny, **load))
                times += seen
    print(f"{'tiny':22}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for label, runs in (("alone", alone), ("beside the slow model", beside)):
        rate, p50, p99 = (statistics.median(getattr(run, key) for run in runs) for key in ("rate", "p50_ms", "p99_ms"))
        print(f"{label:22}{rate:>12,.0f}{p50:>10.2f}{p99:>10.2f}")
    ratio = statistics.median(b.p99_ms / a.p99_ms for a, b in zip(alone, beside, strict=True))
    print(f"p99 grows {ratio:.2f} times; the slow model took {statistics.median(times):.1f} s ({len(times)} calls)")
    sys.exit(ratio > 2)


if __name__ == "__main__":
    main()
