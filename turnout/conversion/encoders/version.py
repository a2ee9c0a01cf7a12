"""A version that accepts text: an encoder with its transform, tried with single texts and batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from turnout.conversion.converters.features import EMPTY_TEXTS, FOREIGN_TEXTS
from turnout.conversion.downloads import external_names
from turnout.conversion.encoders.description import TOKENIZER, Encoder
from turnout.conversion.encoders.transform_code import declare_tensors, make_transform, needs_outputs, write_graph
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import install_packages, run_script
from turnout.runtimes.registry import DEFAULT_RUNTIME

REQUIREMENTS = ("tokenizers",)

TEXTS = ("I like it very much.", "Berlin is the capital of Germany.", "The delivery was late and the box was damaged.")
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
"""Tolerance between a text alone and in a batch: padding changes the order of sums, but not the answer."""

SCRIPT = """
import importlib.util, json, os, sys
reports = os.dup(1)
os.dup2(2, 1)
job = json.load(sys.stdin)
sys.path[:0] = [job["code"], job["site"]]
import numpy as np
from pathlib import Path
from model_lambdas.onnx_model.session import open_session

spec = importlib.util.spec_from_file_location("transform", job["transform"])
transform = importlib.util.module_from_spec(spec)
spec.loader.exec_module(transform)
session = open_session(Path(job["model"]), 1769)
names = [row.name for row in session.get_outputs()]

def run(texts):
    encoded = np.array([text.encode() for text in texts], dtype=object)
    feed = transform.preprocess({job["name"]: encoded})
    return transform.postprocess(dict(zip(names, session.run(names, feed), strict=True)))

def plain(outputs):
    return {name: np.asarray(values).tolist() for name, values in outputs.items()}

texts = job["texts"]
whole = run(texts)
differ = []
for at, text in enumerate(texts):
    for name, values in run([text]).items():
        alone, batched = (np.asarray(rows[at]) for rows, at in ((values, 0), (whole[name], at)))
        if alone.ndim:
            batched = batched[: len(alone)]
        same = (alone == batched) if alone.dtype.kind not in "f" else np.isclose(alone, batched, **job["tolerance"])
        if not np.all(same):
            differ.append({"text": text[:80], "output": name, "alone": alone.tolist(), "batched": batched.tolist()})
shown = texts[: job["shown"]]
report = {"differ": differ, "alone": [plain(run([text])) for text in shown], "together": plain(run(shown))}
os.write(reports, json.dumps(report).encode())
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class EncoderVersion:
    """The files of a version whose transform makes tensors from texts or images.

    Args:
        path: the ONNX file.
        transform: the transform, beside its tokenizer.
        tensors: `inputs` and `outputs` of models.yaml.
        examples: the examples file.
        tried: the tried inputs: `17 texts`.
        notes: what the user should know.
    """

    path: Path
    transform: Path
    tensors: Mapping[str, Any]
    examples: Path
    tried: str
    requirements: tuple[str, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)


def make_text_version(
    encoder: Encoder, model: Path, out: Path, samples: Path | None, imports: Path, *, seconds: float
) -> EncoderVersion:
    """Write the transform and the examples of an encoder, and try both with texts.

    Args:
        encoder: its description.
        model: the ONNX file.
        out: an empty folder.
        samples: a file with texts, or None.
        imports: where packages are installed.
        seconds: time limit.

    Raises:
        ConversionError: it cannot be run, or its answers in a batch differ from those alone.
    """
    path = model
    if needs_outputs(encoder):
        path = out / "graph" / "model.onnx"
        path.parent.mkdir()
        write_graph(encoder, model, path)
        for name in external_names(model):
            (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.parent / name, path.parent / name)
    transform = out / "transform.py"
    transform.write_text(make_transform(encoder))
    shutil.copyfile(encoder.folder / TOKENIZER, out / TOKENIZER)
    given = read_texts(samples) if samples else TEXTS
    texts = [*given, *EMPTY_TEXTS[:4], "word " * (2 * encoder.longest), *FOREIGN_TEXTS]
    shown = given[:3]
    report = run_version(path, transform, "text", texts, len(shown), REQUIREMENTS, imports, seconds)
    check_batches(report, "a text", "the graph ignores attention_mask, or was exported for one length")
    width = len(report["together"]["embedding"][0]) if encoder.task == "embedding" else 0
    tensors = declare_tensors(encoder, width)
    examples = out / "examples.json"
    examples.write_bytes(make_examples("text", shown, report, tensors))
    return EncoderVersion(path, transform, tensors, examples, f"{len(texts)} texts", REQUIREMENTS, encoder.notes)


