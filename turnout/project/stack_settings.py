"""Reads a stack's configuration from its file, `Pulumi.<stack>.yaml` beside models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.problems import ProblemsError
from turnout.yaml_text.reader import read_yaml

NAMESPACE = "turnout:"


def read_stack_settings(folder: Path, stack: str) -> Mapping[str, Any]:
    """Return the settings in Turnout's namespace, such as `role_path`; none without a file.

    Raises:
        ProblemsError: the file is not valid YAML.
    """
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        return {}
    read = read_yaml(path.read_bytes(), source=path.name)
    if read.problems:
        raise ProblemsError(tuple(read.problems))
    config = read.tree.get("config")
    rows = config if isinstance(config, dict) else {}
    return {key.removeprefix(NAMESPACE): value for key, value in rows.items() if str(key).startswith(NAMESPACE)}
