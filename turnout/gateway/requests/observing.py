"""Counts and captures asynchronous runs, separately from calls, because a 202 says nothing about the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.observers.capture import redactions_of, versions_of
from turnout.gateway.requests.pump import FinishedRun, Observe
from turnout.gateway.shared.counters import ASYNC, Counters
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.codecs.samples import make_sample, write_line
from turnout.protocol.naming import MODEL_HEADER, VERSION_HEADER


def observe_runs(
    counters: Counters,
    project: Project,
    plan: Plan,
    capture: Callable[[str], object] | None,
    deferred: Deferred,
    clock: Callable[[], float] = time.time,
) -> Observe:
    """Count each run, and capture those that reached a model and whose bodies are not files.

    Args:
        counters: the counters of all workers.
        project: the project, whose versions redact inputs.
        plan: the plan, whose functions are called.
        capture: called with each captured line, or None.
        deferred: makes the lines.
        clock: seconds since 1970.
    """
    versions, redactions = versions_of(plan), redactions_of(project)

    def observe(run: FinishedRun) -> None:
        claim = run.claim
        key = (claim.stage, claim.function, claim.is_canary, ASYNC)
        counters.record(key, run.status, run.seconds, failed=run.status >= 500)
        if capture is None or not run.body:
            return
        said = {name.lower(): value for name, value in run.headers}
        answered = versions.get(claim.function) or (said.get(MODEL_HEADER, ""), said.get(VERSION_HEADER, ""))
        if answered not in versions.values():
            return
        now = clock()

        def make() -> str | None:
            sample = make_sample(
                {name.lower(): value for name, value in run.event["headers"].items()},
                run.body,
                redactions.get(answered, ()),
                time=now,
                stage=claim.stage,
                model=answered[0],
                version=answered[1],
                canary=claim.is_canary,
                status=run.status,
                duration_ms=run.seconds * 1000,
                resource=run.event["resource"],
            )
            return None if sample is None else write_line(replace(sample, asynchronous=True)).decode()

        deferred.submit(len(run.body), make, lambda line: None if line is None else capture(line))

    return observe
