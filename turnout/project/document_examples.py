"""The examples that a document shows: of each version the first request of its examples.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.artifacts.examples import read_examples
from turnout.manifest.parser import Manifest


def read_document_examples(manifest: Manifest) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(model, version) -> a request that works, of each version that has examples.

    Raises:
        ExamplesError: a file cannot be read; `load_project` has told so before.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for model in manifest.models:
        for version in model.versions:
            examples = read_examples(manifest.path.parent / version.examples) if version.examples else ()
            if examples:
                found[model.name, version.name] = examples[0].request
    return found
