"""Notes on every key that has no effect on this machine, so none is silently ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from turnout.manifest.parser import Manifest, Model, Slo, Stage, Version
from turnout.plan.auth import AUTH_TYPES
from turnout.plan.checks.agreement_gaps import find_gap, find_logging
from turnout.protocol.tensors.datatypes import Signature


def find_idle_keys(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) of each key in the manifest that has no effect at all, or none on this machine."""
    for model in manifest.models:
        yield from _of_model(model)
    for stage in manifest.stages:
        yield from _of_stage(manifest, stage)


def _of_model(model: Model) -> Iterator[tuple[str, str]]:
    for version in model.versions:
        yield from _of_version(version, f"models.{model.name}.versions.{version.name}")


def _of_version(version: Version, path: str) -> Iterator[tuple[str, str]]:
    if version.is_remote:
        yield f"{path}.artifact", "artifacts in S3 are not read here: the version has a route, and calls of it fail"
    if version.warm.provisioned:
        yield f"{path}.warm.provisioned", "provisioned concurrency is for AWS only"
    if version.warm.snap_start:
        yield f"{path}.warm.snap_start", "SnapStart is for AWS only"
    if version.reserved_concurrency is not None:
        yield (
            f"{path}.reserved_concurrency",
            "reserved concurrency only applies on AWS and with `turnout serve --isolated`",
        )
    if version.environment:
        yield f"{path}.environment", "the variables are only set on AWS and with `turnout serve --isolated`"
    if version.ephemeral_storage_mb > 512:
        yield f"{path}.ephemeral_storage_mb", "the size of /tmp only applies on AWS"
    if version.tracing:
        yield f"{path}.tracing", "X-Ray traces on AWS only"
    if version.slo != Slo():
        yield f"{path}.slo", "alarms exist on AWS only"
    if version.capture is not None:
        yield f"{path}.capture", "requests are logged on AWS only; `turnout serve --capture FILE` writes them here"


def _of_stage(manifest: Manifest, stage: Stage) -> Iterator[tuple[str, str]]:
    path = f"stages.{stage.name}"
    if stage.canary and stage.canary.release:
        yield (
            f"{path}.canary.release",
            "release canaries are for AWS only: on this machine canary and baseline run the same code",
        )
    yield from _of_agreement(manifest, stage)
    auth = AUTH_TYPES.get(stage.auth)
    if auth is not None and not auth.local:
        yield f"{path}.auth", f"`{auth.name}` is checked on AWS only: `turnout serve` rejects every call to this stage"
    if stage.slo != Slo():
        yield f"{path}.slo", "alarms exist on AWS only"
    if stage.version_override and not _is_routed(manifest, stage):
        yield f"{path}.version_override", "no model of this stage uses a router, so the header has no effect"
    if stage.auth != "api_key":
        for model in manifest.models:
            if model.routing.sticky is not None and model.routing.sticky.kind == "api_key":
                yield (
                    f"models.{model.name}.routing.sticky",
                    f"{stage.name} has no API keys, so calls are not sticky",
                )


def _of_agreement(manifest: Manifest, stage: Stage) -> Iterator[tuple[str, str]]:
    for model in stage.routed:
        for _, message in _of_agreement(manifest, stage.with_canary_of(model)):
            yield f"stages.{stage.name}.routed_canaries.{model}", message
    if stage.canary is None or stage.canary.judgement.agreement is None:
        return
    for model in stage.canary.serve:
        if not find_logging(manifest, stage, model):
            gap = find_gap(manifest, stage, model)
            yield f"stages.{stage.name}.canary", f"on AWS the agreement of {model} cannot be measured: {gap}"


def _is_routed(manifest: Manifest, stage: Stage) -> bool:
    return bool(stage.weights) or any(model.routing for model in manifest.models)


LOCALE_REMEDY = (
    "Export it with the locale C: to_onnx(model, X, options={TfidfVectorizer: {'locale': 'C'}}), and the same for "
    "CountVectorizer; in a graph of your own, set StringNormalizer's attribute `locale` to C. With it only ASCII "
    "letters change their case."
)


def locale_notes(signature: Signature) -> Iterator[str]:
    """Notes on models that need a locale, which AWS does not have."""
    if locales := signature.metadata.get("locales"):
        what = f"the model needs the locale {locales}, and Lambda has C and POSIX only: it cannot start there"
        yield f"{what}. {LOCALE_REMEDY}"


def find_locale_notes(signatures: Mapping[tuple[str, str], Signature]) -> Iterator[tuple[str, str]]:
    """Yield (path, sentence) of each version that needs a locale."""
    for (model, version), signature in signatures.items():
        for note in locale_notes(signature):
            yield f"models.{model}.versions.{version}.artifact", note
