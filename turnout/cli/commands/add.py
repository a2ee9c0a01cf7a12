"""`turnout add`: fetches, converts and copies a new version of a model, and lists it in models.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.conversion_options import ConversionOptions, GivenFiles, takes_conversion_options
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load, manifest_argument
from turnout.cli.output import CommandError, counted, notify, progress, say, say_json, sentence_of
from turnout.problems import ProblemsError, TurnoutError
from turnout.system.signals import ignore_endings
from turnout.wording import size_text

if TYPE_CHECKING:
    from turnout.conversion.conversion import Choices, Converted
    from turnout.conversion.errors import ConversionError
    from turnout.packaging.layer_size import MeasuredLayer
    from turnout.project.project import Project
    from turnout.scaffold.new_version import PreparedVersion

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name. An unknown name adds a new model.")
]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The new version's name.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="The model: an ONNX file, a Python file, a model file of another library, or an address such as "
        "mlflow:NAME@ALIAS, hf:ORG/NAME or s3://BUCKET/KEY.",
    ),
]
SignatureOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML or JSON file with the inputs and outputs of a Python file.")
]
Sha256Option = Annotated[
    str, typer.Option(metavar="DIGEST", help="SHA-256 that a downloaded file must have. Required for https://.")
]


@takes_conversion_options
def add(
    context: typer.Context,
    model: ModelArgument,
    version: VersionArgument,
    source: SourceArgument,
    *,
    signature: SignatureOption = None,
    options: ConversionOptions,
    sha256: Sha256Option = "",
    as_json: JsonOption = False,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Add a version of a model.

    Copies the model file into the project, pins its digest and adds the version to models.yaml. Everything is checked
    first, including that the model can be opened, so a failure changes nothing. Versions are immutable: an existing
    version is never overwritten.

    A file that ends with .py is added with `runtime: python`. Its whole folder is copied. --signature declares its
    inputs and outputs.

    A model of scikit-learn, XGBoost, LightGBM, CatBoost, Keras, TensorFlow or PyTorch is converted to ONNX, in its own
    environment and without network access. The original and the ONNX model then answer the same rows: those of
    --samples, else random ones that fit the model. If an answer differs by more than --atol + --rtol * |value|, nothing
    is added. The first rows become the version's examples. A report is written next to the model.

    --runtime python serves a scikit-learn or CatBoost model that has no ONNX form. It writes predict.py and compares
    its answers in the same way. The packages of a version are pinned and measured: Lambda allows 250 MB.

    A stage with `"*": newest` moves to the new version. If the inputs or outputs of that version are incompatible with
    the current one, it is rejected; --breaking adds it with `breaking: true`.
    """
    from turnout.conversion.errors import ConversionError

    try:
        choices = options.choices(context, source, checked_digest(sha256))
        add_version(model, version, source, options.given_files(signature), choices, manifest, as_json=as_json)
    except ConversionError as error:
        if as_json:
            say_json(failure_json(error))
        raise CommandError(sentence_of(error.message), error.hint, code=error.code) from error


def checked_digest(sha256: str) -> str:
    """Return the digest in lower case; raise a CommandError if it is invalid."""
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise CommandError(f"--sha256 must be 64 hexadecimal digits, got {sha256!r}.")
    return sha256.lower()


def add_version(
    model: str, version: str, source: str, given: GivenFiles, choices: Choices, manifest: Path, *, as_json: bool
) -> None:
    """Fetch and convert if necessary, then copy the files and edit models.yaml."""
    from turnout.conversion.conversion import convert, needs_conversion
    from turnout.conversion.scratch import scratch_folder
    from turnout.project.project import CACHE_DIR

    if not needs_conversion(source, choices.converter, choices.runtime):
        if choices.samples:
            raise CommandError(
                "--samples applies only to models that are converted.", "Leave it out, or use --examples."
            )
        write(model, version, Path(source), given, None, manifest, as_json=as_json)
        return
    project = load(manifest)
    check_names(project, model, version)
    root = project.manifest.path.parent
    with scratch_folder(root / CACHE_DIR) as scratch:
        title = f"{model} {version}"
        converted = convert(title, source, scratch, choices, lambda text: notify(f"{text} ..."), root)
        extended = replace(
            given,
            examples=given.examples or converted.examples,
            transform=given.transform or converted.transform,
            signature=converted.signature or given.signature,
            requirements=converted.requirements or given.requirements,
        )
        write(model, version, converted.path, extended, converted, manifest, as_json=as_json)


