"""Compares replaced versions: both versions answer captured requests, each from its own tree."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from turnout.client.captured_lines import Sample, read_lines
from turnout.client.outputs import PREDICTIONS, UnreadableAnswerError, read_outputs
from turnout.manifest.judgement import OutputRule
from turnout.manifest.parser import Manifest, Stage, Version
from turnout.project.project import Project
from turnout.protocol.tensors.image_input import ImageInput
from turnout.replay.comparison import compare_outputs
from turnout.replay.example_runs import ExampleReply
from turnout.replay.replay import Pair, SampleReply, without_version
from turnout.review.changes import AGREEMENT, DISAGREEMENT, Change
from turnout.wording import listed, printable, shorten

MOST_SAMPLES = 1000
"""Most requests of a model that are compared; the latest ones are used."""

Ask = Callable[[Version, Sample], ExampleReply]
"""Sends a captured request to a version."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A version that answers requests which another one answered before the change.

    Args:
        model: the model's name.
        before: the version at the revision that gets most of the stage's requests.
        after: the version in the working tree; it has the same name if its files change.
        stages: stages whose requests it answers.
        floor: the share of answers that must agree.
        rules: output -> when two of its values agree.
    """

    model: str
    before: str
    after: str
    stages: tuple[str, ...]
    floor: float = 1.0
    rules: Mapping[str, OutputRule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplacedAgreement:
    """How often the answers of both versions agree.

    Args:
        replaced: the two versions.
        compared: number of requests that at least one of them answered.
        agreed: those whose outputs agree.
        reason: why nothing was compared, or empty.
    """

    replaced: Replaced
    compared: int = 0
    agreed: int = 0
    reason: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether enough answers agree."""
        return self.agreed >= self.replaced.floor * self.compared

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        replaced = self.replaced
        return {
            "model": replaced.model,
            "before": replaced.before,
            "after": replaced.after,
            "stages": list(replaced.stages),
            "floor": replaced.floor,
            "compared": self.compared,
            "agreed": self.agreed,
            "reason": self.reason,
        }

    def change(self) -> Change:
        """Return it as a line of the review."""
        replaced = self.replaced
        subject = f"{replaced.model}: {describe_versions(replaced)} in {listed(replaced.stages)}"
        if self.reason:
            return Change(AGREEMENT, subject, f"not compared: {self.reason}")
        share = 100 * self.agreed / self.compared
        text = f"{self.agreed:,} of {self.compared:,} answers to captured requests agree ({share:.4g}%)"
        if self.is_kept:
            return Change(AGREEMENT, subject, text)
        return Change(DISAGREEMENT, subject, f"{text}; {100 * replaced.floor:g}% must")


def describe_versions(replaced: Replaced) -> str:
    """Return `v2 instead of v1`, or `v1 with other files`."""
    if replaced.before == replaced.after:
        return f"{replaced.after} with other files"
    return f"{replaced.after} instead of {replaced.before}"


def find_replaced(before: Project, after: Project) -> tuple[Replaced, ...]:
    """Return each version that replaces another one, once, in the order of the file."""
    seen: dict[tuple[str, str, str], Replaced] = {}
    former = {stage.name: stage for stage in before.manifest.stages}
    for stage in after.manifest.stages:
        for model, old, new in _moved(former.get(stage.name), stage, before, after):
            rules, floor = _asked(after.manifest, stage, model)
            known = seen.get((model, old, new))
            stages = (*(known.stages if known else ()), stage.name)
            seen[model, old, new] = Replaced(model, old, new, stages, floor, rules)
    return tuple(seen.values())


def _moved(old: Stage | None, new: Stage, before: Project, after: Project) -> Iterator[tuple[str, str, str]]:
    """Return model, the version that answered, and the one that answers now."""
    for model in after.manifest.models if old is not None else ():
        served = versions_of(old, model.name) if old is not None else {}
        if not served or model.graph is not None:
            continue
        main = max(served, key=lambda version: served[version])
        serving, tested = versions_of(new, model.name), _tested(new, model.name)
        for version in dict.fromkeys((*serving, *tested)):
            is_tested_already = version not in serving and version in _tested(old, model.name)
            if version not in served and not is_tested_already:
                yield model.name, main, version
            elif files_differ(before, after, model.name, version):
                yield model.name, version, version


def _tested(stage: Stage | None, model: str) -> tuple[str, ...]:
    """Return the version of a model that the stage's canary tests."""
    canary = stage.canary if stage is not None else None
    return (canary.serve[model],) if canary is not None and model in canary.serve else ()


def versions_of(stage: Stage, model: str) -> Mapping[str, float]:
    """Return the versions that answer a model's calls in a stage, each with its percentage; none for another model."""
    if model in stage.weights:
        return {version: share for version, share in stage.weights[model].items() if share}
    return {stage.serve[model]: 100.0} if model in stage.serve else {}


def files_differ(before: Project, after: Project, model: str, version: str) -> bool:
    """Whether a version's model file, transform or reading of images differs between the two trees."""
    old, new = (project.artifacts.get((model, version)) for project in (before, after))
    if old is not None and new is not None and old.sha256 != new.sha256:
        return True
    if _image_of(before, model, version) != _image_of(after, model, version):
        return True
    return _transform_of(before, model, version) != _transform_of(after, model, version)


