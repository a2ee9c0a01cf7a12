"""The data that the process which reads the files again passes to the workers."""

from __future__ import annotations

import logging
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.builders.graphs import write_identity
from turnout.gateway.editions.edition import build_gateway, make_edition
from turnout.gateway.editions.in_process import edition_functions
from turnout.gateway.editions.rebuild import read_rebuilt, rebuild, write_rebuilt
from turnout.project.project import load_project

MANIFEST = "models: {echo: {versions: {v1: {artifact: echo.onnx}}}}\nstages: {dev: {serve: {echo: v1}}}\n"


def test_workers_get_an_edition_without_data_for_messages_and_plans(tmp_path: Path) -> None:
    write_identity(tmp_path / "echo.onnx")
    path = tmp_path / "models.yaml"
    path.write_text(MANIFEST)
    before = make_edition(load_project(path))
    try:
        rebuilt = rebuild(
            path,
            before,
            functions_of=edition_functions,
            gateway_of=lambda edition, functions: build_gateway(edition.project, edition.plan, functions),
        )
    finally:
        logging.disable(logging.NOTSET)  # it runs in a process of its own and silences the log there
    with tempfile.TemporaryFile() as file:
        write_rebuilt(rebuilt, file.fileno())
        edition = read_rebuilt(file.fileno()).edition
    assert edition is not None
    manifest = edition.project.manifest
    assert (manifest.read, manifest.positions) == (None, {})
    assert (edition.plan.quotas, edition.plan.packages) == ((), ())
    # All else is as it was read, so that nothing that did not change is taken for new.
    assert manifest == replace(before.project.manifest, positions={})
    assert edition.plan == replace(before.plan, quotas=(), packages=())
    assert (edition.apis, edition.fingerprints, edition.keys) == (before.apis, before.fingerprints, before.keys)
    assert len(pickle.dumps(edition)) < len(pickle.dumps(before))
