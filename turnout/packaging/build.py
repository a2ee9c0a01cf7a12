"""Builds packages: a zip per version or pool, a layer per runtime and architecture, for Lambda and this machine.

A function's zip contains `function.json`, `model/` (the graph and its external data), `transform/` (the transform and
its files), the handler and `turnout/protocol`. A router's zip contains its table or the catalogue, `router_lambda` and
`turnout/protocol`. Both contain bytecode of the target's Python if that interpreter is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version as installed_version
from multiprocessing import get_context
from pathlib import Path

from turnout.manifest.parser import Version
from turnout.packaging.build_progress import BuildProgress, ignore_progress
from turnout.packaging.bytecode import compile_bytecode, python_version
from turnout.packaging.contents import FunctionInputs, StoredFile, code_files, to_json
from turnout.packaging.layer import (
    HERE,
    LayerSpec,
    find_python,
    install_layer,
    layer_files,
    left_out_of,
    resolve_requirements,
)
from turnout.packaging.pools import PoolInputs, group_by_pool
from turnout.packaging.routers import RouterInputs, router_files
from turnout.packaging.zips import Content, content_digest, unzipped_bytes, write_zip
from turnout.plan.checks.quotas import is_stored
from turnout.plan.functions import package_name
from turnout.project.project import Project
from turnout.protocol.naming import POOL
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES
from turnout.system.files import write_whole
from turnout.system.processes import ended_tracker, join_parent
from turnout.trials.checks import make_trials, try_version

FORMAT = "1"
"""Part of every digest: change it if the content or format of zips changes, to rebuild all packages."""

HANDLER = "model_lambdas.function.entry.handler"
"""The handler in a function's zip."""

LAMBDA_PYTHON = "3.13"

NO_BYTECODE = (
    f"no bytecode, so each cold start compiles (about 130 ms): install python{LAMBDA_PYTHON} on the PATH to include it"
)


STORED = "its model is fetched from S3 when the function starts"


