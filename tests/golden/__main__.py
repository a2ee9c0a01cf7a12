"""Rewrites the golden files from the sample manifest: `.venv/bin/python -m tests.golden`."""

from __future__ import annotations

from pathlib import Path

from tests.golden.render import render_golden

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    for name, data in render_golden(folder.parent.parent).items():
        (folder / name).write_bytes(data)
