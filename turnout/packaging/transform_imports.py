"""Checks that versions' own code can be loaded with its packages on Lambda: the runtime's layer and `requirements`.

It imports each transform, and opens and runs each Python version once, as its function does. The process sees none of
this machine's packages: a module that is installed only here would be missing on Lambda. Imports inside functions,
which run only when called, are looked up, too.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from importlib.metadata import version as installed_version
from importlib.util import decode_source
from pathlib import Path
from typing import Any

from turnout.artifacts.artifact import Artifact
from turnout.artifacts.example_request import make_request
from turnout.manifest.parser import Version
from turnout.packaging.contents import code_files
from turnout.packaging.layer import (
    HERE,
    LayerError,
    LayerSpec,
    install_layer,
    left_out_of,
    remove_left_out,
    resolve_requirements,
)
from turnout.packaging.unpack import make_folder
from turnout.packaging.zips import content_digest
from turnout.problems import Problem, ProblemsError
from turnout.project.project import Project
from turnout.protocol.telemetry import TELEMETRY_OFF
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES

PATIENCE_S = 120.0

DISTRIBUTIONS: Mapping[str, str] = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Packages whose names differ from their modules' names, for those that are not installed here."""

SCRIPT = """
import json, os, sys
answer = os.dup(1)
os.dup2(2, 1)
row = json.load(sys.stdin)
sys.path[:0] = [row["code"], row["site"]]
restate = str
found = {}
try:
    import importlib.util
    from pathlib import Path
    if row["model"] is None:
        from model_lambdas.function.own_modules import OwnModules
        modules = OwnModules(Path(row["file"]), row["owner"], row["files"])
        restate = modules.restate
        modules.load()
    else:
        from model_lambdas.function.trial import try_model
        found.update(try_model(row["file"], row["model"]))
    found["missing"] = [name for name in row["later"] if importlib.util.find_spec(name) is None]
except ModuleNotFoundError as error:
    found = {"missing": [error.name]} if error.name else {"error": str(error)}
except BaseException as error:
    found = {"error": restate(f"{type(error).__name__}: {error}")}
os.write(answer, json.dumps(found).encode())
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class ImportsReport:
    """The result of loading the versions' own code.

    Args:
        problems: what cannot be imported or opened.
        notes: why some versions were not tried.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_transform_imports(project: Project, *, models_only: bool = False) -> ImportsReport:
    """Import every transform, and open and run every version whose runtime runs user code.

    Args:
        project: project of the versions.
        models_only: whether to skip transforms.
    """
    folder = imports_folder(project)
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    for version in (version for model in project.manifest.models for version in model.versions):
        key = (version.model, version.name)
        try:
            if key in project.transforms and not models_only:
                problems += _check_transform(project, version, folder)
            if key in project.artifacts and RUNTIMES[version.runtime].runs_own_code:
                request = _first_request(project, version)
                for fault in try_own_model(version, project.artifacts[key], folder, request):
                    problems.append(_problem(project, version, fault.key, fault.message, fault.hint))
        except LayerError as error:
            what = ", ".join(version.requirements) or "the runtime layer"
            notes[f"own code was not imported: {what} cannot be installed: {_last_line(str(error))}"] = None
    return ImportsReport(tuple(problems), tuple(notes))


def require_imports(project: Project, *, models_only: bool = False) -> ImportsReport:
    """Do the same, and raise ProblemsError if something cannot be imported or opened."""
    report = check_transform_imports(project, models_only=models_only)
    if report.problems:
        raise ProblemsError(report.problems)
    return report


