from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from turnout.cli.options import SLOW_BYTES, load, remark_large


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_large_artifact_is_remarked_while_it_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue() == ""
    with remark_large("model.onnx", SLOW_BYTES):
        assert terminal.getvalue() == "reading model.onnx, 200.0 MB ..."


def test_only_the_artifact_itself_is_looked_at_not_its_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with (project / "models" / "echo" / "v1" / "other.bin").open("wb") as file:
        os.truncate(file.fileno(), SLOW_BYTES)  # a hole: it takes no room
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue() == ""