def _image_of(project: Project, model: str, version: str) -> ImageInput | None:
    return next((entry.image for entry in project.manifest.model(model).versions if entry.name == version), None)


def _transform_of(project: Project, model: str, version: str) -> bytes | None:
    entry = next((entry for entry in project.manifest.model(model).versions if entry.name == version), None)
    if entry is None or not entry.transform:
        return None
    path = project.manifest.path.parent / entry.transform
    return path.read_bytes() if path.is_file() else None


def _asked(manifest: Manifest, stage: Stage, model: str) -> tuple[Mapping[str, OutputRule], float]:
    """Return the rules and the floor of a model's canary in models.yaml; without any, all answers must agree."""
    judgement = manifest.judgement
    if model in stage.routed:
        judgement = stage.routed[model].judgement
    elif stage.canary is not None:
        judgement = stage.canary.judgement
    return (judgement.agreement.rules, judgement.agreement.floor) if judgement.agreement else ({}, 1.0)


def find_graphs(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """Return a line for each graph that changes: a graph has no versions, and its steps are compared separately."""
    former = {model.name: model.graph for model in before.models if model.graph is not None}
    changed = [model.name for model in after.models if former.get(model.name, model.graph) != model.graph]
    text = "not compared: it is a graph, and only single versions are run"
    return tuple(Change(AGREEMENT, name, text) for name in changed)


def read_samples(file: Path) -> dict[str, Sequence[Sample]]:
    """Return the latest captured requests of each model.

    Raises:
        CaptureError, OSError: the file cannot be read.
    """
    kept: dict[str, deque[Sample]] = {}
    with file.open("rb") as stream:
        for line in read_lines(stream):
            for sample in line.samples:
                kept.setdefault(sample.model, deque(maxlen=MOST_SAMPLES)).append(sample)
    return {model: tuple(samples) for model, samples in kept.items()}


def compare_replaced(
    replaced: Replaced, samples: Sequence[Sample], before: Project, after: Project, ask: tuple[Ask, Ask]
) -> ReplacedAgreement:
    """Let both versions answer the model's captured requests, and count the answers that agree.

    Args:
        replaced: the two versions.
        samples: samples of the model.
        before: the project at the revision.
        after: the working tree.
        ask: sends a request to a version before and after the change.
    """
    sides = ((before, replaced.before, "at the revision"), (after, replaced.after, "in the working tree"))
    if reason := find_gap(replaced, samples, sides):
        return ReplacedAgreement(replaced, reason=reason)
    replies: list[list[SampleReply]] = []
    for (project, name, where), send in zip(sides, ask, strict=True):
        version = project.manifest.model(replaced.model).version(name)
        answers = [send(version, without_version(sample)) for sample in samples]
        problems = [answer.problem for answer in answers if answer.problem]
        if len(problems) == len(answers):
            reason = f"{name} {where} does not run on this machine: {shorten(printable(problems[0]))}"
            return ReplacedAgreement(replaced, reason=reason)
        replies.append([_read(answer) for answer in answers])
    verdicts = [verdict for verdict in _judge(replaced, samples, replies) if verdict is not None]
    if not verdicts:
        return ReplacedAgreement(replaced, reason=f"both reject all {len(samples):,} captured requests")
    return ReplacedAgreement(replaced, len(verdicts), sum(verdicts))


def find_gap(replaced: Replaced, samples: Sequence[Sample], sides: Iterable[tuple[Project, str, str]]) -> str:
    """Return why two versions cannot be compared; empty if they can."""
    if not samples:
        return f"the capture has no requests to {replaced.model}"
    for project, name, where in sides:
        version = project.manifest.model(replaced.model).version(name)
        if (replaced.model, name) not in project.artifacts:
            return f"the model file of {name} {where} is not on this machine"
        if version.capture is not None and version.capture.redact:
            return f"requests to {name} are captured redacted (`capture.redact` {where})"
    return ""


def _judge(
    replaced: Replaced, samples: Sequence[Sample], replies: Sequence[Sequence[SampleReply]]
) -> Iterator[bool | None]:
    rules = dict(replaced.rules)
    if len(rules) == 1:
        rules.setdefault(PREDICTIONS, *rules.values())  # unnamed rows do not name their output
    for number, (sample, old, new) in enumerate(zip(samples, *replies, strict=True)):
        comparison = None
        if old.outputs is not None and new.outputs is not None:
            comparison = compare_outputs(old.outputs, new.outputs, rules)
        yield Pair(number, sample, new, old, comparison, (replaced.before, replaced.after)).agrees


def _read(reply: ExampleReply) -> SampleReply:
    if reply.problem:  # a crash or a timeout, which API Gateway answers with 502
        return SampleReply(HTTPStatus.BAD_GATEWAY, reply.elapsed_ms, error=reply.problem)
    if reply.status != HTTPStatus.OK:
        return SampleReply(reply.status, reply.elapsed_ms, error=reply.body[:500].decode(errors="replace"))
    try:
        return SampleReply(reply.status, reply.elapsed_ms, read_outputs(reply.headers, reply.body))
    except UnreadableAnswerError as error:
        return SampleReply(reply.status, reply.elapsed_ms, error=str(error))
