"""Binds the plan's functions and routers to the code that Lambda runs for them and to the files on this machine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from turnout.artifacts.session_size import estimate_session_bytes
from turnout.gateway.editions.edition import Edition, check_files, open_tables
from turnout.gateway.editions.switch import EditionFunctions
from turnout.gateway.functions.in_process.functions import InProcessFunctions
from turnout.gateway.functions.in_process.hosted_function import Runnable
from turnout.gateway.functions.in_process.hosted_router import Answering, RouterCode
from turnout.gateway.functions.lambda_context import Cancellation
from turnout.layout import model_lambdas_package, router_lambda_package
from turnout.manifest.values import Manifest
from turnout.packaging.catalogue import make_catalogue
from turnout.packaging.route_tables import make_route_table
from turnout.plan.values import Function, Plan
from turnout.project.project import CACHE_DIR, Project
from turnout.protocol.routing.choice_tables import FindTable
from turnout.protocol.routing.invocation import Invoke
from turnout.runtimes.registry import RUNTIMES
from turnout.trials.checks import make_trials, note_of, try_version

log = logging.getLogger("turnout.functions")

NO_ARTIFACT = "its artifact is not on this machine"


class UnopenedError(Exception):
    """A version that could not be opened in a trial."""


def make_functions(
    project: Project, plan: Plan, *, documents: Mapping[str, Mapping[str, Any]] | None = None, **limits: Any
) -> InProcessFunctions:
    """Make the functions of routers and of versions whose artifact is on this machine; reject others with the reason.

    Args:
        project: the manifest and its artifacts.
        plan: the project's plan.
        documents: the name of an API -> its document, if they were built already.
        limits: see `InProcessFunctions`.
    """
    here, refused = choose_functions(project, plan)
    manifest = project.manifest
    return InProcessFunctions(
        here,
        make_model_functions(project),
        make_cancellation,
        routers=make_router_codes(project, plan, documents),
        refused=refused,
        with_transform=frozenset(function.name for function in here if _runs_own_code(manifest, function)),
        off_loop=frozenset(
            function.name
            for function in here
            if project.artifacts[function.model, function.version].operators.follows_values
        ),
        session_bytes={
            function.name: estimate_session_bytes(project.artifacts[function.model, function.version].size_bytes)
            for function in here
        },
        **limits,
    )


def edition_functions(edition: Edition, before: EditionFunctions | None, **limits: Any) -> InProcessFunctions:
    """Make an edition's functions. Unchanged ones are taken over from the previous edition."""
    assert before is None or isinstance(before, InProcessFunctions)
    return make_functions(
        edition.project,
        edition.plan,
        documents=edition.documents,
        digests={name: fingerprint.digest for name, fingerprint in edition.fingerprints.items()},
        before=before,
        check=partial(check_files, edition.fingerprints),
        **limits,
    )


def choose_functions(project: Project, plan: Plan) -> tuple[list[Function], dict[str, str]]:
    """Return the model functions that can run here, and for the others: name -> the reason."""
    models = [function for function in plan.unpooled_functions if function.kind == "model"]
    here = [function for function in models if (function.model, function.version) in project.artifacts]
    names = {function.name for function in here}
    return here, {function.name: NO_ARTIFACT for function in models if function.name not in names}


def _runs_own_code(manifest: Manifest, function: Function) -> bool:
    """Whether the version runs its owner's Python, which may take any time."""
    version = manifest.model(function.model).version(function.version)
    return bool(version.transform or version.image) or RUNTIMES[version.runtime].runs_own_code


def make_model_functions(project: Project) -> Callable[[Function], Runnable]:
    """Return what makes one function's code, not yet loaded."""
    folder = project.manifest.path.parent
    trials = make_trials(project)

    def make(function: Function) -> Runnable:
        version = project.manifest.model(function.model).version(function.version)
        artifact = project.artifacts[function.model, function.version]
        code = importlib.import_module(f"{model_lambdas_package()}.function.handler")
        runtime = _shared_code()
        trial = try_version(project, (function.model, function.version), trials, whether_it_opens=False)
        if trial.reason:
            raise UnopenedError(f"{function.model} {function.version}: {trial.reason}")
        for kind in trial.fatal:
            log.warning("%s %s: %s", function.model, function.version, note_of(kind))
        spec = runtime.FunctionSpec(
            model=function.model,
            version=function.version,
            sha256=artifact.sha256,
            signature=artifact.graph_signature,
            public=None if artifact.graph is None else artifact.signature,
            artifact=artifact.path,
            transform=folder / version.transform if version.transform else None,
            memory_mb=function.settings.memory_mb,
            external_files=artifact.external_files,
            copies=folder / CACHE_DIR / "opening",
            fatal=trial.fatal,
            transform_files=tuple(project.transforms.get((function.model, function.version), ())),
            image=version.image,
        )
        made: Runnable = code.ModelFunction(spec, runtime.find_opener(RUNTIMES[version.runtime].opener))
        return made

    return make


def make_cancellation() -> Cancellation:
    """Return what stops one run."""
    made: Cancellation = _shared_code().Cancellation()
    return made


def _shared_code() -> Any:
    """Return the module that runtimes and functions share."""
    return importlib.import_module(f"{model_lambdas_package()}.function.runtime")


def make_router_codes(
    project: Project, plan: Plan, documents: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[RouterCode]:
    """Make every model's router, and the general router."""
    for function in plan.functions:
        if function.kind == "router":
            table = make_route_table(project.manifest, plan, function.model, pooled=False)
            is_graph = project.manifest.model(function.model).graph is not None
            yield RouterCode(function, partial(_make_router, table, open_tables(project, plan)), computes=is_graph)
        elif function.kind == "general_router":
            yield RouterCode(function, partial(_make_general, project, plan, documents), computes=True)


def _make_router(table: Any, tables: FindTable, invoke: Invoke) -> Answering:
    code = importlib.import_module(f"{router_lambda_package()}.router")
    made: Answering = code.Router(table, invoke, tables=tables)
    return made


def _make_general(
    project: Project, plan: Plan, documents: Mapping[str, Mapping[str, Any]] | None, invoke: Invoke
) -> Answering:
    code = importlib.import_module(f"{router_lambda_package()}.general.router")
    catalogue = make_catalogue(project, plan, documents, pooled=False)
    made: Answering = code.GeneralRouter(catalogue, invoke, tables=open_tables(project, plan))
    return made
