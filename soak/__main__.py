"""Performs the runs, prints a row for each, and exits with 1 if a promise is broken."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from soak.result import Result, Settings, make_json, render_table
from soak.runs.registry import RUNS
from soak.server import SoakError

DEFAULT_MINUTES = 6.0
DEFAULT_SEED = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 if every promise holds, 1 if one is broken, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    command = tuple(shlex.split(options.command)) if options.command else (sys.executable, "-m", "turnout.cli")
    results = []
    for name in options.only or RUNS:
        with tempfile.TemporaryDirectory(prefix="turnout-soak-") as folder:
            result = make_run(name, options.minutes * 60, options.seed, command, Path(folder), options.requests)
        results.append(result)
        if not options.json:
            table = render_table([result]).splitlines()
            print("\n".join(table if len(results) == 1 else table[1:]), flush=True)
    broken = [result for result in results if not result.holds]
    if options.json:
        print(json.dumps(make_json(results, options.seed), indent=2))
    elif broken:
        names = ", ".join(result.run for result in broken)
        print(f"Broken: {names}. Repeat with: make soak RUNS={names.replace(', ', ',')} SEED={options.seed}")
    else:
        print("Every promise held.")
    return 1 if broken else 0


def make_run(name: str, seconds: float, seed: int, command: tuple[str, ...], folder: Path, requests: int = 0) -> Result:
    """Perform one run within its share of the total time; a run that cannot continue is a broken promise."""
    run, share = RUNS[name]
    try:
        return run(Settings(seconds * share, seed, command, folder, requests))
    except SoakError as error:
        return Result(name, 0, 0.0, "the run could not go on", (str(error),))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=DEFAULT_MINUTES, help="for all runs (default: %(default)s)")
    parser.add_argument(
        "--requests",
        type=_requests,
        default=0,
        help="end the run `asynchronous` after this many accepted requests instead of its share of the time",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of everything random (default: %(default)s)")
    parser.add_argument("--only", type=_runs, metavar="RUN,...", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--command", help="what starts Turnout, for comparing releases (default: this checkout's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end instead of a table")
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < 24 * 60:
        raise argparse.ArgumentTypeError(f"must be more than 0 and less than a day, got {text}")
    return minutes


def _requests(text: str) -> int:
    requests = int(text)
    if requests < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return requests


def _runs(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        raise argparse.ArgumentTypeError(f"unknown run {unknown[0]!r}, the runs are {', '.join(RUNS)}")
    return names


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """End the run and its server on SIGTERM."""
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
