"""Finds why a canary on AWS cannot compare both versions' answers for some requests.

Pure.
"""

from __future__ import annotations

from turnout.manifest.parser import Manifest, Stage, Version
from turnout.plan.checks.replacements import baselines_of

SENDABLE_AUTH = frozenset({"none", "api_key"})
"""Kinds of authentication with which `turnout canary` can send a request again."""


def find_logging(manifest: Manifest, stage: Stage, model: str) -> tuple[Version, ...]:
    """Return the versions of the canary and its baseline whose functions log requests that can be sent again."""
    if _unsendable(stage):
        return ()
    return tuple(
        version for version in _logging(manifest, stage, model) if version.capture and not version.capture.redact
    )


def find_gap(manifest: Manifest, stage: Stage, model: str) -> str:
    """Return why no or only some requests of a model can be answered by both versions; empty if all can."""
    if why := _unsendable(stage):
        return why
    logging = _logging(manifest, stage, model)
    if not logging:
        first = _versions(stage, model)[0]
        return f"no request is logged: set `capture: {{percent: 5}}` at models.{model}.versions.{first}"
    redacting = [version.name for version in logging if version.capture and version.capture.redact]
    if redacting:
        return f"requests to {' and '.join(redacting)} are logged redacted (`capture.redact`) and are not sent again"
    return ""


def _unsendable(stage: Stage) -> str:
    """Return why no request to a stage can be sent again; empty if it can."""
    if stage.canary and stage.canary.release:
        return "requests that are sent again reach a release's share or the baseline by chance"
    if stage.auth not in SENDABLE_AUTH:
        return f"`turnout canary` has no credentials for a stage with `auth: {stage.auth}`, and sends it no requests"
    return ""


def _logging(manifest: Manifest, stage: Stage, model: str) -> tuple[Version, ...]:
    versions = (manifest.model(model).version(name) for name in _versions(stage, model))
    return tuple(version for version in versions if version.capture and version.capture.percent)


def _versions(stage: Stage, model: str) -> tuple[str, ...]:
    """Return the baseline's versions, then the canary's."""
    assert stage.canary is not None
    return tuple(dict.fromkeys((*baselines_of(stage, model), stage.canary.serve[model])))
