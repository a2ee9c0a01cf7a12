"""Sends every example of every version to that version, and compares the answers with the expected ones.

An `Ask` sends the requests: to functions in this process, to isolated ones, or to a server. Each request is sent when
its result is read, so results can be shown during a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

import orjson

from turnout.artifacts.examples import Example, matches
from turnout.client.refusals import find_hint
from turnout.manifest.parser import Manifest, Version
from turnout.project.project import Project
from turnout.replay.sample_request import known

MOST_CHARACTERS = 500
"""Most characters that are shown of an answer in an unknown format."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class RunOutcome(StrEnum):
    """The outcome of one example."""

    PASSED = "passed"
    FAILED = "failed"
    """The version gave another answer, or rejected the request."""
    ERROR = "error"
    """There was no answer."""
    SKIPPED = "skipped"
    """No request was sent: the version has no examples, or cannot run here."""


@dataclass(frozen=True, slots=True)
class ExampleReply:
    """The answer to one request.

    Args:
        status: HTTP status; 0 without an answer.
        headers: with names in lower case.
        body: body of the answer.
        elapsed_ms: time from the request to the answer.
        problem: why there was no answer, or empty.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float
    problem: str = ""


Ask = Callable[[Version, bytes], ExampleReply]
"""Sends a JSON body to a version."""


@dataclass(frozen=True, slots=True)
class ExampleRun:
    """One example and its outcome.

    Args:
        model: the model's name.
        version: the version's name.
        example: the example's name; empty if a version as a whole is skipped.
        outcome: whether it passed.
        reasons: differences and errors, a sentence each.
        elapsed_ms: time until the answer.
    """

    model: str
    version: str
    example: str
    outcome: RunOutcome
    reasons: tuple[str, ...] = ()
    elapsed_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the run for programs."""
        return {
            "model": self.model,
            "version": self.version,
            "example": self.example,
            "outcome": str(self.outcome),
            "reasons": list(self.reasons),
            "elapsed_ms": round(self.elapsed_ms, 3),
        }


def choose_versions(manifest: Manifest, target: str) -> tuple[Version, ...]:
    """Return the versions of `MODEL`, of `MODEL/VERSION`, or all for an empty text.

    Raises:
        UnknownNameError: there is no such model or version.
        ValueError: the model is a graph, which has no examples.
    """
    if not target:
        return tuple(version for model in manifest.models for version in model.versions)
    name, slash, version = target.partition("/")
    model = manifest.model(known("model", name, [entry.name for entry in manifest.models]))
    if model.graph is not None:
        raise ValueError(f"{name} is a graph: it has neither versions nor examples")
    if not slash:
        return model.versions
    return (model.version(known(f"version of {name}", version, [entry.name for entry in model.versions])),)


def run_examples(
    project: Project, versions: Iterable[Version], ask: Ask, *, needs_artifact: bool
) -> Iterator[ExampleRun]:
    """Yield the run of each example; a version that cannot be called is one skipped run.

    Args:
        project: the manifest and its artifacts.
        versions: versions to test.
        ask: sends a request to a version.
        needs_artifact: whether `ask` can reach only versions whose artifact is on this machine.
    """
    for version in versions:
        examples = project.examples_of(version)
        artifact = project.artifacts.get((version.model, version.name))
        reason = "no examples" if not examples else ""
        if examples and artifact is None and needs_artifact:
            reason = "its artifact is not on this machine"
        if reason:
            yield ExampleRun(version.model, version.name, "", RunOutcome.SKIPPED, (reason,))
            continue
        for example in examples:
            reply = ask(version, orjson.dumps(example.request))
            outcome, reasons = judge(example, reply, artifact.sha256[:12] if artifact else version.sha256[:12])
            yield ExampleRun(version.model, version.name, example.name, outcome, reasons, reply.elapsed_ms)


def judge(example: Example, reply: ExampleReply, digest: str) -> tuple[RunOutcome, tuple[str, ...]]:
    """Return whether a reply matches an example, and the reasons if not.

    Args:
        example: the request and the expected answer.
        reply: the answer.
        digest: the first 12 characters of the artifact's sha256: an answer of another artifact proves nothing.
    """
    if reply.problem:
        return RunOutcome.ERROR, (reply.problem,)
    try:
        body = json.loads(reply.body)
    except ValueError:
        body = None
    if reply.status != 200:
        hint = find_hint(reply.headers, is_listed=True)
        return RunOutcome.FAILED, (f"HTTP {reply.status}{_said(body, reply.body)}", *((hint,) if hint else ()))
    if not isinstance(body, Mapping):
        return RunOutcome.FAILED, (f"the answer is not a JSON object{_said(None, reply.body)}",)
    reasons = tuple(matches(example, body))
    served = reply.headers.get("x-turnout-digest", digest)
    if served != digest:
        reasons = (f"the server runs another artifact: its digest is {served}, this project's is {digest}", *reasons)
    return (RunOutcome.FAILED if reasons else RunOutcome.PASSED), reasons


def _said(body: Any, raw: bytes) -> str:
    """Return code and sentence of an error by Turnout or API Gateway; else the answer's start."""
    if isinstance(body, Mapping) and (sentence := body.get("error") or body.get("message")):
        return f" {body['code']}: {sentence}" if "code" in body else f": {sentence}"
    text = raw[:MOST_CHARACTERS].decode(errors="replace")
    return f": {text}" if text else ""


def make_junit(runs: Iterable[ExampleRun]) -> bytes:
    """Return the runs as JUnit XML: a test suite for each version, a test case for each example."""
    root = ElementTree.Element("testsuites", name="turnout test")
    suites: dict[str, list[ExampleRun]] = {}
    for run in runs:
        suites.setdefault(f"{run.model}/{run.version}", []).append(run)
    for name, suite_runs in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(suite_runs)})
        for result in suite_runs:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=name,
                name=_xml_text(result.example or "examples"),
                time=f"{result.elapsed_ms / 1000:.6f}",
            )
            _add_result(case, result)
    for key, value in _counts([run for suite_runs in suites.values() for run in suite_runs]).items():
        root.set(key, value)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


_TAGS = {RunOutcome.FAILED: "failure", RunOutcome.ERROR: "error", RunOutcome.SKIPPED: "skipped"}


def _add_result(case: ElementTree.Element, run: ExampleRun) -> None:
    if run.outcome in _TAGS:
        message, *_ = run.reasons or ("",)
        result = ElementTree.SubElement(case, _TAGS[run.outcome], message=_xml_text(message))
        if run.outcome is not RunOutcome.SKIPPED:
            result.text = _xml_text("\n".join(run.reasons))


def _counts(runs: list[ExampleRun]) -> dict[str, str]:
    def count(outcome: RunOutcome) -> str:
        return str(sum(run.outcome is outcome for run in runs))

    return {
        "tests": str(len(runs)),
        "failures": count(RunOutcome.FAILED),
        "errors": count(RunOutcome.ERROR),
        "skipped": count(RunOutcome.SKIPPED),
        "time": f"{sum(run.elapsed_ms for run in runs) / 1000:.6f}",
    }


def _xml_text(text: str) -> str:
    """Return the text without characters that XML 1.0 does not allow."""
    return _NOT_XML.sub("\ufffd", text)
