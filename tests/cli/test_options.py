from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from turnout.cli.options import SLOW_BYTES, load, remark_large


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_while_a_large_artifact_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue() == ""
    with remark_large("model.onnx", SLOW_BYTES):
        assert terminal.getvalue() == "reading model.onnx, 200.0 MB ..."


def test_other_large_files_in_the_folder_show_no_progress(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with (project / "models" / "echo" / "v1" / "other.bin").open("wb") as file:
        os.truncate(file.fileno(), SLOW_BYTES)  # a hole, which takes no disk space
    assert len(load(project).artifacts) == 2
    assert terminal.getvalue() == ""
