"""Checks tensor names in the manifest, in `capture` and `agreement`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from turnout.manifest.judgement import Agreement
from turnout.manifest.parser import Manifest
from turnout.problems import Problem
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.wording import did_you_mean, listed
from turnout.yaml_text.reader import KeyPath

Signatures = Mapping[tuple[str, str], Signature]


def check_named_tensors(manifest: Manifest, signatures: Signatures) -> Iterator[Problem]:
    """Yield names that no tensor has; nothing if a version was not read."""
    for (model, version), signature in signatures.items():
        capture = manifest.model(model).version(version).capture
        path = ("models", model, "versions", version, "capture", "redact")
        for index, name in enumerate(capture.redact if capture else ()):
            yield from _check(manifest, (*path, index), name, "input", signature.inputs)
    shared = manifest.judgement.agreement
    versions = [(model.name, version.name) for model in manifest.models for version in model.versions]
    yield from _check_rules(manifest, ("defaults", "canary"), shared, versions, signatures)
    for stage in manifest.stages:
        # A stage's rules apply to the models that its canary moves; the default rules apply to any model.
        if stage.canary is not None and stage.canary.judgement.agreement != shared:
            agreement, moved = stage.canary.judgement.agreement, stage.canary.serve.items()
            yield from _check_rules(manifest, ("stages", stage.name, "canary"), agreement, moved, signatures)
        for model, routed in stage.routed.items():
            if routed.judgement.agreement != shared:
                where = ("stages", stage.name, "routed_canaries", model)
                rules = routed.judgement.agreement
                yield from _check_rules(manifest, where, rules, [(model, routed.version)], signatures)


def _check_rules(
    manifest: Manifest,
    path: KeyPath,
    agreement: Agreement | None,
    versions: Iterable[tuple[str, str]],
    signatures: Signatures,
) -> Iterator[Problem]:
    outputs: list[TensorSpec] = []
    for key in versions:
        if key not in signatures:
            return
        outputs += signatures[key].outputs
    for name in agreement.rules if agreement else ():
        yield from _check(manifest, (*path, "agreement", "rules", name), name, "output", outputs)


def _check(manifest: Manifest, path: KeyPath, name: str, kind: str, tensors: Iterable[TensorSpec]) -> Iterator[Problem]:
    known = list(dict.fromkeys(tensor.name for tensor in tensors))
    if name not in known:
        message = f"unknown {kind} `{name}`{did_you_mean(name, known)}"
        yield manifest.problem(path, message, f"Known {kind}s: {listed(known)}.")
