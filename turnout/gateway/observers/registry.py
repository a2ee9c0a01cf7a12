"""The list of what is called after each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from turnout.gateway.api.exchange import Observer
from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.observers.capture import capture_requests, redactions_of
from turnout.gateway.observers.counting import count_requests
from turnout.gateway.observers.sampling import routed_of, sample_requests, shares_of
from turnout.gateway.shared.counters import Counters
from turnout.gateway.shared.samples import SharedSamples
from turnout.plan.values import Plan
from turnout.project.project import Project


@dataclass(frozen=True, slots=True)
class Outlets:
    """The outputs of the observers, in this process and for every edition.

    Args:
        counters: counters of all workers.
        samples: samples of all workers.
        deferred: makes the lines of large bodies.
        capture: writes a captured line; None if nothing is captured.
        access_log: writes a line for each request; None for no access log.
        callers: counters of all workers, by consumer; None counts none.
        trace: ends the span of each request; None if requests are not traced.
    """

    counters: Counters
    samples: SharedSamples
    deferred: Deferred
    capture: Callable[[str], object] | None = None
    access_log: Observer | None = None
    callers: Counters | None = None
    trace: Observer | None = None


def make_observers(outlets: Outlets, project: Project, plan: Plan) -> tuple[Observer, ...]:
    """Return the observers of one edition, in call order."""
    sampling = sample_requests(
        outlets.samples,
        shares_of(project.manifest),
        plan,
        deferred=outlets.deferred,
        redactions=redactions_of(project),
        routed=routed_of(project.manifest),
    )
    capturing = outlets.capture and capture_requests(outlets.capture, project, plan, outlets.deferred)
    known = frozenset(function.name for function in plan.unpooled_functions if function.model)
    counting = count_requests(outlets.counters, outlets.callers, known=known)
    observers = (capturing, sampling, counting, outlets.access_log, outlets.trace)
    return tuple(observe for observe in observers if observe is not None)