@dataclass(frozen=True, slots=True)
class BuiltPackage:
    """One zip on disk.

    Args:
        name: `iris_v1`, or `layer_arm64_python3.13`.
        kind: `function` or `layer`.
        path: path of the zip.
        digest: digest of its inputs, 64 hex digits; equal digests mean equal contents.
        zip_bytes: size that counts against 50 MB for direct upload.
        unzipped_bytes: size that counts, with the layer's, against 250 MB.
        cached: whether it existed already.
        notes: notes for the user: a graph that was not optimized, no bytecode.
        layer: name of a function's layer; empty for a router that needs none.
        stored: the files of a model that is too large for the zip or is in S3 already.
        pooled: for a pool: model and version -> the files of its model.
    """

    name: str
    kind: str
    path: Path
    digest: str
    zip_bytes: int
    unzipped_bytes: int
    cached: bool
    notes: tuple[str, ...] = ()
    layer: str = ""
    stored: tuple[StoredFile, ...] = ()
    pooled: Mapping[tuple[str, str], tuple[StoredFile, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """The target of the packages: Lambda's Python, or this machine's if `python` is empty."""

    python: str = LAMBDA_PYTHON

    @property
    def here(self) -> bool:
        """Whether the packages run on this machine's own Python."""
        return not self.python


def build_packages(
    project: Project,
    *,
    out: Path,
    target: BuildTarget = BuildTarget(),
    routers: Iterable[RouterInputs] = (),
    optimize: bool = True,
    only: Sequence[tuple[str, str]] | None = None,
    jobs: int = 0,
    progress: BuildProgress = ignore_progress,
) -> tuple[BuiltPackage, ...]:
    """Build missing packages in `out`, several at once: layers, functions in the manifest's order, pools, routers.

    Args:
        project: the manifest and its artifacts.
        out: the folder of the zips, `.turnout/packages`.
        target: Lambda, or this machine.
        routers: the result of `find_routers`.
        optimize: whether to optimize graphs if that does not change their results.
        only: `(model, version)` pairs; None for all versions. A pool is built for those of its versions.
        jobs: number of parallel builds; 0 for one per core.
        progress: called from other threads when a package starts and ends.

    Raises:
        LayerError: a layer cannot be resolved for its platform.
    """
    versions = [
        version
        for model in project.manifest.models
        for version in model.versions
        if (version.model, version.name) in project.artifacts
        and (only is None or (version.model, version.name) in only)
    ]
    python = _interpreter(target)
    jobs = jobs or os.cpu_count() or 1
    inputs_of_all = find_inputs(versions, project, target)
    function_inputs = [inputs for inputs in inputs_of_all if not inputs.version.pool]
    pools = group_by_pool(inputs_of_all, is_here=target.here)
    specs = [_spec_of(inputs.version, inputs.version.requirements, target) for inputs in function_inputs]
    pool_specs = [_spec_of(pooled.versions[0].version, pooled.requirements, target) for pooled in pools]
    routers = tuple(routers)
    router_specs = [_layer_spec(router.architecture, target) if router.with_layer else None for router in routers]
    pool = partial(ProcessPoolExecutor, mp_context=get_context("spawn"), initializer=join_parent)
    with (
        ended_tracker(),
        ThreadPoolExecutor(jobs) as threads,
        pool(jobs, initargs=(os.getpid(),)) as processes,
    ):
        layers = {
            spec: threads.submit(_build_layer, spec, out, python, progress)
            for spec in sorted(
                {*specs, *pool_specs, *filter(None, router_specs)},
                key=_layer_name,
            )
        }
        functions = [
            threads.submit(
                _build_function,
                inputs,
                _layer_name(spec),
                out,
                python,
                processes if optimize else None,
                progress,
            )
            for inputs, spec in zip(function_inputs, specs, strict=True)
        ]
        functions += [
            threads.submit(_build_pool, inputs, _layer_name(spec), out, python, progress)
            for inputs, spec in zip(pools, pool_specs, strict=True)
        ]
        functions += [
            threads.submit(_build_router, inputs, _layer_name(spec) if spec else "", out, python, progress)
            for inputs, spec in zip(routers, router_specs, strict=True)
        ]
        pending: list[Future[BuiltPackage]] = [*layers.values(), *functions]
        try:
            return tuple(future.result() for future in pending)
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def find_inputs(versions: Sequence[Version], project: Project, target: BuildTarget) -> list[FunctionInputs]:
    """Return the parts of each version's zip; run the trial of versions that have none yet.

    A version fetches its model from S3 only on AWS: here it is on disk. A pool fetches its models here, too.
    """
    folder = project.manifest.path.parent
    trials = make_trials(project)
    inputs = []
    try:
        for version in versions:
            key = (version.model, version.name)
            artifact = project.artifacts[key]
            stored = bool(version.pool) or (not target.here and is_stored(version, artifact.size_bytes))
            fatal = try_version(project, key, trials, whether_it_opens=False).fatal
            beside = project.transforms.get(key, {})
            requests = tuple(example.request for example in project.examples_of(version))
            inputs.append(FunctionInputs(version, artifact, folder, stored, beside, fatal, requests))
    finally:
        trials.close()
    return inputs


def _build_function(
    inputs: FunctionInputs,
    layer: str,
    out: Path,
    python: Path | None,
    processes: ProcessPoolExecutor | None,
    progress: BuildProgress,
) -> BuiltPackage:
    name = f"{inputs.version.model}_{inputs.version.name}"
    progress(name, "started")
    metadata = to_json(inputs.metadata())
    runtime = RUNTIMES[inputs.version.runtime]
    sources: dict[str, Content] = {**code_files(runtime), **inputs.transform_files(), "function.json": metadata}
    optimizable = runtime.optimize and processes and not inputs.artifact.external_files and not inputs.is_stored
    optimizer = installed_version(runtime.engine) if optimizable else ""
    compared = content_digest(to_json(inputs.requests if optimizer else []))
    digest = _digest({**_digests(sources), "model": inputs.artifact.sha256, "compared": compared}, python, optimizer)

    def write(path: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory() as scratch:
            graph, note = _optimized(inputs, Path(scratch) / "optimized", processes if optimizer else None)
            model_files: dict[str, Content] = {**inputs.model_files(graph)}
            own_code = {name: file for name, file in model_files.items() if runtime.runs_own_code and _is_python(name)}
            files = {**sources, **model_files}
            files |= _bytecode(sources | own_code, python, "/var/task", Path(scratch) / "bytecode")
            write_zip(path, files)
        return note

    built = _package(name, "function", out, digest, write, progress, layer=layer, python=python)
    if not inputs.is_stored:
        return built
    return replace(built, stored=inputs.stored_files(), notes=(*built.notes, STORED))


def _is_python(name: str) -> bool:
    return name.endswith(".py")


def _build_pool(
    inputs: PoolInputs, layer: str, out: Path, python: Path | None, progress: BuildProgress
) -> BuiltPackage:
    name = package_name(inputs.name, POOL)
    progress(name, "started")
    sources = inputs.sources()

    def write(path: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory() as scratch:
            write_zip(path, sources | _bytecode(sources, python, "/var/task", Path(scratch) / "bytecode"))
        return ()

    digest = _digest(_digests(sources), python, "")
    built = _package(name, "function", out, digest, write, progress, layer=layer, python=python)
    return replace(built, pooled=inputs.stored)


def _build_router(
    inputs: RouterInputs, layer: str, out: Path, python: Path | None, progress: BuildProgress
) -> BuiltPackage:
    name = inputs.package
    progress(name, "started")
    sources: dict[str, Content] = {**router_files(), **inputs.files}

    def write(path: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory() as scratch:
            write_zip(path, sources | _bytecode(sources, python, "/var/task", Path(scratch) / "bytecode"))
        return ()

    digest = _digest(_digests(sources), python, "")
    return _package(name, "function", out, digest, write, progress, layer=layer, python=python)


def _build_layer(spec: LayerSpec, out: Path, python: Path | None, progress: BuildProgress) -> BuiltPackage:
    name = _layer_name(spec)
    progress(name, "started")
    pinned = resolve_requirements(spec, out.parent)
    inputs = {"lock": content_digest(spec.layer.lock), "architecture": spec.architecture, "python": spec.python}
    inputs["left out"] = " ".join(left_out_of(spec))
    digest = _digest({**inputs, **{f"requirement {line}": line for line in pinned}}, python, "")

    def write(path: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory() as scratch:
            site = Path(scratch) / "site"
            install_layer(spec, pinned, site)
            files: dict[str, Content] = {**layer_files(spec, site)}
            write_zip(path, files | _bytecode(files, python, "/opt", Path(scratch) / "bytecode"))
        return ()

    return _package(name, "layer", out, digest, write, progress, python=python)


def _package(
    name: str,
    kind: str,
    out: Path,
    digest: str,
    write: Callable[[Path], tuple[str, ...]],
    progress: BuildProgress,
    *,
    layer: str = "",
    python: Path | None,
) -> BuiltPackage:
    """Write the zip if it is missing; its notes are stored next to it, so a cached package reports them again."""
    path = out / f"{name}-{digest[:16]}.zip"
    package = _read_package(path)
    if package is None:
        notes = write(path)
        write_whole(path.with_suffix(".json"), json.dumps(notes).encode())
        size_bytes = unzipped_bytes(path)
    else:
        notes, size_bytes = package
    if python is None:
        notes = (*notes, NO_BYTECODE)
    progress(name, "built" if package is None else "cached")
    return BuiltPackage(
        name, kind, path, digest, path.stat().st_size, size_bytes, package is not None, notes=notes, layer=layer
    )


def _read_package(path: Path) -> tuple[tuple[str, ...], int] | None:
    """Return the notes and unzipped size of an existing zip; None if it or its notes are missing or incomplete."""
    try:
        size_bytes = unzipped_bytes(path)
        notes = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    if not (isinstance(notes, list) and all(isinstance(note, str) for note in notes)):
        return None
    return tuple(notes), size_bytes


def _optimized(
    inputs: FunctionInputs, target: Path, processes: ProcessPoolExecutor | None
) -> tuple[Path, tuple[str, ...]]:
    """Return the graph to package, and a note if it was not optimized."""
    given = inputs.artifact.path
    optimize = RUNTIMES[inputs.version.runtime].optimize
    if optimize is None:
        return given, ()
    if processes is None:
        external = bool(inputs.artifact.external_files)
        return given, ("graph not optimized: the optimized graph would not find its external data",) if external else ()
    signature = inputs.artifact.graph_signature
    kept = processes.submit(optimize, given, target, signature, inputs.examples()).result()
    return (given, (f"graph not optimized: {kept}",)) if kept else (target, ())


def _bytecode(sources: Mapping[str, Content], python: Path | None, root: str, scratch: Path) -> dict[str, Content]:
    if python is None:
        return {}
    scratch.mkdir()
    paths = {name: content for name, content in sources.items() if isinstance(content, Path)}
    return {**compile_bytecode(python, paths, root, scratch)}


def _interpreter(target: BuildTarget) -> Path | None:
    import sys

    return Path(sys.executable) if target.here else find_python(target.python)


def _layer_spec(
    architecture: str, target: BuildTarget, requirements: Iterable[str] = (), runtime: str = DEFAULT_RUNTIME
) -> LayerSpec:
    return LayerSpec(HERE if target.here else architecture, target.python, tuple(sorted(requirements)), runtime)


def _spec_of(version: Version, requirements: Iterable[str], target: BuildTarget) -> LayerSpec:
    return _layer_spec(version.architecture, target, requirements, version.runtime)


def _layer_name(spec: LayerSpec) -> str:
    wants = hashlib.sha256("\n".join(spec.requirements).encode()).hexdigest()[:8] if spec.requirements else ""
    python = f"python{spec.python}" if spec.python else "python"
    runtime = "" if spec.runtime == DEFAULT_RUNTIME else f"for-{spec.runtime}"
    return "_".join(part for part in ("layer", runtime, spec.architecture, python, wants) if part)


def _digests(files: Mapping[str, Content]) -> dict[str, str]:
    return {name: content_digest(content) for name, content in files.items()}


def _digest(inputs: Mapping[str, str], python: Path | None, optimizer: str) -> str:
    bytecode = python_version(python) if python else ""
    facts = [["format", FORMAT], ["bytecode", bytecode], ["optimizer", optimizer], *sorted(map(list, inputs.items()))]
    return hashlib.sha256(to_json(facts)).hexdigest()