def check_batches(report: Mapping[str, Any], what: str, causes: str) -> None:
    """Raise a ConversionError if an answer changes when other values are in the same request."""
    if not report["differ"]:
        return
    row = report["differ"][0]
    raise ConversionError(
        f"{len(report['differ'])} answers change when {what} is in a batch, so nothing was added",
        f"{row['text']!r}: {row['output']} is {_clip(row['alone'])} alone and {_clip(row['batched'])} in a batch.\n"
        f"    Usual causes: {causes}. Export it again with dynamic axes, or pass --runtime onnx.",
        code=1,
    )


def read_texts(path: Path) -> tuple[str, ...]:
    """Return the texts in a file: a JSON list, or one per line.

    Raises:
        ConversionError: it cannot be read, or contains none.
    """
    try:
        content = path.read_text()
        texts = json.loads(content) if path.suffix.lower() == ".json" else content.splitlines()
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ConversionError(
            f"{path.name} must hold texts: a JSON list of strings, or a text file with one on each line"
        )
    return tuple(texts[:200])


def run_version(
    model: Path,
    transform: Path,
    name: str,
    values: Sequence[str],
    shown: int,
    requirements: Sequence[str],
    imports: Path,
    seconds: float,
) -> Mapping[str, Any]:
    """Run a graph with its transform on each value alone and on all together.

    Args:
        model: the ONNX file.
        transform: the Python file.
        name: the input.
        values: its values, as text.
        shown: number of values that become examples.
        requirements: the transform's packages.
        imports: where packages are installed.
        seconds: time limit.

    Raises:
        ConversionError: the packages cannot be installed, or it cannot be run.
    """
    code, site = install_packages(requirements, DEFAULT_RUNTIME, imports)
    job = {
        "code": str(code),
        "site": str(site),
        "model": str(model),
        "transform": str(transform),
        "name": name,
        "texts": list(values),
        "shown": shown,
        "tolerance": TOLERANCE,
    }
    result = run_script(SCRIPT, job, seconds, subject="the model", task=f"{len(values)} requests")
    try:
        report: dict[str, Any] = json.loads(result.printed)
    except ValueError:
        raise ConversionError(
            f"the model and its transform cannot be run: {result.reason}",
            "Pass --runtime onnx to add the graph with its own inputs and outputs.",
            code=1,
        ) from None
    return report


def make_examples(name: str, values: Sequence[str], report: Mapping[str, Any], tensors: Mapping[str, Any]) -> bytes:
    """Return an examples.json with each value alone, and with all together."""
    rows = [(f"{name} {number}", [value], report["alone"][number - 1]) for number, value in enumerate(values, 1)]
    if len(values) > 1:
        rows.append((f"{name}s 1-{len(values)}", list(values), report["together"]))
    made = [
        {
            "name": title,
            "request": {
                "inputs": [{"name": name, "shape": [len(given)], "datatype": "BYTES", "data": given}],
            },
            "response": {
                "outputs": [
                    {
                        "name": output,
                        "shape": _shape(answers[output]),
                        "datatype": declared["datatype"],
                        "data": _flat(answers[output]),
                    }
                    for output, declared in tensors["outputs"].items()
                ]
            },
            "tolerance": {"absolute": TOLERANCE["atol"], "relative": TOLERANCE["rtol"]},
        }
        for title, given, answers in rows
    ]
    return orjson.dumps(made, option=orjson.OPT_INDENT_2)


def _shape(values: Any) -> list[int]:
    return [len(values), *_shape(values[0])] if isinstance(values, list) and values else []


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in _flat(value)] if isinstance(values, list) else [values]


def _clip(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
