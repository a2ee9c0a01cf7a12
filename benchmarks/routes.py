"""Requests per second with 1, 10, 100 and 1,000 routes in the document.

One server for each number, all measured alternately, in several rounds of changing order. The bar: no more than 5%
apart. All models except the called one are copies of the same file. Exits with 1 if the medians miss the bar.

    python benchmarks/routes.py [--clients 8] [--seconds 3] [--rounds 7]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving import Server, serving, write_tiny, wrk

ROUTES = (1, 10, 100, 1000)
PATH = "/models/m0/v1/inference"
BAR = 0.05


def make_project(folder: Path, routes: int) -> Any:
    """Make a project.

    Each model has two routes, its version's and the one that follows the stage: the minimum is two.
    """
    folder.mkdir()
    entries = [f"  m{n}: {{versions: {{v1: {{artifact: tiny.onnx}}}}}}" for n in range(max(1, routes // 2))]
    text = "\n".join(["models:", *entries, "stages:", '  dev: {serve: {"*": newest}}', ""])
    (folder / "models.yaml").write_text(text)
    return write_tiny(folder / "tiny.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        servers: dict[int, Server] = {}
        for routes in ROUTES:
            folder = Path(name) / str(routes)
            body = make_project(folder, routes)
            options = ["--no-access-log", "--workers", "1"]
            servers[routes] = stack.enter_context(serving(folder, PATH, body, options))
            print(f"{routes:>5} routes: first answer after {servers[routes].seconds:.2f} s", file=sys.stderr)
        rates: dict[int, list[float]] = {routes: [] for routes in ROUTES}
        for turn in range(arguments.rounds):
            for routes in ROUTES[turn % 4 :] + ROUTES[: turn % 4]:
                load = {"clients": arguments.clients, "seconds": arguments.seconds, "folder": Path(name)}
                rates[routes].append(wrk(servers[routes].port, PATH, body, **load).rate)
    # Compare each round with its own mean: a temporary disturbance of the machine affects all four.
    means = [statistics.mean(rates[routes][turn] for routes in ROUTES) for turn in range(arguments.rounds)]
    shares = {
        routes: statistics.median(rate / mean for rate, mean in zip(rates[routes], means, strict=True))
        for routes in ROUTES
    }
    print(f"{'routes':>8}{'requests/s':>12}{'of the mean':>14}")
    for routes in ROUTES:
        print(f"{routes:>8}{statistics.median(rates[routes]):>12,.0f}{shares[routes]:>14.1%}")
    spread = max(shares.values()) - min(shares.values())
    print(f"spread {spread:.1%}")
    sys.exit(spread > BAR)


if __name__ == "__main__":
    main()
