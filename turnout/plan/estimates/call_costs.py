"""Estimates the costs of a million calls of each version and graph on AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from turnout.manifest.parser import CallNode, Manifest, Node, SequenceNode, SwitchNode
from turnout.plan.values import Function, Plan
from turnout.protocol.routing.graph_nodes import children_of

LOG_LINE_BYTES = 600
"""Size of a request's line in the access log."""

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class MillionCalls:
    """The costs of a million calls, dollars.

    Args:
        model: the model's name.
        version: the version's name; empty for a graph.
        via: `direct`, `shared` (through the general router), `router` or `graph`.
        api_gateway: dollars for the requests.
        calls: dollars for the functions' calls.
        running: dollars for the functions' seconds.
        log: dollars for a line of access log each.
    """

    model: str
    version: str
    via: str
    api_gateway: float
    calls: float
    running: float
    log: float

    @property
    def dollars(self) -> float:
        """Return the sum."""
        return self.api_gateway + self.calls + self.running + self.log


@dataclass(frozen=True, slots=True)
class Run:
    """The functions that run for a request.

    Args:
        calls: number of function calls.
        running: dollars for the seconds of a million requests.
        duration_ms: time until the answer.
    """

    calls: float = 0.0
    running: float = 0.0
    duration_ms: float = 0.0

    def beside(self, other: Run) -> Run:
        """Return the run of both in parallel."""
        return Run(self.calls + other.calls, self.running + other.running, max(self.duration_ms, other.duration_ms))

    def before(self, other: Run) -> Run:
        """Return the run of both, one after the other."""
        return Run(self.calls + other.calls, self.running + other.running, self.duration_ms + other.duration_ms)


def gigabytes_of(function: Function) -> float:
    """Return a function's memory, as Lambda bills it."""
    return function.settings.memory_mb / 1024


class CallCosts:
    """The costs of calls of a plan's functions.

    Args:
        plan: plan of `manifest`.
        manifest: the manifest, with prices and shadows.
        call_ms: duration of a version's call.
    """

    def __init__(self, plan: Plan, manifest: Manifest, call_ms: float) -> None:
        functions = plan.unpooled_functions
        self._functions = {(function.kind, function.model, function.version): function for function in functions}
        self._shared, self._general = plan.shared, self._functions["general_router", "", ""]
        self._manifest = manifest
        self._prices = manifest.prices
        self._call_ms = call_ms

    def rows(self) -> Iterator[MillionCalls]:
        """Yield a row for each version by its own path, another through its model's router, and one for each graph."""
        for model in self._manifest.models:
            router = self._functions.get(("router", model.name, ""))
            shared = model.name in self._shared
            for version in model.versions:
                run = self._version(model.name, version.name)
                if shared:
                    run = run.beside(self._run(self._general, run.duration_ms))
                yield self._estimate(model.name, version.name, "shared" if shared else "direct", run)
                if router is not None:
                    through = run.beside(self._shadow(model.name)).beside(self._run(router, run.duration_ms))
                    yield self._estimate(model.name, version.name, "router", through)
            if model.graph is not None and router is not None:
                steps = self._node(model.graph)
                run = steps.beside(self._run(router, steps.duration_ms))
                if shared:
                    run = run.beside(self._run(self._general, run.duration_ms))
                yield self._estimate(model.name, "", "graph", run)

    def _estimate(self, model: str, version: str, via: str, run: Run) -> MillionCalls:
        log = MILLION * LOG_LINE_BYTES / 1e9 * self._prices.log_gb
        calls = run.calls * self._prices.lambda_million
        return MillionCalls(model, version, via, self._prices.api_gateway_million, calls, run.running, log)

    def _run(self, function: Function, duration_ms: float) -> Run:
        is_arm = function.settings.architecture == "arm64"
        price = self._prices.lambda_arm64_gb_s if is_arm else self._prices.lambda_x86_64_gb_s
        return Run(1, MILLION * duration_ms / 1000 * gigabytes_of(function) * price, duration_ms)

    def _version(self, model: str, version: str) -> Run:
        return self._run(self._functions["model", model, version], self._call_ms)

    def _shadow(self, model: str) -> Run:
        """Return the copies that a router sends without waiting for answers."""
        routing = self._manifest.model(model).routing
        if not routing.shadow_version:
            return Run()
        copy, share = self._version(model, routing.shadow_version), routing.shadow_percent / 100
        return Run(copy.calls * share, copy.running * share)

    def _node(self, node: Node) -> Run:
        """Return the run of a graph's node.

        Its graphs run in the same router; models with a router are routed there.
        """
        match node:
            case CallNode(model, version):
                return self._step(model, version)
            case SwitchNode():
                cases = [self._node(child) for _, child in children_of(node)]
                return max(cases, key=lambda run: run.calls * self._prices.lambda_million + run.running)
        total = Run()
        for _, child in children_of(node):
            run = self._node(child)
            total = total.before(run) if isinstance(node, SequenceNode) else total.beside(run)
        return total

    def _step(self, name: str, version: str) -> Run:
        model = self._manifest.model(name)
        if model.graph is not None:
            return self._node(model.graph)
        if version:
            return self._version(name, version)
        versions = (self._version(name, version.name) for version in model.versions)
        return max(versions, key=lambda run: run.running).beside(self._shadow(name))