def check_names(project: Project, model: str, version: str) -> None:
    """Check the names before a long conversion."""
    from turnout.scaffold.new_version import add_version as edit

    text = project.manifest.path.read_bytes().decode()
    try:
        edit(text, model, version, {"artifact": "model"}, source=project.manifest.source)
    except TurnoutError as error:
        raise CommandError(sentence_of(error.message), error.hint) from error


def write(
    model: str,
    version: str,
    path: Path,
    given: GivenFiles,
    converted: Converted | None,
    manifest: Path,
    *,
    as_json: bool,
) -> None:
    """Copy the files of a version and edit models.yaml; report what happened."""
    from turnout.artifacts.artifact import ArtifactError
    from turnout.project.manifest_file import ManifestChangedError, editing
    from turnout.scaffold.new_version import prepare_version, write_version

    with editing(manifest, lambda: notify("Waiting for another `turnout add`.")):
        project = load(manifest)
        try:
            layer = pinned_layer(project, f"{model} {version}", path, given.requirements)
            prepared = prepare_version(
                project,
                model,
                version,
                path,
                examples=given.examples,
                transform=given.transform,
                signature=given.signature,
                requirements=layer.requirements if layer else given.requirements,
                breaking=given.breaking,
                tensors=converted.tensors if converted else None,
                source=converted.provenance if converted else None,
                reports=converted.reports if converted else None,
            )
            open_own_code(project, prepared, given.examples)
            with progress(f"copying {path.name}", prepared.artifact.size_bytes) as advance:
                write_version(prepared, advance, before_edit=ignore_endings)
        except TurnoutError as error:
            code = 1 if isinstance(error, ManifestChangedError) else 2
            hint = error.hint or (kinds_hint(path) if isinstance(error, ArtifactError) else "")
            raise CommandError(sentence_of(error.message), hint, code=code) from error
        except ProblemsError:
            notify(f"{project.manifest.source} would be invalid with {model} {version}. Nothing was written:")
            raise
    if as_json:
        say_json(success_json(prepared, converted))
    else:
        report(project, prepared, converted, layer, manifest)


def pinned_layer(project: Project, title: str, path: Path, requirements: tuple[str, ...]) -> MeasuredLayer | None:
    """Return the pinned and measured layer of a version with requirements; None if nothing can be installed."""
    from turnout.packaging.build import LAMBDA_PYTHON
    from turnout.packaging.layer import LayerError, LayerSpec
    from turnout.packaging.layer_size import check_layer
    from turnout.plan.checks.quotas import fits_zip
    from turnout.project.project import CACHE_DIR
    from turnout.runtimes.registry import find_runtime

    if not requirements:
        return None
    notify("pinning the packages and measuring the layer ...")
    spec = LayerSpec(
        project.manifest.default_architecture, LAMBDA_PYTHON, tuple(sorted(requirements)), find_runtime(path).name
    )
    files = path.parent.rglob("*") if spec.runtime == "python" else (path,)
    size_bytes = sum(file.stat().st_size for file in files if file.is_file())
    in_zip = fits_zip(size_bytes, spec.runtime, spec.architecture, has_own_packages=True)
    try:
        return check_layer(title, spec, size_bytes if in_zip else 0, project.manifest.path.parent / CACHE_DIR)
    except LayerError as error:
        lines = str(error).strip().splitlines() or ["no output"]
        notify(f"note: the packages were not pinned and not measured, because they cannot be installed: {lines[-1]}")
        return None


def kinds_hint(path: Path) -> str:
    """List the known kinds of models, for a file whose name matches none of them."""
    from turnout.conversion.registry import known_kinds
    from turnout.runtimes.registry import RUNTIMES

    served = {runtime.suffix for runtime in RUNTIMES.values()}
    return "" if path.suffix in served or not path.exists() else known_kinds()


