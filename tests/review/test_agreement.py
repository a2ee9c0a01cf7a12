"""Versions that a change replaces, and how often both versions' answers agree, with fake versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.builders.graphs import write_identity
from turnout.manifest.parser import Version
from turnout.project.project import Project, load_project
from turnout.protocol.codecs.samples import Sample
from turnout.replay.example_runs import ExampleReply
from turnout.review.agreement import (
    Ask,
    Replaced,
    compare_replaced,
    find_graphs,
    find_replaced,
)
from turnout.review.changes import AGREEMENT, DISAGREEMENT

MANIFEST = """\
models:
  echo: {versions: {v1: {artifact: a.onnx}, v2: {artifact: a.onnx}, v3: {artifact: a.onnx}}}
  both:
    graph: {model: echo, version: v1}
stages:
  dev: {serve: {echo: v1}}
  prod: {serve: {echo: v1}}
"""
REPLACED = Replaced("echo", "v1", "v2", ("prod",))


@pytest.fixture
def projects(tmp_path: Path) -> Callable[..., tuple[Project, Project]]:
    """Make the project at the revision and that of the working tree, with one replacement in its models.yaml."""

    def make(old: str = "", new: str = "", base: str = MANIFEST) -> tuple[Project, Project]:
        loaded = []
        for name, text in (("before", base), ("after", base.replace(old, new) if old else base)):
            folder = tmp_path / name
            folder.mkdir()
            write_identity(folder / "a.onnx")
            (folder / "models.yaml").write_text(text)
            loaded.append(load_project(folder, cache=False))
        return loaded[0], loaded[1]

    return make


def sample(value: float = 1.0) -> Sample:
    body = orjson.dumps({"instances": [[value, 2, 3, 4]]})
    return Sample(1.0, "prod", "echo", "v1", False, "application/json", None, body, 200, 1.0)


def answering(respond: Callable[[str, float], ExampleReply]) -> Ask:
    def ask(version: Version, request: Sample) -> ExampleReply:
        return respond(version.name, orjson.loads(request.body)["instances"][0][0])

    return ask


def reply(*values: float, status: int = 200) -> ExampleReply:
    return ExampleReply(status, {}, orjson.dumps({"predictions": [list(map(int, values))]}), 1.0)


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ("", "", []),
        ("prod: {serve: {echo: v1}}", "prod: {serve: {echo: v2}}", [("v1", "v2", ("prod",))]),
        ("{echo: v1}}", "{echo: v2}}", [("v1", "v2", ("dev", "prod"))]),
        ("prod: {serve: {echo: v1}", "prod: {weights: {echo: {v1: 90, v3: 10}}", [("v1", "v3", ("prod",))]),
        (
            "prod: {serve: {echo: v1}",
            "prod: {serve: {echo: v1}, canary: {percent: 5, serve: {echo: v2}}",
            [("v1", "v2", ("prod",))],
        ),
        (
            "prod: {serve: {echo: v1}",
            "prod: {serve: {echo: v1}, routed_canaries: {echo: {version: v3, percent: 5}}",
            [("v1", "v3", ("prod",))],
        ),
        ("  dev:", "  new: {serve: {echo: v3}}\n  dev:", []),
    ],
)
def test_version_that_gets_anothers_requests_is_a_replacement(
    projects: Callable[..., tuple[Project, Project]], old: str, new: str, pairs: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    replaced = find_replaced(*projects(old, new))
    assert [(entry.before, entry.after, entry.stages) for entry in replaced] == pairs


def test_promoted_canary_is_a_replacement_and_a_continued_one_is_not(
    projects: Callable[..., tuple[Project, Project]],
) -> None:
    canary = "prod: {serve: {echo: v1}, canary: {percent: 5, serve: {echo: v2}}}"
    base = MANIFEST.replace("prod: {serve: {echo: v1}}", canary)
    before, after = projects("percent: 5", "percent: 9", base)
    assert find_replaced(before, after) == ()
    promoted = after.manifest.stages[1]
    promoted = replace(promoted, serve={"echo": "v2"}, canary=None)
    after = replace(after, manifest=replace(after.manifest, stages=(after.manifest.stages[0], promoted)))
    assert [(entry.before, entry.after) for entry in find_replaced(before, after)] == [("v1", "v2")]


def test_changed_file_with_the_same_name_replaces_the_version(projects: Callable[..., tuple[Project, Project]]) -> None:
    before, after = projects()
    write_identity(after.manifest.path.parent / "a.onnx", shape=("batch", 5))
    after = load_project(after.manifest.path, cache=False)
    (replaced,) = find_replaced(before, after)
    assert (replaced.before, replaced.after, replaced.stages) == ("v1", "v1", ("dev", "prod"))
    ask = answering(lambda *_: reply(1))
    subject = compare_replaced(replaced, (), before, after, (ask, ask)).change().subject
    assert subject == "echo: v1 with other files in dev, prod"


def test_floor_and_rules_are_read_from_the_canary(projects: Callable[..., tuple[Project, Project]]) -> None:
    new = "prod: {serve: {echo: v1}, canary: {percent: 5, serve: {echo: v2}, agreement: {percent: 1, floor: 0.5}}}"
    (replaced,) = find_replaced(*projects("prod: {serve: {echo: v1}}", new))
    assert replaced.floor == 0.5


CRASHED = ExampleReply(0, {}, b"", 1.0, "crashed")
DOES_NOT_RUN = "not compared: v2 in the working tree does not run on this machine: crashed"


@pytest.mark.parametrize(
    ("new", "floor", "kind", "text"),
    [
        (lambda value: reply(value, 2), 1.0, AGREEMENT, "4 of 4 answers to captured requests agree (100%)"),
        (lambda value: reply(value, 9 if value == 1 else 2), 1.0, DISAGREEMENT, "3 of 4"),
        (lambda value: reply(value, 9 if value == 1 else 2), 0.75, AGREEMENT, "3 of 4"),
        (lambda value: reply(status=422) if value == 2 else reply(value, 2), 1.0, DISAGREEMENT, "3 of 4"),
        (lambda value: CRASHED if value == 2 else reply(value, 2), 1.0, DISAGREEMENT, "3 of 4"),
        (lambda _: CRASHED, 1.0, AGREEMENT, DOES_NOT_RUN),
    ],
)
def test_agreeing_answers_are_counted(
    projects: Callable[..., tuple[Project, Project]],
    new: Callable[[float], ExampleReply],
    floor: float,
    kind: str,
    text: str,
) -> None:
    before, after = projects()
    old = answering(lambda _, value: reply(value, 2))
    asks = (old, answering(lambda _, value: new(value)))
    samples = [sample(float(value)) for value in (1, 2, 3, 4)]
    change = compare_replaced(replace(REPLACED, floor=floor), samples, before, after, asks).change()
    assert change.kind == kind
    assert text in change.text


def test_reason_is_given_if_nothing_can_be_compared(projects: Callable[..., tuple[Project, Project]]) -> None:
    before, after = projects()
    rejecting = answering(lambda *_: reply(status=422))

    def reason(before: Project, after: Project, samples: list[Sample]) -> str:
        return compare_replaced(REPLACED, samples, before, after, (rejecting, rejecting)).reason

    assert reason(before, after, []) == "the capture has no requests to echo"
    assert reason(before, after, [sample()]) == "both reject all 1 captured requests"
    missing = replace(after, artifacts={})
    assert reason(before, missing, [sample()]) == "the model file of v2 in the working tree is not on this machine"


def test_changed_graph_is_reported(projects: Callable[..., tuple[Project, Project]]) -> None:
    before, after = projects("version: v1}", "version: v2}")
    assert find_graphs(before.manifest, before.manifest) == ()
    (change,) = find_graphs(before.manifest, after.manifest)
    assert (change.kind, change.subject) == (AGREEMENT, "both")
