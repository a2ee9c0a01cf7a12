"""A signal after a command's lasting change: the change, the report and the exit code agree."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.slow  # each starts a command

CONSUMERS = """\
    consumers:
      shop: {keys: [k1]}
"""
COMMANDS = {
    "add": (("add", "echo", "v4", "new.onnx"), "Added echo v4"),
    "remove": (("remove", "echo", "v3", "--delete-files"), "Removed echo v3"),
    "rotate": (("keys", "rotate", "prod", "shop"), "Added key k2 of shop"),
    "retire": (("keys", "retire", "test", "shop"), "Deleted key k1 of shop"),
}


@pytest.fixture
def edited(project: Path) -> Path:
    for name in ("models/echo/v3/model.onnx", "new.onnx"):
        write_identity(project / name)
    path = project / "models.yaml"
    text = path.read_text().replace("      v2: {", "      v3: {artifact: models/echo/v3/model.onnx}\n      v2: {")
    test = "  test:\n    serve: {echo: v1}\n    auth: api_key\n" + CONSUMERS.replace("[k1]", "[k1, k2]")
    path.write_text(text + CONSUMERS + test)
    return project


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_after_the_edit_changes_neither_report_nor_exit_code(
    name: str, number: signal.Signals, edited: Path
) -> None:
    arguments, report = COMMANDS[name]
    path = edited / "models.yaml"
    before = path.read_bytes()
    reading, writing = os.pipe()
    # The pipe is full: the command waits in its report until the test reads.
    filler = b"." * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, filler)
    command = [sys.executable, "-m", "turnout.cli", *arguments]
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.STDOUT, cwd=edited)
    os.close(writing)
    try:
        wait_until(lambda: path.read_bytes() != before, "the edit of models.yaml")
        process.send_signal(number)
        with os.fdopen(reading, "rb") as output:
            text = output.read()[len(filler) :].decode()
        assert (process.wait(60), report in text) == (0, True), text
    finally:
        process.kill()
        process.wait(60)