def report(
    project: Project,
    prepared: PreparedVersion,
    converted: Converted | None,
    layer: MeasuredLayer | None,
    manifest: Path,
) -> None:
    """Print what was added, and what to do next."""
    model, version = prepared.version.model, prepared.version.name
    if converted is not None and converted.proof is not None:
        from turnout.conversion.report import summary_lines

        for line in summary_lines(converted.proof):
            say(line)
        for group, reason in converted.proof.refused.items():
            notify(f"note: not compared, because the original refuses {group}: {reason}")
    files = f"{counted(len(prepared.files), 'file')}, {size_text(prepared.artifact.size_bytes)} of model"
    place = prepared.folder.relative_to(prepared.root)
    say(f"{place} already contains its {files}." if prepared.in_place else f"Copied {files} to {place}.")
    if layer is not None:
        largest = ", ".join(f"{name} {size_text(size)}" for name, size in list(layer.packages.items())[:3])
        say(f"Pinned {', '.join(layer.requirements)}.")
        say(f"Its layer takes {size_text(layer.unzipped_bytes)} of Lambda's 250 MB: {largest}, ...")
    say(f"Added {model} {version} to {project.manifest.source}, sha256 {prepared.artifact.sha256[:12]}.")
    for change in prepared.changes:
        say(f"Now {change}.")
    for note in (*(converted.notes if converted else ()), *prepared.notes):
        notify(f"note: {note}")
    there = manifest_argument(manifest)
    absent = absent_packages(prepared.version.requirements)
    isolated = " --isolated" if absent else ""
    if absent:
        notify(f"note: not installed in Turnout's environment: {', '.join(absent)}; --isolated serves with them")
    say(f"Next:\n\n    turnout serve{isolated}{there}\n    turnout invoke {model} {version}{there}")


def absent_packages(requirements: Sequence[str]) -> list[str]:
    """Return the requirements whose packages are not installed in this environment."""
    from importlib.metadata import PackageNotFoundError, version

    absent = []
    for requirement in requirements:
        try:
            version(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0])
        except PackageNotFoundError:
            absent.append(requirement)
    return absent


def success_json(prepared: PreparedVersion, converted: Converted | None) -> dict[str, Any]:
    """The JSON of an addition."""
    version = prepared.version
    summary: dict[str, Any] = {
        "added": True,
        "model": version.model,
        "version": version.name,
        "artifact": version.artifact,
        "sha256": prepared.artifact.sha256,
        "size_bytes": prepared.artifact.size_bytes,
        **prepared.artifact.signature.to_json(),
        "changes": list(prepared.changes),
        "notes": [*(converted.notes if converted else ()), *prepared.notes],
    }
    if version.source:
        summary["source"] = version.source.to_json()
    if converted is not None and converted.proof is not None:
        summary["proof"] = converted.proof.to_json()
    return summary


def failure_json(error: ConversionError) -> dict[str, Any]:
    """The JSON of a failed addition."""
    from turnout.conversion.conversion import DifferenceError

    proof = {"proof": error.proof.to_json()} if isinstance(error, DifferenceError) else {}
    return {"added": False, "error": error.message, "hint": error.hint, **proof}


def open_own_code(project: Project, prepared: PreparedVersion, examples: Path | None) -> None:
    """Open a version that runs its owner's Python, with its packages; raise a CommandError if that fails."""
    from turnout.artifacts.examples import read_examples
    from turnout.packaging.layer import LayerError
    from turnout.packaging.transform_imports import imports_folder, try_own_model
    from turnout.runtimes.registry import RUNTIMES

    if not RUNTIMES[prepared.version.runtime].runs_own_code:
        return
    first = next((dict(example.request) for example in read_examples(examples)), None) if examples else None
    try:
        faults = list(try_own_model(prepared.version, prepared.artifact, imports_folder(project), first))
    except LayerError as error:
        notify(f"note: {prepared.artifact.path.name} was not opened: its packages cannot be installed: {error}")
        return
    for fault in faults:
        hint = f"Add --requirement {fault.package}." if fault.package else fault.hint
        raise CommandError(f"{fault.message}.", hint)
