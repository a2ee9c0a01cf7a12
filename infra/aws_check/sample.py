"""The deployed project: the sample model in two versions, a graph of both, two stages with keys."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.layout import sample_dir

PLATFORM = "turnout"
MODEL, GRAPH = "iris", "vote"

GRAPH_NODE: Mapping[str, Any] = {
    "ensemble": [{"model": MODEL, "version": "v1"}, {"model": MODEL, "version": "v2"}],
    "combine": {"probabilities": "mean", "label": "vote"},
}


class SampleProject:
    """A folder with a models.yaml that the check edits as a user would.

    Args:
        folder: created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        versions = {
            name: {"artifact": f"models/{MODEL}/{name}/model.onnx", "examples": f"models/{MODEL}/{name}/examples.json"}
            for name in ("v1", "v2")
        }
        guarded = {"auth": "api_key", "throttle": {"rate": 50, "burst": 100}}
        self.tree: dict[str, Any] = {
            "platform": PLATFORM,
            "models": {MODEL: {"versions": versions}, GRAPH: {"graph": dict(GRAPH_NODE)}},
            "stages": {
                "dev": {"serve": {MODEL: "v2"}, **guarded},
                "prod": {"serve": {MODEL: "v1"}, **guarded},
            },
        }
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(sample_dir() / "models" / MODEL, folder / "models" / MODEL, dirs_exist_ok=True)
        self.write()

    @property
    def prod(self) -> dict[str, Any]:
        """The stage that runs the canaries."""
        stage: dict[str, Any] = self.tree["stages"]["prod"]
        return stage

    @property
    def v1(self) -> dict[str, Any]:
        """The version whose code a release changes."""
        version: dict[str, Any] = self.tree["models"][MODEL]["versions"]["v1"]
        return version

    @property
    def request(self) -> bytes:
        """A request that both versions and the graph accept."""
        examples = json.loads((self.folder / "models" / MODEL / "v1" / "examples.json").read_bytes())
        return json.dumps(examples[0]["request"]).encode()

    def write(self) -> None:
        """Write models.yaml atomically, as JSON, which is also valid YAML."""
        target = self.folder / "models.yaml"
        written = target.with_suffix(".new")
        written.write_text(json.dumps(self.tree, indent=2))
        written.replace(target)
