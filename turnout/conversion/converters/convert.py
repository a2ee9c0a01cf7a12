"""Does one conversion from start to end.

It loads the model, generates rows, converts as precisely as onnxruntime can run it, and answers the rows with the
original.

Some graphs cannot be run with float64 inputs. Therefore an original offers candidates, the most precise first, and the
first one that answers like the original is used. This only selects a candidate: the proof is made outside, by the code
that serves the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from .exchange import Arrays, as_objects, write_arrays
from .features import Batch, Feature, RowGroup, draw_groups, read_samples
from .graphs import check_versions, is_large, open_session, save, set_output_shapes, set_output_types, tidy
from .start import RefusedJob

Progress = Callable[[str], None]

FLOATS: Mapping[str, np.dtype[Any]] = {"FP64": np.dtype(np.float64), "FP32": np.dtype(np.float32)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to convert a model.

    Args:
        floats: the datatype of numeric inputs, `FP64` or `FP32`.
        make: converts; raises an exception if it cannot.
    """

    floats: str
    make: Callable[[], onnx.ModelProto]


class Original(Protocol):
    """An open model in its own format."""

    features: list[Feature]
    matrix: str
    """The name of the single input that contains all columns, or empty if each column is an input."""

    transform: str
    """Source code of the transform that the version needs, or empty."""

    notes: list[str]

    def predict(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        """Return the outputs under the names of the graph's outputs, in the graph's order."""
        ...

    def candidates(self, opsets: Mapping[str, int], /) -> Iterator[Candidate]:
        """Return the candidates, the most precise first."""
        ...


@dataclass(slots=True)
class Answers:
    """What the original returned: groups with rows, outputs for all rows, and the groups that it rejected."""

    groups: list[RowGroup]
    outputs: dict[str, np.ndarray[Any, Any]]
    refused: dict[str, str]


def convert(original: Original, job: Mapping[str, Any], packages: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Convert one model into `job["out"]`; return the information for Turnout."""
    out = Path(job["out"])
    samples = read_samples(Path(job["samples"]), original.features) if job.get("samples") else None
    groups = draw_groups(original.features, samples)
    reasons: list[str] = []
    best: tuple[float, Candidate, Answers] | None = None
    for candidate in original.candidates(job["opsets"]):
        progress(f"converting with {candidate.floats} inputs")
        path = out / f"model-{candidate.floats}" / "model.onnx"
        try:
            answers = answer_groups(original, groups, candidate.floats)
            path.parent.mkdir(parents=True, exist_ok=True)
            save(_make(candidate, answers, job), path, job)
            session = open_session(path)
        except RefusedJob:
            raise
        except Exception as error:
            reasons.append(_first_line(error))
            continue
        progress("comparing")
        wrong = _wrong(session, path, original, answers, candidate.floats, job)
        if best is None or wrong < best[0]:
            best = (wrong, candidate, answers)
        if not wrong:
            break
    if best is None:
        hint = PYTHON_HINT
        if "scikit-learn" in packages:
            hint = f"Serve it as Python instead: {python_command(job)}"
        raise RefusedJob(f"this model cannot be converted: {reasons[0] if reasons else 'no converter'}", hint)
    _, candidate, answers = best
    (out / f"model-{candidate.floats}").rename(out / "model")
    inputs = make_feed(original, join(answers.groups), candidate.floats)
    write_arrays(out / "inputs", {name: inputs[name] for name in _input_names(out / "model" / "model.onnx")})
    write_arrays(out / "expected", answers.outputs)
    return {
        "groups": [{"name": row.name, "rows": length_of(row.rows)} for row in answers.groups],
        "refused": answers.refused,
        "floats": candidate.floats,
        "transform": original.transform,
        "notes": original.notes,
        "packages": package_versions(packages),
    }


PYTHON_HINT = "Serve it as Python instead: see docs/runtimes.md."


def python_command(job: Mapping[str, Any]) -> str:
    """Return the command that serves the job's model as Python."""
    default = f"turnout add MODEL VERSION {Path(job['path']).name} --runtime python"
    return str(job.get("command", default))


def _make(candidate: Candidate, answers: Answers, job: Mapping[str, Any]) -> onnx.ModelProto:
    model = candidate.make()
    if reason := check_versions(model, job["opsets"]):
        raise ValueError(reason)
    count = len(model.graph.output)
    if not is_large(model, job):
        set_output_types(model)
    return tidy(model, [*answers.outputs, *(f"output_{at}" for at in range(len(answers.outputs), count))][:count])


def _input_names(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path, load_external_data=False).graph.input]


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the releases of the installed packages."""
    result = {}
    for name in names:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def join(groups: Sequence[RowGroup]) -> Batch:
    """Return the rows of all groups, one after another."""
    return {name: np.concatenate([group.rows[name] for group in groups]) for name in groups[0].rows}


def rounded(batch: Batch, floats: str) -> Batch:
    """Return the values that arrive when clients send them with this datatype."""
    with np.errstate(over="ignore"):
        return {
            name: column.astype(FLOATS[floats]).astype(np.float64) if column.dtype.kind == "f" else column
            for name, column in batch.items()
        }


def make_feed(original: Original, batch: Batch, floats: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the request's tensors for these rows."""
    batch = rounded(batch, floats)
    if original.matrix:
        kind = FLOATS[floats]
        return {original.matrix: np.column_stack([column.astype(kind) for column in batch.values()])}
    feed = {}
    alone = len(batch) == 1
    for name, column in batch.items():
        value = column.astype(FLOATS[floats]) if column.dtype.kind == "f" else column
        feed[name] = value if alone and value.dtype == object else value.reshape(-1, 1)
    return feed


def answer_groups(original: Original, groups: Sequence[RowGroup], floats: str) -> Answers:
    """Return the original's answers; edge values that it rejects are left out, other rows must work."""
    kept: list[RowGroup] = []
    parts: list[dict[str, np.ndarray[Any, Any]]] = []
    refused: dict[str, str] = {}
    for group in groups:
        try:
            outputs = original.predict(rounded(group.rows, floats))
        except Exception as error:
            if group is groups[0]:
                hint = "" if group.name == "samples" else "Pass rows that it accepts: --samples FILE."
                raise RefusedJob(
                    f"the original fails for some rows ({group.name}): {_first_line(error)}", hint
                ) from error
            refused[group.name] = _first_line(error)
            continue
        kept.append(group)
        parts.append({name: as_objects(value) for name, value in outputs.items()})
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Answers(kept, outputs, refused)


def _wrong(
    session: Any, path: Path, original: Original, answers: Answers, floats: str, job: Mapping[str, Any]
) -> float:
    """Return how many values of the candidate's outputs differ; infinity if it cannot be run."""
    feed = make_feed(original, join(answers.groups), floats)
    try:
        feed = run_transform(original.transform, feed)
        wanted = [row.name for row in session.get_inputs()]
        got = session.run(list(answers.outputs), {name: feed[name] for name in wanted})
    except Exception:
        return float("inf")
    set_output_shapes(path, [value.shape for value in got])
    return float(sum(count_wrong(want, have, job) for want, have in zip(answers.outputs.values(), got, strict=True)))


def run_transform(source: str, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Return the result of a transform's `preprocess` for a request's tensors."""
    if not source:
        return dict(feed)
    scope: dict[str, Any] = {"__name__": "transform"}
    exec(compile(source, "transform.py", "exec"), scope)  # noqa: S102 - the source was generated here
    encoded = {name: _encode(value) if value.dtype == object else value for name, value in feed.items()}
    return {name: as_objects(value) for name, value in scope["preprocess"](encoded).items()}


def _encode(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    encoded = np.empty(texts.shape, dtype=object)
    encoded.ravel()[:] = [text.encode() for text in texts.ravel()]
    return encoded


def count_wrong(want: Any, have: Any, job: Mapping[str, Any]) -> int:
    """Return how many values differ: floats by the job's tolerance, anything else exactly."""
    want, have = np.asarray(want), as_objects(have)
    if want.size != have.size:
        return int(max(want.size, have.size))
    want, have = want.ravel(), have.ravel()
    if want.dtype.kind != "f":
        return int((want != have).sum())
    near = np.isclose(have, want, rtol=job["rtol"], atol=job["atol"], equal_nan=True)
    return int(np.count_nonzero(~near))


def length_of(batch: Batch) -> int:
    """Return the number of rows."""
    return len(next(iter(batch.values())))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
