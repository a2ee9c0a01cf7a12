"""Prepares a project's isolated functions: builds and unpacks packages and installs the runtime, all only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from turnout.gateway.editions.in_process import choose_functions
from turnout.gateway.functions.invocation import Current, Invocable, Wrap, no_wrap
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.limits import EnvironmentLimits, LocalSlots, Slots
from turnout.gateway.functions.isolated.process import OUTGOING_PORTS, FunctionCode
from turnout.gateway.rules.stored_tables import find_tables_folder
from turnout.gateway.services.invoke_api import InvokeApi
from turnout.gateway.services.invoke_server import invoke_server
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.packaging.build_progress import BuildProgress, ignore_progress
from turnout.plan.values import Plan
from turnout.project.project import Project

RUNTIME = "runtime"
"""The runtime's name in the progress display."""

MODELS = "models"
"""The subfolder for models of pooled versions."""

IDLE_S = 300.0
"""How long an environment waits for its next call; on Lambda it is some minutes."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """Settings of isolated functions.

    Args:
        max_environments: most environments of one function at once; 0 is one per processor.
        idle_s: time after which an idle environment is ended.
        ports: TCP ports to which models' functions may connect, besides their own Runtime API.
    """

    max_environments: int = 0
    idle_s: float = IDLE_S
    ports: tuple[int, ...] = OUTGOING_PORTS


def open_isolated(
    project: Project,
    plan: Plan,
    isolation: Isolation | None = None,
    *,
    progress: BuildProgress = ignore_progress,
    share: int = 1,
    make_slots: Callable[[str, int], Slots] = lambda _name, count: LocalSlots(count),
    before: IsolatedFunctions | None = None,
    budget: SessionBudget | None = None,
    wrap: Wrap = no_wrap,
) -> IsolatedFunctions:
    """Return the plan's functions, each to run in separate processes; none is started yet.

    Args:
        project: the manifest and its artifacts.
        plan: the project's plan.
        isolation: limits; None for the defaults.
        progress: called as packages are built, from other threads.
        share: how many processes serve together, each with its share of the environments.
        make_slots: see `IsolatedFunctions`.
        before: see `IsolatedFunctions`; if it is set, the packages are built when they are prepared.
        budget: see `IsolatedFunctions`.
        wrap: see `IsolatedFunctions`.

    Raises:
        LayerError: the layer or the runtime cannot be resolved; the message says why.
    """
    isolation = isolation or Isolation()
    environments = isolation.max_environments or os.cpu_count() or 1
    limits = EnvironmentLimits(max(1, environments // share), isolation.idle_s)
    _, refused = choose_functions(project, plan)
    pooled = {name: pool for name, pool in plan.pool_of.items() if name not in refused}
    if before is not None:
        codes = partial(prepare_codes, project, plan, progress, isolation.ports)
        return IsolatedFunctions(
            codes,
            limits,
            refused=refused,
            make_slots=make_slots,
            serve_invoke=serve_invoke,
            before=before,
            budget=budget,
            wrap=wrap,
            pooled=pooled,
        )
    made = prepare_codes(project, plan, progress, isolation.ports)
    return IsolatedFunctions(
        made,
        limits,
        refused=refused,
        make_slots=make_slots,
        serve_invoke=serve_invoke,
        budget=budget,
        wrap=wrap,
        pooled=pooled,
    )


def serve_invoke(functions: Invocable, names: Current) -> AbstractAsyncContextManager[Mapping[str, str]]:
    """Serve Lambda's Invoke API for these functions to one environment of a router."""
    return invoke_server(InvokeApi(functions, names).handle)


def prepare_codes(
    project: Project, plan: Plan, progress: BuildProgress = ignore_progress, ports: tuple[int, ...] = OUTGOING_PORTS
) -> list[FunctionCode]:
    """Return the code of each function's environments: build and unpack packages and install the runtime if missing.

    Raises:
        LayerError: the layer or the runtime cannot be resolved.
    """
    from turnout.packaging.build import HANDLER, BuildTarget, build_packages
    from turnout.packaging.pools import store_models
    from turnout.packaging.routers import ROUTER_HANDLER, find_routers
    from turnout.packaging.unpack import locked

    here, _ = choose_functions(project, plan)
    pooled = plan.pool_of
    pools = {pooled[function.name] for function in here if function.name in pooled}
    functions = [function for function in here if function.name not in pooled]
    functions += [function for function in plan.functions if function.kind == "pool" and function.name in pools]
    functions += [function for function in plan.functions if not function.runs_models]
    if not functions:
        return []
    folder = project.manifest.path.parent / ".turnout"
    with locked(folder / "isolated.lock"):
        built = build_packages(
            project,
            out=folder / "packages",
            target=BuildTarget(python=""),
            routers=find_routers(project, plan),
            progress=progress,
        )
        if pools:
            store_models(project, folder / MODELS)
        runtime = _install(folder / "runtime", progress)
        layers = {package.name: _unpack(package.path, folder) for package in built if package.kind == "layer"}
        packages = {package.name: package for package in built if package.kind == "function"}
        return [
            FunctionCode(
                function,
                HANDLER if function.runs_models else ROUTER_HANDLER,
                task=_unpack(packages[function.package].path, folder),
                layer=layers.get(packages[function.package].layer),
                runtime=runtime,
                ports=ports if function.runs_models else (),
                models=folder / MODELS if function.kind == "pool" else None,
                choices=None if function.runs_models or not plan.tables else find_tables_folder(folder),
            )
            for function in functions
        ]


def _install(parent: Path, progress: BuildProgress) -> Path:
    from turnout.packaging.runtime import install_runtime

    progress(RUNTIME, "started")
    runtime = install_runtime(parent)
    progress(RUNTIME, "built")
    return runtime


def _unpack(package: Path, folder: Path) -> Path:
    from turnout.packaging.unpack import unpack_zip

    return unpack_zip(package, folder / "unpacked")
