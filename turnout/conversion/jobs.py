"""Runs jobs in processes: converters in their environments, with limits, and scripts that try a new version."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from turnout.conversion.errors import ConversionError
from turnout.conversion.registry import LOCKS
from turnout.packaging.layer import LayerError
from turnout.packaging.transform_imports import prepare_site
from turnout.protocol.telemetry import TELEMETRY_OFF
from turnout.system.job_process import LineReader, close_pipes, exit_text
from turnout.system.processes import kill_group

START = LOCKS / "start.py"

NOWHERE = "http://127.0.0.1:9"
"""A proxy address that nothing listens on. It stops libraries in C if no network namespace could be created."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class JobLimits:
    """A job's limits.

    Args:
        seconds: time limit.
        memory_mb: memory limit (RLIMIT_DATA).
    """

    seconds: float = 900.0
    memory_mb: int = 8192


@dataclass(frozen=True, slots=True)
class Done:
    """A job's result, and whether it had network access."""

    value: Mapping[str, Any]
    network: str


def run_job(
    python: Path,
    module: str,
    arguments: Mapping[str, Any],
    scratch: Path,
    *,
    limits: JobLimits,
    progress: Callable[[str], None] = lambda _: None,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Run `main(arguments, progress)` of a module in converters/.

    Args:
        python: the environment's interpreter.
        module: a module in turnout/conversion/converters/.
        arguments: values that JSON can represent.
        scratch: an existing folder for its home and its temporary files.
        limits: the job's limits.
        progress: called with each progress message.
        variables: the environment variables that a source needs; None for a job without network.

    Raises:
        ConversionError: the job rejected its input, failed, or exceeded its limits.
    """
    for name in ("home", "tmp"):
        (scratch / name).mkdir(exist_ok=True)
    job = {
        "module": module,
        "arguments": arguments,
        "parent": os.getpid(),
        "memory_bytes": limits.memory_mb * 1024 * 1024,
        "offline": variables is None,
    }
    with tempfile.TemporaryFile(dir=scratch) as errors:
        process = subprocess.Popen(
            [str(python), "-I", "-B", str(START)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=scratch,
            env=_environment(scratch, variables),
            start_new_session=True,  # its own group, so that all of its processes can be killed
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.close()
            report = _last_report(process, time.monotonic() + limits.seconds, limits, progress)
        finally:
            _end(process)
        if report is None:
            raise _ended(process.returncode, errors, limits)
    if "refused" in report:
        raise ConversionError(report["refused"], report["hint"])
    if "failed" in report:
        if report["failed"].startswith("MemoryError"):
            raise ConversionError(*_memory(limits))
        detail = "\n    ".join(report["text"].strip().splitlines()[-3:])
        raise ConversionError(f"{module} failed: {report['failed'][:500]}", detail, code=1)
    return Done(report["done"], report["network"])


def _environment(scratch: Path, variables: Mapping[str, str] | None) -> dict[str, str]:
    given = dict.fromkeys(PROXIES, NOWHERE) if variables is None else dict(variables)
    threads = str(os.cpu_count() or 1)
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "OMP_NUM_THREADS": threads,
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **given,
    }


def _last_report(
    process: subprocess.Popen[bytes], deadline: float, limits: JobLimits, progress: Callable[[str], None]
) -> dict[str, Any] | None:
    """The job's last report, or None if the process ended without one."""
    assert process.stdout is not None
    lines = LineReader(process.stdout)
    while True:
        try:
            line = lines.read_line(deadline)
        except TimeoutError:
            message = f"the conversion took longer than {limits.seconds:g} s"
            raise ConversionError(message, "Allow more with --time-limit SECONDS.") from None
        if line is None:
            return None
        report: dict[str, Any] = json.loads(line)
        if "progress" not in report:
            return report
        progress(report["progress"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group."""
    kill_group(process.pid)
    process.wait()
    close_pipes(process)


def _ended(code: int, errors: IO[bytes], limits: JobLimits) -> ConversionError:
    errors.seek(0)
    lines = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    if any("MemoryError" in line or "bad_alloc" in line for line in lines):
        return ConversionError(*_memory(limits))
    return ConversionError(f"the converter's process ended with {exit_text(code)}", "\n    ".join(lines[-3:]), code=1)


def _memory(limits: JobLimits) -> tuple[str, str]:
    return f"the conversion needs more than {limits.memory_mb:,} MB of memory", "Allow more with --memory-limit MB."


def install_packages(requirements: Sequence[str], runtime: str, imports: Path) -> tuple[Path, Path]:
    """Install a new version's packages for this machine. Returns the folder of the code and that of the packages.

    Args:
        requirements: the packages.
        runtime: the runtime whose layer they join.
        imports: where packages are installed.

    Raises:
        ConversionError: they cannot be installed.
    """
    try:
        return prepare_site(requirements, runtime, imports)
    except LayerError as error:
        lines = str(error).strip().splitlines() or ["no output"]
        message = f"the packages {', '.join(requirements)} cannot be installed: {lines[-1].strip()[:300]}"
        raise ConversionError(message, code=1) from error


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """The result of a script.

    Args:
        printed: its standard output.
        reason: the last line of its standard error, at most 500 characters; else its exit code.
    """

    printed: str
    reason: str


def run_script(script: str, job: Mapping[str, Any], seconds: float, *, subject: str, task: str) -> ScriptResult:
    """Run a script that reads `job` as JSON from its standard input.

    Args:
        script: Python code.
        job: its input.
        seconds: time limit.
        subject: the code that the script runs, for the error: `predict.py`.
        task: what it runs it for.

    Raises:
        ConversionError: the script did not end in time.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", script],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**TELEMETRY_OFF, "PATH": os.defpath, "LANG": "C.UTF-8", "TOKENIZERS_PARALLELISM": "false"},
        )
    except subprocess.TimeoutExpired:
        message = f"{subject} needs more than {seconds:g} s for {task}"
        raise ConversionError(message, "Allow more with --time-limit SECONDS.") from None
    reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return ScriptResult(ended.stdout, reason[:500])
