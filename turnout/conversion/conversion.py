"""One conversion from an address to the files of a version: fetch, convert, prove, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import orjson

from turnout.artifacts.examples import Tolerance
from turnout.conversion.encoders.description import Encoder, describe_encoder, find_folder
from turnout.conversion.encoders.images import ImageClassifier, describe_images, make_image_version
from turnout.conversion.encoders.version import make_text_version
from turnout.conversion.environments import find_environment
from turnout.conversion.errors import ConversionError
from turnout.conversion.examples import make_examples
from turnout.conversion.jobs import JobLimits, run_job
from turnout.conversion.mlmodel import find_model_file
from turnout.conversion.opsets import find_opsets
from turnout.conversion.proof import CAUSES, Proof, prove
from turnout.conversion.python_version import RUNTIME as PYTHON_RUNTIME
from turnout.conversion.python_version import check_converter, prove_python
from turnout.conversion.registry import PICKLES, PYTHON_CONVERTERS, Converter, find_converter
from turnout.conversion.report import JSON_FILE, PAGE_FILE, difference_lines, render_report, summary_lines
from turnout.conversion.sources import Fetched, Order, Remark, find_source
from turnout.project.project import CACHE_DIR
from turnout.system.files import file_digest

EXAMPLES_FILE = "examples.json"
TRANSFORM_FILE = "transform.py"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user asked for.

    Args:
        samples: a file with rows, or None.
        tolerance: the tolerance for floats.
        trust_pickle: whether a pickle may be loaded.
        trusted_types: types in .skops files that may be loaded.
        converter: the chosen converter, or empty.
        sha256: the required digest of the fetched file, or empty.
        limits: limits of each process.
        runtime: `python` for a model that is not converted but served by its own library; or empty.
        modules: Python files with the classes of a model that is not converted.
        requirements: packages that these modules import.
        python_command: the command that adds the same version with `--runtime python`, for hints; or empty.
        external_bytes: the size from which on the weights are written to a separate file; 0 for the default.
    """

    samples: Path | None = None
    tolerance: Tolerance = field(default_factory=lambda: Tolerance(relative=1e-4))
    trust_pickle: bool = False
    trusted_types: tuple[str, ...] = ()
    converter: str = ""
    sha256: str = ""
    limits: JobLimits = field(default_factory=JobLimits)
    runtime: str = ""
    modules: tuple[Path, ...] = ()
    requirements: tuple[str, ...] = ()
    python_command: str = ""
    external_bytes: int = 0

    @property
    def is_python(self) -> bool:
        """Whether the model is served by its own library."""
        return self.runtime == PYTHON_RUNTIME


class DifferenceError(ConversionError):
    """The graph does not answer like its original."""

    def __init__(
        self, proof: Proof, subject: str = "the converted model", causes: Sequence[str] = CAUSES, command: str = ""
    ) -> None:
        lines = [*summary_lines(proof), *difference_lines(proof, causes)]
        lines += [f"To serve the original itself: {command}"] if command else []
        message = f"{subject} does not answer like its original, so nothing was added"
        super().__init__(message, "\n    ".join(lines), code=1)  # indent all lines below the message
        self.proof = proof


@dataclass(frozen=True, slots=True)
class Converted:
    """A version's files, in the scratch folder.

    Args:
        path: the ONNX file, or predict.py.
        provenance: the content of `source` in models.yaml, without the report's path.
        proof: the proof, or None for a file that was already ONNX.
        transform: a transform, or None.
        examples: an examples file, or None.
        reports: name within the version's folder -> file.
        notes: notes for the user.
        signature: a file with the inputs and outputs of predict.py, or None.
        tensors: `inputs` and `outputs` that the transform makes, as models.yaml has them.
        requirements: the pinned packages of predict.py.
    """

    path: Path
    provenance: Mapping[str, Any]
    proof: Proof | None = None
    transform: Path | None = None
    examples: Path | None = None
    reports: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    signature: Path | None = None
    requirements: tuple[str, ...] = ()
    tensors: Mapping[str, Any] = field(default_factory=dict)


