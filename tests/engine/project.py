"""A small project that the tests change, and packages without a layer: their zips contain a text that stands for their
content.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.engine.world import REPOSITORY
from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan
from turnout.project.project import Project

LAYER = "layer_arm64_python3.13"


class ChangingProject:
    """A folder with a models.yaml that is kept as a tree.

    Attributes:
        tree: the content of models.yaml; `write` writes it.
        code: text that stands for the handlers' code.
        layer: text that stands for the layer's content.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = "1"
        self.layer = "layer"
        self.tree: dict[str, Any] = {
            "platform": "turnout",
            "models": {
                "iris": {"versions": {"v1": {"artifact": "models/iris/v1/model.onnx"}}},
                "digits": {"versions": {"v1": {"artifact": "models/digits/v1/model.onnx"}}},
            },
            "stages": {"prod": {"serve": {"iris": "v1", "digits": "v1"}, "auth": "api_key"}},
        }
        shutil.copytree(REPOSITORY / "models", folder / "models")
        (folder / "zips").mkdir()
        self.write()

    @property
    def prod(self) -> dict[str, Any]:
        """The only stage."""
        stage: dict[str, Any] = self.tree["stages"]["prod"]
        return stage

    def write(self) -> None:
        """Write models.yaml."""
        # Through JSON, because equal parts would be written as anchors, which models.yaml does not use.
        tree = json.loads(json.dumps(self.tree))
        (self.folder / "models.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def build(self, project: Project, plan: Plan) -> Sequence[BuiltPackage]:
        """Make a zip for each function, and one layer."""
        artifacts = {f"{model}_{version}": artifact.sha256 for (model, version), artifact in project.artifacts.items()}
        names = dict.fromkeys(function.package for function in plan.functions)
        zips = self.folder / "zips"
        functions = [write_package(zips, name, "function", artifacts.get(name, "") + self.code) for name in names]
        pools = {function.package: function.model for function in plan.functions if function.kind == "pool"}
        functions = [
            replace(package, pooled=stored_in(pools[package.name], project)) if package.name in pools else package
            for package in functions
        ]
        return [write_package(zips, LAYER, "layer", self.layer), *functions]


def stored_in(pool: str, project: Project) -> dict[tuple[str, str], tuple[StoredFile, ...]]:
    """Return the files of a pool's models."""
    return {
        key: (StoredFile(artifact.path.name, artifact.path, artifact.size_bytes, artifact.sha256),)
        for key, artifact in project.artifacts.items()
        if project.manifest.model(key[0]).version(key[1]).pool == pool
    }


def write_package(folder: Path, name: str, kind: str, content: str) -> BuiltPackage:
    """Write a zip that contains only a text."""
    digest = hashlib.sha256(f"{name}\n{content}".encode()).hexdigest()
    path = folder / f"{name}-{digest[:16]}.zip"
    if not path.exists():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("mark.txt"), f"{name} {content}")
    size = path.stat().st_size
    layer = LAYER if kind == "function" and name != "router" else ""
    return BuiltPackage(name, kind, path, digest, size, size, cached=False, layer=layer)
