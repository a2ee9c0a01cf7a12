"""Makes problems of models.yaml and notes from the trials of a project's versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version as release_of

from turnout.plan.checks.notes import LOCALE_REMEDY
from turnout.plan.values import Note
from turnout.problems import Problem, ProblemsError
from turnout.project.project import CACHE_DIR, Project
from turnout.protocol.tensors.fatal_requests import FatalRequest
from turnout.runtimes.registry import RUNTIMES
from turnout.trials.process import TrialProcess
from turnout.trials.trials import SOUND, Trial, Trials

Key = tuple[str, str]
"""A version: its model and its name."""

_REMEDIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"Unsupported model IR version: \d+, max supported IR version: (\d+)"),
        "Save it with an older IR version: model.ir_version = {0}; onnx.save(model, path).",
    ),
    (
        re.compile(r"Current official support for domain (\S+) is till opset (\d+)"),
        "Export it with opset {1} of {0} at most, or convert it: onnx.version_converter.convert_version(model, {1}).",
    ),
    (
        re.compile(r"(\S+?)\(-?\d+\) is not a registered function/op"),
        "`{0}` is a custom operator, and custom operators are not supported: export the model without it.",
    ),
    (
        re.compile(r"No opset import for domain '(\S+)'"),
        "The model uses an operator of `{0}` without a version: add the domain to its opset_import.",
    ),
    (
        re.compile(r"No Op registered for (\S+) with domain_version of (\d+)"),
        "Opset {1} of the model has no operator `{0}`. Export the model again with an opset that has it.",
    ),
    (
        re.compile(r"Op registered for (\S+) is deprecated in domain_version of (\d+)"),
        "Opset {1} no longer has the operator `{0}`. Export the model again with a current exporter.",
    ),
    (
        re.compile(r"Could not find an implementation for (\w+)\((\d+)\)"),
        "onnxruntime supports `{0}` only for other datatypes or versions. Put a Cast before it and export it again.",
    ),
    (
        re.compile(r"of operator \((\w+)\)"),
        "The datatype does not fit `{0}`. Put a Cast before it and export the model again.",
    ),
    (re.compile(r"Failed to construct locale with name"), LOCALE_REMEDY),
)
"""onnxruntime's errors and their remedies; the braces are replaced by the pattern's groups."""


def try_versions(
    project: Project,
    *,
    process: TrialProcess | None = None,
    progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
) -> dict[Key, Trial]:
    """Try every version whose artifact is on this machine, or return the cached result.

    Args:
        project: project of the versions.
        process: process that tries them.
        progress: called with a version's name, the number tried before it, and the total number.
    """
    trials = make_trials(project, process)
    try:
        tried = {}
        for done, key in enumerate(project.artifacts):
            progress(" ".join(key), done, len(project.artifacts))
            tried[key] = try_version(project, key, trials)
        return tried
    finally:
        trials.close()


def try_version(project: Project, key: Key, trials: Trials, *, whether_it_opens: bool = True) -> Trial:
    """Try one version; a runtime that no request can crash needs no trial."""
    version = project.manifest.model(key[0]).version(key[1])
    if not RUNTIMES[version.runtime].is_tried:
        return SOUND
    return trials.of(project.artifacts[key], " ".join(key), whether_it_opens=whether_it_opens)


def make_trials(project: Project, process: TrialProcess | None = None) -> Trials:
    """Return the project's trials, cached in `.turnout/trials`."""
    return Trials(project.manifest.path.parent / CACHE_DIR / "trials", process)


def check_opens(project: Project, tried: Mapping[Key, Trial]) -> None:
    """Raise a ProblemsError with every version that onnxruntime cannot open."""
    problems = tuple(_problem(project, key, *explain(trial.reason)) for key, trial in tried.items() if trial.reason)
    if problems:
        raise ProblemsError(problems)


def find_notes(tried: Mapping[Key, Trial]) -> Iterator[Note]:
    """Yield a note for each kind of requests that a version rejects because they would crash the process."""
    for (model, version), trial in tried.items():
        for kind in trial.fatal:
            yield Note(f"models.{model}.versions.{version}.artifact", note_of(kind))


def note_of(kind: FatalRequest) -> str:
    """Return the note on a version's fatal requests."""
    return f"{kind.sentence}: such requests get a 422"


def explain(reason: str) -> tuple[str, str]:
    """Return the error with the release of onnxruntime, and the remedy, if any."""
    message = reason.replace("onnxruntime ", f"onnxruntime {release_of('onnxruntime')} ", 1)
    for pattern, remedy in _REMEDIES:
        if match := pattern.search(reason):
            return message, remedy.format(*match.groups()) if pattern.groups else remedy
    return message, ""


def _problem(project: Project, key: Key, message: str, hint: str) -> Problem:
    path = ("models", key[0], "versions", key[1], "artifact")
    return project.manifest.problem(path, message, hint)