def imports_folder(project: Project) -> Path:
    """Return the folders for packages and code."""
    return project.manifest.path.parent / ".turnout" / "imports"


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of a version's own code.

    Args:
        key: the version's key that names the faulty file.
        message: a sentence without its period.
        hint: the remedy, or empty.
        package: the missing package, or empty.
    """

    key: str
    message: str
    hint: str = ""
    package: str = ""


def _check_transform(project: Project, version: Version, folder: Path) -> Iterator[Problem]:
    beside = project.transforms[version.model, version.name]
    transform = project.manifest.path.parent / version.transform
    for fault in _try(version, transform, beside, folder, None):
        yield _problem(project, version, "transform", fault.message, fault.hint)


def try_own_model(version: Version, artifact: Artifact, folder: Path, request: Any = None) -> Iterator[Fault]:
    """Open a version with its packages on Lambda, and run it once.

    Args:
        version: a version whose runtime runs user code.
        artifact: its files.
        folder: folder for packages and code.
        request: its first example; without one, a request is made, which the version may refuse.

    Raises:
        LayerError: its packages cannot be installed.
    """
    path = artifact.path
    beside = {file.relative_to(path.parent).as_posix(): file for file in (path, *artifact.external_files)}
    model = {
        "opener": RUNTIMES[version.runtime].opener,
        "model": version.model,
        "version": version.name,
        "sha256": artifact.sha256,
        "signature": artifact.signature.to_json(),
        "external_files": [str(file) for file in artifact.external_files],
        "memory_mb": version.memory_mb,
        "request": make_request(artifact.signature) if request is None else request,
        "is_example": request is not None,
    }
    yield from _try(version, path, beside, folder, model)


def prepare_site(requirements: Iterable[str], runtime: str, folder: Path) -> tuple[Path, Path]:
    """Return the folders that a version's process imports from.

    They contain Turnout's code, and the runtime's layer for this machine.

    Raises:
        LayerError: its packages cannot be installed.
    """
    return _write_code(folder), _install(folder, tuple(sorted(requirements)), runtime)


def _try(
    version: Version, file: Path, beside: Mapping[str, Path], folder: Path, model: Mapping[str, Any] | None
) -> Iterator[Fault]:
    """Load one file in its own process."""
    runtime = version.runtime if model is not None else DEFAULT_RUNTIME
    code, site = prepare_site(version.requirements, runtime, folder)
    task = {
        "code": str(code),
        "site": str(site),
        "file": str(file),
        "owner": f"{version.model} {version.name}",
        "files": list(beside),
        "later": sorted(find_later_imports(beside)),
        "model": model,
    }
    result = _run(task, version.environment)
    key = "transform" if model is None else "artifact"
    for name in result.get("missing", ()):
        package = package_of(name)
        wanted = ", ".join(dict.fromkeys((*version.requirements, package)))
        message = f"{file.name} imports `{name}`, which is neither a file next to it nor one of its packages"
        yield Fault(key, message, f"Add to {version.model} {version.name}: requirements: [{wanted}]", package)
    if "error" in result:
        yield Fault(key, f"{file.name} cannot be imported: {result['error']}")
    if "fault" in result:
        yield Fault(key, str(result["fault"]))
    if "returned" in result:
        yield Fault("signature", str(result["returned"]), "Change `predict`, or the signature.")


def _first_request(project: Project, version: Version) -> Any:
    examples = project.examples.get((version.model, version.name), ())
    return dict(examples[0].request) if examples else None


def _run(task: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, list[str] | str]:
    variables = {**environment, **TELEMETRY_OFF, "PATH": os.defpath, "LANG": "en_US.UTF-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", SCRIPT],
            input=json.dumps(task).encode(),
            capture_output=True,
            env=variables,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"its process did not end within {PATIENCE_S:.0f} s"}
    try:
        imports: dict[str, list[str] | str] = json.loads(done.stdout)
    except ValueError:
        return {"error": f"its process ended with status {done.returncode}: {_last_line(done.stderr.decode())}"}
    return imports


def find_later_imports(beside: Mapping[str, Path]) -> set[str]:
    """Return packages that are imported inside functions and not guarded by `try`, except the version's own files."""
    own = {name.partition("/")[0].partition(".")[0] for name in beside}
    imports: set[str] = set()
    for name, path in beside.items():
        if name.endswith(".py"):
            try:
                tree = ast.parse(decode_source(path.read_bytes()))
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    imports |= set(_imports_in(node.body))
    return imports - own


def _imports_in(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level and node.module:
                yield node.module.partition(".")[0]
        elif not isinstance(node, ast.Try):
            yield from _imports_in(ast.iter_child_nodes(node))


def package_of(module: str) -> str:
    """Return the line for `requirements` that provides a module, pinned if the package is installed here."""
    top = module.partition(".")[0]
    installed = packages_distributions().get(top)
    if installed:
        return f"{installed[0].lower()}=={installed_version(installed[0])}"
    return DISTRIBUTIONS.get(top, top)


def _problem(project: Project, version: Version, key: str, message: str, hint: str) -> Problem:
    path = ("models", version.model, "versions", version.name, key)
    return project.manifest.problem(path, message, hint)


def _write_code(parent: Path) -> Path:
    files = {name: path for runtime in RUNTIMES.values() for name, path in code_files(runtime).items()}
    digest = hashlib.sha256(
        "\n".join(f"{name} {content_digest(path)}" for name, path in sorted(files.items())).encode()
    ).hexdigest()

    def write(folder: Path) -> None:
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)

    return make_folder(parent / f"code-{digest[:16]}", write)


def _install(parent: Path, requirements: tuple[str, ...], runtime: str) -> Path:
    """Install the runtime layer for this machine with these packages once, with the files that it has on Lambda."""
    spec = LayerSpec(HERE, "", requirements, runtime)
    wants = (content_digest(spec.layer.lock), sys.version, *left_out_of(spec), *requirements)
    digest = hashlib.sha256("\n".join(wants).encode()).hexdigest()

    def install(folder: Path) -> None:
        install_layer(spec, resolve_requirements(spec, parent), folder)
        remove_left_out(spec, folder)

    return make_folder(parent / f"site-{digest[:16]}", install)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:300]
