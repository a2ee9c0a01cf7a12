"""Saves a kept request, with a version's answer, as an example of that version."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from turnout.artifacts.examples import ExamplesError
from turnout.artifacts.examples_file import insert_row, make_row
from turnout.canary.rollout.action import bytes_of
from turnout.console.actions import WishError
from turnout.console.kept_requests import find_kept
from turnout.console.replays import send_again
from turnout.console.subject import Subject
from turnout.manifest.parser import Manifest, Version, make_manifest
from turnout.project.manifest_file import editing, replace_text
from turnout.project.project import Project, check_examples_file, free_hooks
from turnout.project.transform_checks import hooks_of
from turnout.replay.replay import without_version
from turnout.yaml_text.editor import YamlEdit
from turnout.yaml_text.reader import read_yaml

EXAMPLES_FILE = "examples.json"

MOST_EXAMPLE_BYTES = 256_000
"""Largest request that can be saved, because the API's document shows examples and people review them."""


@dataclass(frozen=True, slots=True)
class ExampleWish:
    """An example that the page asks to save.

    Args:
        key: the kept request's key.
        model: the model's name.
        version: the version that gets the example and whose answer it expects.
        name: the example's name.
    """

    key: str
    model: str
    version: str
    name: str


def parse_example_wish(body: Any) -> ExampleWish:
    """Read a wish from a request's JSON.

    Raises:
        WishError: a key is missing or wrong; the message names it.
    """
    if not isinstance(body, dict):
        raise WishError(400, "Send a JSON object.")
    for key in ("key", "model", "version", "name"):
        if not isinstance(body.get(key), str) or not body[key].strip():
            raise WishError(400, f"`{key}` must be a string.")
    return ExampleWish(body["key"], body["model"], body["version"], body["name"].strip())


def save_example(subject: Subject, wish: ExampleWish) -> str:
    """Save a kept request with the version's answer, and return a message about it.

    The examples file is replaced first, then models.yaml if it does not name the file yet. If the process ends between
    the two, the file remains without a mention in models.yaml, and the next example is added to it.

    Raises:
        WishError: there is no such request, or it cannot be an example.
        ManifestChangedError: someone else saved one of the files at the same time.
    """
    kept = find_kept(subject, wish.key)
    if kept is None:
        raise WishError(404, "This request is no longer kept: newer ones replaced it.", "Refresh the page.")
    if kept.sample.model != wish.model:
        raise WishError(422, f"The request is one of {kept.sample.model}, not of {wish.model}.")
    if kept.sample.header_length is not None:
        raise WishError(422, "The request has binary tensors.", "Examples are JSON: send it as JSON and save that.")
    if len(kept.sample.body) > MOST_EXAMPLE_BYTES:
        raise WishError(422, f"The request has {len(kept.sample.body):,} bytes.", "Save a smaller one.")
    answer = send_again(subject, kept, kept.sample.stage, wish.version)
    if answer["status"] != 200:
        message = f"{wish.model} {wish.version} answers it with HTTP {answer['status']}."
        raise WishError(422, message, "An example is a request that the version answers.")
    request = orjson.loads(without_version(kept.sample).body)
    with editing(subject.manifest, lambda: None):
        project = subject.project()
        named = (
            version
            for version in project.manifest.versions
            if (version.model, version.name) == (wish.model, wish.version)
        )
        version = next(named, None)
        if version is None:
            raise WishError(422, f"models.yaml has no {wish.model} {wish.version}.")
        return _write(project, version, wish, request, orjson.loads(answer["text"]))


def _write(project: Project, version: Version, wish: ExampleWish, request: Any, answer: Any) -> str:
    manifest, artifact = project.manifest, project.artifacts.get((version.model, version.name))
    folder = manifest.path.parent
    name = version.examples or _new_name(version)
    path = (folder / name).resolve()
    before = path.read_bytes() if path.exists() else b""
    try:
        example = make_row(wish.name, request, answer, artifact.signature.outputs if artifact else ())
        text = insert_row(before.decode(), example)
    except (ExamplesError, UnicodeDecodeError) as error:
        raise WishError(422, f"{name}: {error}.") from error
    hooks = free_hooks(version, hooks_of(folder / version.transform)) if version.transform else frozenset()
    with tempfile.TemporaryDirectory(prefix="turnout-example-") as trial:
        tried = Path(trial) / path.name
        tried.write_text(text)
        if problems := check_examples_file(tried, artifact, hooks):
            raise WishError(422, " ".join(problems))
    edited = "" if version.examples else _name_examples(manifest, version, name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    replace_text(path, text, before)
    if edited:
        replace_text(manifest.path.resolve(), edited, bytes_of(manifest))
    shared = [
        other.name for other in manifest.model(version.model).versions if other.examples == name and other != version
    ]
    also = f" {' and '.join(shared)} {'have' if len(shared) > 1 else 'has'} the same file." if shared else ""
    return f"Added example {wish.name} of {version.model} {version.name} to {name}.{also}"


def _new_name(version: Version) -> str:
    """The path for the examples of a version that has none: next to its artifact."""
    if version.is_remote:
        return f"models/{version.model}/{version.name}/{EXAMPLES_FILE}"
    beside = PurePosixPath(version.artifact).parent
    named_so = beside.name == version.name
    return str(beside / (EXAMPLES_FILE if named_so else f"{version.model}-{version.name}-{EXAMPLES_FILE}"))


def _name_examples(manifest: Manifest, version: Version, name: str) -> str:
    """The text of models.yaml with the version's `examples` added."""
    edit = YamlEdit(manifest.read or read_yaml(bytes_of(manifest), source=manifest.source))
    edit.insert(("models", version.model, "versions", version.name), "examples", name)
    return bytes_of(make_manifest(edit.finish(), path=manifest.path)).decode()
