"""Whether transforms can be imported with what their versions get: the runtime layer and their `requirements`.

Each transform is imported as its function imports it, in a process of its own that has nothing of this machine's
packages: a module that happens to be installed here would be missing on Lambda. Functions' own imports, which run only
when they are called, are looked up, too.
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

from turnout.manifest.parser import Version
from turnout.packaging.contents import code_files
from turnout.packaging.layer import HERE, LayerError, LayerSpec, install_layer, resolve_requirements
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
"""Packages that are called otherwise than their modules, where this machine has none to ask."""

SCRIPT = """
import json, os, sys
answer = os.dup(1)
os.dup2(2, 1)
row = json.load(sys.stdin)
sys.path[:0] = [row["code"], row["site"]]
found = {}
try:
    import importlib.util
    from pathlib import Path
    from model_lambdas.function.transform_modules import TransformModules
    modules = TransformModules(Path(row["transform"]), row["owner"], row["files"])
    modules.load()
    found["missing"] = [name for name in row["later"] if importlib.util.find_spec(name) is None]
except ModuleNotFoundError as error:
    found = {"missing": [error.name]} if error.name else {"error": str(error)}
except BaseException as error:
    found = {"error": modules.restate(f"{type(error).__name__}: {error}")}
os.write(answer, json.dumps(found).encode())
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class ImportsReport:
    """What became of importing transforms.

    Args:
        problems: those that cannot be imported.
        notes: why some were not tried.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_transform_imports(project: Project) -> ImportsReport:
    """Import the transform of every version that has one."""
    versions = [
        version
        for model in project.manifest.models
        for version in model.versions
        if (version.model, version.name) in project.transforms
    ]
    if not versions:
        return ImportsReport((), ())
    folder = project.manifest.path.parent / ".turnout" / "imports"
    code = _write_code(folder)
    problems: list[Problem] = []
    notes: dict[tuple[str, ...], str] = {}
    for version in versions:
        requirements = tuple(sorted(version.requirements))
        if requirements in notes:
            continue
        try:
            site = _install(folder, requirements)
        except LayerError as error:
            what = ", ".join(requirements) or "the runtime layer"
            notes[requirements] = f"transforms were not imported: {what} cannot be installed: {_last_line(str(error))}"
            continue
        problems += _check(project, version, code, site)
    return ImportsReport(tuple(problems), tuple(notes.values()))


def require_imports(project: Project) -> ImportsReport:
    """The same; a ProblemsError where a transform cannot be imported."""
    report = check_transform_imports(project)
    if report.problems:
        raise ProblemsError(report.problems)
    return report


def _check(project: Project, version: Version, code: Path, site: Path) -> Iterator[Problem]:
    beside = project.transforms[version.model, version.name]
    transform = project.manifest.path.parent / version.transform
    row = {
        "code": str(code),
        "site": str(site),
        "transform": str(transform),
        "owner": f"{version.model} {version.name}",
        "files": list(beside),
        "later": sorted(find_later_imports(beside)),
    }
    found = _run(row, version.environment)
    for name in found.get("missing", ()):
        package = package_of(name)
        wanted = ", ".join(dict.fromkeys((*version.requirements, package)))
        message = f"{transform.name} imports `{name}`, which is neither beside it nor among its packages"
        hint = f"Add to {version.model} {version.name}: requirements: [{wanted}]"
        yield _problem(project, version, message, hint)
    if "error" in found:
        yield _problem(project, version, f"{transform.name} cannot be imported: {found['error']}", "")


def _run(row: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, list[str] | str]:
    variables = {**environment, **TELEMETRY_OFF, "PATH": os.defpath, "LANG": "en_US.UTF-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", SCRIPT],
            input=json.dumps(row).encode(),
            capture_output=True,
            env=variables,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it had not ended after {PATIENCE_S:.0f} s"}
    try:
        found: dict[str, list[str] | str] = json.loads(done.stdout)
    except ValueError:
        return {"error": f"its process ended with status {done.returncode}: {_last_line(done.stderr.decode())}"}
    return found


def find_later_imports(beside: Mapping[str, Path]) -> set[str]:
    """Packages that functions import when they are called, and that no `try` guards; not what lies beside."""
    own = {name.partition("/")[0].partition(".")[0] for name in beside}
    found: set[str] = set()
    for name, path in beside.items():
        if name.endswith(".py"):
            try:
                tree = ast.parse(decode_source(path.read_bytes()))
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= set(_imports_in(node.body))
    return found - own


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
    """What to write under `requirements` for a module, pinned where this machine has it."""
    top = module.partition(".")[0]
    installed = packages_distributions().get(top)
    if installed:
        return f"{installed[0].lower()}=={installed_version(installed[0])}"
    return DISTRIBUTIONS.get(top, top)


def _problem(project: Project, version: Version, message: str, hint: str) -> Problem:
    path = ("models", version.model, "versions", version.name, "transform")
    return project.manifest.problem(path, message, hint)


def _write_code(parent: Path) -> Path:
    files = code_files(RUNTIMES[DEFAULT_RUNTIME])
    digest = hashlib.sha256(
        "\n".join(f"{name} {content_digest(path)}" for name, path in sorted(files.items())).encode()
    ).hexdigest()

    def write(folder: Path) -> None:
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)

    return make_folder(parent / f"code-{digest[:16]}", write)


def _install(parent: Path, requirements: tuple[str, ...]) -> Path:
    """The runtime layer for this machine with these packages, as `--isolated` has it; installed once."""
    spec = LayerSpec(HERE, "", requirements)
    wants = (content_digest(spec.layer.lock), sys.version, *requirements)
    digest = hashlib.sha256("\n".join(wants).encode()).hexdigest()
    return make_folder(
        parent / f"site-{digest[:16]}",
        lambda folder: install_layer(spec, resolve_requirements(spec, parent), folder),
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]
