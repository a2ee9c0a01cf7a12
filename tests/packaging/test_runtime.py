"""Lambda's runtime, installed next to the layer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.packaging import layer
from turnout.packaging.layer import LayerError
from turnout.packaging.runtime import RIC_LOCK, install_runtime


def test_the_runtime_runs_alone_and_is_installed_once(tmp_path: Path) -> None:
    folder = install_runtime(tmp_path)
    assert folder.parent == tmp_path
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "import runtime_client, awslambdaric.bootstrap; print(awslambdaric.__version__)"
    )
    run = [sys.executable, "-I", "-S", "-B", "-c", code, str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    assert f"awslambdaric=={done.stdout.strip()} " in RIC_LOCK.read_text()
    assert list(folder.glob("awslambdaric/__pycache__/*.pyc"))
    before = folder.stat().st_mtime_ns
    assert install_runtime(tmp_path) == folder
    assert folder.stat().st_mtime_ns == before


def test_a_runtime_that_cannot_be_resolved_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(LayerError):
        install_runtime(tmp_path / "runtime")
    assert list((tmp_path / "runtime").iterdir()) == []


def test_a_full_disk_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: failed to copy: No space left on device (os error 28)' >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr(layer, "find_uv", lambda: str(uv))
    with pytest.raises(OSError, match="No space left on device") as caught:
        install_runtime(tmp_path / "runtime")
    assert caught.value.errno == errno.ENOSPC
    assert list((tmp_path / "runtime").iterdir()) == []


def test_every_pinned_package_has_its_hashes() -> None:
    text = RIC_LOCK.read_text()
    assert text.count("==") == 3
    assert all("--hash=sha256:" in part for part in text.split("==")[1:])
