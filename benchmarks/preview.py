"""Measures `pulumi preview` of thousands of versions, each with a function of its own, and all of them in one pool.

Run: `.venv/bin/python -m benchmarks.preview [MODELS VERSIONS]`, with `pulumi` on the PATH or built by `make engine`.
The real engine works with the tests' stand-in for AWS, from nothing. Prints the registered resources, of which kinds
they are, the seconds of the preview, and the processor seconds of the Pulumi program, which runs in this process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.deploy import use_engine, write_packages
from benchmarks.plan import make_artifacts, write_manifest
from infra.program import deploy
from tests.engine.account import MotoAccount
from tests.engine.world import opened_world
from turnout.manifest.parser import parse_manifest
from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan
from turnout.project.project import Project


def make_project(models: int, versions: int, *, pooled: bool) -> Project:
    """Return a project whose artifacts were never read."""
    text = write_manifest(models, versions)
    if pooled:
        text = text.replace(b"    versions:", b"    pool: small\n    versions:")
    manifest = parse_manifest(text, path=Path("models.yaml"), source="models.yaml")
    return Project(manifest, make_artifacts(manifest))


def build(folder: Path, project: Project, plan: Plan) -> Sequence[BuiltPackage]:
    """Write zips with almost no content; a pool's models are one file."""
    model = folder / "model.onnx"
    model.write_bytes(b"")
    files = {key: (StoredFile(model.name, model, 0, artifact.sha256),) for key, artifact in project.artifacts.items()}
    packages = write_packages(folder, plan)
    return [replace(package, pooled=files) if package.name.endswith("_pool") else package for package in packages]


def preview(project: Project, zips: Path) -> tuple[float, float, Counter[str]]:
    """Preview a new stack: seconds, processor seconds of the program, and how many resources of each kind."""
    scratch = Path(tempfile.mkdtemp())
    kinds: Counter[str] = Counter()
    spent: list[float] = []

    def program() -> None:
        began = time.process_time()
        deploy(Path(), load=lambda _: project, build=lambda _, plan: build(zips, project, plan), account=MotoAccount())
        spent.append(time.process_time() - began)

    def count(event: Any) -> None:
        if event.resource_pre_event is not None:
            kinds[event.resource_pre_event.metadata.type] += 1

    try:
        with opened_world(scratch) as world:
            world.environment |= {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
            stack = world.stack(program)
            began = time.perf_counter()
            stack.preview(on_output=lambda _: None, on_event=count)
            return time.perf_counter() - began, spent[0], kinds
    finally:
        shutil.rmtree(scratch)


def main() -> None:
    models, versions = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (1000, 3)
    use_engine()
    zips = Path(tempfile.mkdtemp())
    print(f"{models:,} models of {versions} versions: resources, s, processor s of the program")
    for title, pooled in (("in one pool", True), ("a function for each", False)):
        seconds, processor_s, kinds = preview(make_project(models, versions, pooled=pooled), zips)
        common = ", ".join(f"{kind.rpartition(':')[2]} {count:,}" for kind, count in kinds.most_common(6))
        print(f"{title:22} {kinds.total():7,} {seconds:7.1f} {processor_s:7.1f}   {common}", flush=True)
    shutil.rmtree(zips)


if __name__ == "__main__":
    main()