def needs_conversion(address: str, converter: str, runtime: str = "") -> bool:
    """Whether an address must be fetched or converted, because no runtime reads the file directly.

    Args:
        address: as the user wrote it.
        converter: the chosen converter, or empty.
        runtime: the chosen runtime, or empty.

    Raises:
        ConversionError: no source or converter supports it.
    """
    if find_source(address) is not None or converter:
        return True
    path = Path(address)
    if path.is_dir() and ((path / "MLmodel").is_file() or find_folder(path / "model.onnx") is not None):
        return True
    if path.suffix == ".py":
        return False
    if runtime == PYTHON_RUNTIME:
        return True
    try:
        return find_converter(path) is not None
    except ConversionError:
        return False  # the runtime that accepts every suffix reports what is wrong with the file


def convert(title: str, address: str, scratch: Path, choices: Choices, remark: Remark, root: Path) -> Converted:
    """Fetch a model, convert it unless it is ONNX, and prove that it answers the same.

    Args:
        title: model and version, for the report.
        address: as the user wrote it.
        scratch: an empty folder for the result.
        choices: what the user asked for.
        remark: called with a message for the user before each long step.
        root: the project's folder, to which local paths are relative in models.yaml.

    Raises:
        DifferenceError: the answers differ.
        ConversionError: the conversion failed for another reason.
    """
    fetched = fetch(address, scratch, choices, remark, root)
    result = find_model_file(fetched.path)
    converter = find_converter(result.path, choices.converter or result.converter)
    provenance: dict[str, Any] = {"address": fetched.address}
    provenance |= {"revision": fetched.revision} if fetched.revision else {}
    provenance["sha256"] = digest_of(fetched.path)
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if choices.is_python:
        converter = check_converter(converter, result.path.name)
    if converter is None:
        made = Converted(result.path, {**provenance, "date": date}, notes=fetched.notes)
        encoder = None if choices.runtime else describe_encoder(result.path) or describe_images(result.path)
        return made if encoder is None else _add_transform(made, encoder, scratch, choices, remark, root)
    if result.path.suffix.lower() in PICKLES and not choices.trust_pickle:
        raise ConversionError(
            f"{result.path.name} is a pickle: loading it runs whatever code is in it",
            "If you know who wrote it, add --trust-pickle. Better: save it with skops.io.dump(model, 'model.skops').",
        )
    samples = choices.samples or fetched.samples or result.samples
    command = choices.python_command or f"turnout add {title} {quote(address)} --runtime python"
    done = _run(converter, result.path, samples, scratch, choices, remark, command)
    out = scratch / "out"
    if choices.is_python:
        remark("comparing predict.py with the original, with the packages that it gets on Lambda")
        made = _prove_python(out, done, choices, root)
    else:
        remark("proving that the graph answers like the original")
        made = _prove_graph(out, done, choices, converter, command)
    assert made.proof is not None
    examples = out / EXAMPLES_FILE
    examples.write_bytes(make_examples(out, made.proof, from_samples=samples is not None))
    provenance |= {"converter": converter.name, "packages": dict(done["packages"]), "date": date}
    notes = (*fetched.notes, *done["notes"])
    reports = _write_reports(title, out, provenance, made.proof, notes)
    return replace(made, provenance=provenance, examples=examples, reports=reports, notes=notes)


def _add_transform(
    given: Converted, encoder: Encoder | ImageClassifier, scratch: Path, choices: Choices, remark: Remark, root: Path
) -> Converted:
    """Return the version of a model that takes texts or images."""
    out = scratch / "out"
    out.mkdir()
    remark("writing transform.py, and trying it on texts or images")
    imports, seconds = root / CACHE_DIR / "imports", choices.limits.seconds
    if isinstance(encoder, ImageClassifier):
        made = make_image_version(encoder, given.path, out, imports, seconds=seconds)
    else:
        made = make_text_version(encoder, given.path, out, choices.samples, imports, seconds=seconds)
    return replace(
        given,
        path=made.path,
        transform=made.transform,
        examples=made.examples,
        requirements=made.requirements,
        tensors=made.tensors,
        notes=(*given.notes, *made.notes, f"{made.tried} have the same answers alone and in a batch"),
    )


