from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from turnout.cli.options import SLOW_BYTES, load


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_large_artifact_is_remarked_while_it_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue() == ""
    large = project / "models" / "echo" / "v1" / "weights.bin"
    with large.open("wb") as file:
        os.truncate(file.fileno(), SLOW_BYTES)  # a hole: it takes no room
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue().count("reading model.onnx, up to 200.0 MB ...") == 1
