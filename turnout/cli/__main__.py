"""`turnout` and `python -m turnout.cli`: sets up the streams, runs one command, returns its exit code.

Exit codes: 0 is success, 1 an operation that failed, 2 bad input or bad usage, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from turnout.protocol.telemetry import disable_telemetry
from turnout.system.signals import ignore_endings, restored_endings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    with restored_endings():
        return run_command(arguments)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; signals may be ignored afterwards."""
    arguments = debug_first(sys.argv[1:] if arguments is None else arguments)
    # A stream that was closed before the start (`>&-`) is None, which other code does not expect.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - stays open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a terminal that cannot show `…` still gets the line
    disable_telemetry()
    try:
        from turnout.cli.app import run

        return run(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 130


def run_and_exit(arguments: Sequence[str] | None = None) -> NoReturn:
    """The process's entry point.

    Exits with `run_command`'s code, and with 130 also if Ctrl-C arrives before or after it.
    """
    code = 130
    with suppress(KeyboardInterrupt):
        code = run_command(arguments)
    # The outcome is decided: a Ctrl-C now would end the process by the signal, as if nothing had been done.
    ignore_endings()
    sys.exit(code)


def debug_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--debug` first, wherever it was before a `--`: users add it after a failure."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" not in arguments[:end]:
        return list(arguments)
    return ["--debug", *(word for word in arguments[:end] if word != "--debug"), *arguments[end:]]


if __name__ == "__main__":
    run_and_exit()