def _prove_graph(out: Path, done: Mapping[str, Any], choices: Choices, converter: Converter, command: str) -> Converted:
    """Return the ONNX model that a converter wrote, with its proof."""
    model = out / "model" / "model.onnx"
    transform = None
    if done["transform"]:
        transform = out / TRANSFORM_FILE
        transform.write_text(done["transform"])
    seconds = choices.limits.seconds
    proof = prove(out, model, transform, done["groups"], done["refused"], choices.tolerance, seconds=seconds)
    if not proof.holds:
        raise DifferenceError(
            proof, causes=converter.causes, command=command if converter.name in PYTHON_CONVERTERS else ""
        )
    return Converted(model, {}, proof, transform)


def _prove_python(out: Path, done: Mapping[str, Any], choices: Choices, root: Path) -> Converted:
    """Return the Python file that a converter wrote, with its proof."""
    imports, seconds = root / CACHE_DIR / "imports", choices.limits.seconds
    made = prove_python(out, done, choices.requirements, choices.tolerance, imports, seconds=seconds)
    if not made.proof.holds:
        raise DifferenceError(made.proof, made.path.name)
    return Converted(made.path, {}, made.proof, signature=made.signature, requirements=made.requirements)


def fetch(address: str, scratch: Path, choices: Choices, remark: Remark, root: Path) -> Fetched:
    """Fetch what an address names to this machine."""
    source = find_source(address)
    if source is not None:
        target = scratch / "fetched"
        target.mkdir()
        return source.fetch(Order(address, target, choices.sha256, choices.limits, remark))
    path = Path(address)
    if not path.exists():
        raise ConversionError(f"{address}: no such file or folder")
    if choices.sha256 and (result := digest_of(path)) != choices.sha256.lower():
        raise ConversionError(f"{address} has sha256 {result}, not {choices.sha256.lower()}", "Check the file.")
    absolute, root = path.resolve(), root.resolve()
    inside = absolute.is_relative_to(root)
    return Fetched(path, absolute.relative_to(root).as_posix() if inside else path.name)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; for a folder, that of its files' digests and names.

    For a folder, it is the output of `sha256sum NAMES | sha256sum`.
    """
    from turnout.protocol.artifact_digest import combine_named_digests

    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return combine_named_digests({file.relative_to(path).as_posix(): file_digest(file) for file in files})


def _run(
    converter: Converter,
    path: Path,
    samples: Path | None,
    scratch: Path,
    choices: Choices,
    remark: Remark,
    command: str,
) -> Mapping[str, Any]:
    """Run the converter in its environment, without network access."""
    python = find_environment(converter.environment, remark)
    out = scratch / "out"
    out.mkdir()
    arguments = {
        "path": str(path.absolute()),
        "out": str(out),
        "samples": str(samples.absolute()) if samples else None,
        "opsets": dict(find_opsets()),
        "rtol": choices.tolerance.relative,
        "atol": choices.tolerance.absolute,
        "trust_pickle": choices.trust_pickle,
        "trusted_types": list(choices.trusted_types),
        "runtime": choices.runtime,
        "command": command,
        "external_bytes": choices.external_bytes,
        "modules": [str(module.absolute()) for module in choices.modules],
    }
    done = run_job(
        python,
        converter.module,
        arguments,
        scratch,
        limits=choices.limits,
        progress=lambda text: remark(f"{converter.title}: {text}"),
    )
    return done.value


def _write_reports(
    title: str, out: Path, provenance: Mapping[str, Any], proof: Proof, notes: tuple[str, ...]
) -> dict[str, Path]:
    whole = {"source": provenance, "proof": proof.to_json(), "notes": list(notes)}
    (out / JSON_FILE).write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    (out / PAGE_FILE).write_text(render_report(title, provenance, proof, notes))
    return {JSON_FILE: out / JSON_FILE, PAGE_FILE: out / PAGE_FILE}
