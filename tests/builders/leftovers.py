"""The folder that `turnout add` leaves behind if it is killed while converting a model."""

from __future__ import annotations

from pathlib import Path

from turnout.conversion.scratch import PREFIX
from turnout.project.project import CACHE_DIR


def write_leftover(project: Path) -> Path:
    """Write a folder with a broken copy of everything that a project may contain."""
    folder = project / CACHE_DIR / f"{PREFIX}killed"
    for name in ("models.yaml", "transform.py", "helper.py", "fetched/model.skops", "out/model/model.onnx"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{half a file")
    return folder
