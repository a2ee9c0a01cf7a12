"""Writes predict.py for an estimator without an ONNX form, and the rows on which it is compared with its original."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .convert import Answers, Progress, answer_groups, join, length_of, make_feed, package_versions
from .exchange import write_arrays
from .features import Feature, draw_groups, note_texts, read_samples
from .start import RefusedJob

CODE = '''\
"""Serves {file} with scikit-learn. Written by `turnout add --runtime python`; edit it as you like."""

{imports}

{constants}estimator = None


def load(folder):
    """Open the estimator, once, before the first request."""
    global estimator
{load}

def predict(inputs):
    """Return what the estimator answers to a request's rows."""
{predict}'''

TABLE_OF_COLUMNS = '''\
def column_of(values):
    """Return one column of a request; texts arrive as bytes."""
    values = values.reshape(-1)
    return np.array([text.decode() for text in values.tolist()], dtype=object) if values.dtype == object else values


'''

LOCKED = """\
    with vars(sys).setdefault("_loading", threading.Lock()):  # other versions may have modules of these names
        before = {name: sys.modules.get(name) for name in MODULES}
        sys.modules.update(MODULES)
        try:
            estimator = %s
        finally:
            for name, module in before.items():
                sys.modules.pop(name) if module is None else sys.modules.update({name: module})
"""

DATATYPES = {"float": "FP64", "int": "INT64", "bool": "BOOL", "text": "BYTES"}


def import_modules(files: Sequence[str]) -> None:
    """Import the files that contain an estimator's own classes, each under its own name."""
    for file in map(Path, files):
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if spec is None or spec.loader is None:
            raise RefusedJob(f"{file.name} is not a Python file", "Name a file that ends with .py.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            raise RefusedJob(
                f"{file.name} imports {error.name!r}, which is not in the converter's environment",
                "Write predict.py yourself, and name the package with --requirement: see docs/runtimes.md.",
            ) from error
        except Exception as error:
            raise RefusedJob(f"{file.name} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(file.parent))


def write_python(original: Any, job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Write the version's files into `job["out"]`; return the information for Turnout."""
    path, out = Path(job["path"]), Path(job["out"])
    answers = answer_rows(original, job, "FP64", progress)
    folder = out / "python"
    folder.mkdir()
    shutil.copyfile(path, folder / path.name)
    for file in map(Path, job["modules"]):
        shutil.copyfile(file, folder / file.name)
    kinds = {name: values.dtype for name, values in answers.outputs.items()}
    (folder / "predict.py").write_text(make_code(original, path.name, job, kinds))
    return {
        **describe_answers(original, answers, "FP64"),
        "requirements": _requirements(original, path),
        "packages": package_versions(("scikit-learn",)),
    }


def answer_rows(original: Any, job: Mapping[str, Any], floats: str, progress: Progress) -> Answers:
    """Return the original's answers to the rows of the proof, and write both into `job["out"]`.

    Args:
        original: the open model.
        job: the converter's job.
        floats: the datatype of numeric inputs, `FP64` or `FP32`.
        progress: called with a message for the user.
    """
    out, samples = Path(job["out"]), None
    if job.get("samples"):
        note_texts(Path(job["samples"]), original.features)
        samples = read_samples(Path(job["samples"]), original.features)
    progress("answering rows")
    answers = answer_groups(original, draw_groups(original.features, samples), floats)
    write_arrays(out / "inputs", make_feed(original, join(answers.groups), floats))
    write_arrays(out / "expected", answers.outputs)
    return answers


def describe_answers(original: Any, answers: Answers, floats: str) -> dict[str, Any]:
    """Return the information for Turnout that every model has."""
    return {
        "groups": [{"name": row.name, "rows": length_of(row.rows)} for row in answers.groups],
        "refused": answers.refused,
        "signature": make_signature(original, answers.outputs, floats),
        "notes": original.notes,
    }


def _requirements(original: Any, path: Path) -> list[str]:
    names = ["scikit-learn", "skops" if path.suffix == ".skops" else "joblib"]
    names += [] if original.matrix or original.is_text else ["pandas"]
    return [f"{name}=={version}" for name, version in package_versions(names).items()]


def _is_binary(original: Any) -> bool:
    """Whether its scores are one number for two classes; an outlier detector has no classes."""
    return len(getattr(original.estimator, "classes_", ())) == 2


def make_signature(original: Any, outputs: Mapping[str, np.ndarray[Any, Any]], floats: str = "FP64") -> dict[str, Any]:
    """Return the `signature` for models.yaml."""
    features: list[Feature] = original.features
    if original.matrix:
        inputs: dict[str, Any] = {original.matrix: {"datatype": floats, "shape": [-1, len(features)]}}
    else:
        shape = [-1] if len(features) == 1 and features[0].kind == "text" else [-1, 1]
        inputs = {
            row.name: {"datatype": floats if row.kind == "float" else DATATYPES[row.kind], "shape": shape}
            for row in features
        }
    codes = {"O": "BYTES", "i": "INT64", "f": "FP64", "b": "BOOL"}
    return {
        "inputs": inputs,
        "outputs": {
            name: {"datatype": codes[values.dtype.kind], "shape": [-1, *values.shape[1:]]}
            for name, values in outputs.items()
        },
    }


def make_code(original: Any, file: str, job: Mapping[str, Any], kinds: Mapping[str, np.dtype[Any]]) -> str:
    """Return the source code of predict.py."""
    modules = [Path(module).stem for module in job["modules"]]
    is_skops = file.endswith(".skops")
    is_frame = not original.matrix and not original.is_text
    library = ["import sys", "import threading"] if modules else []
    packages = ["import joblib"] if not is_skops else []
    packages += ["import numpy as np"]
    packages += ["import pandas as pd"] if is_frame else []
    packages += ["import skops.io"] if is_skops else []
    own = [f"import {name}" for name in modules]
    imports = "\n\n".join("\n".join(part) for part in (library, packages, own) if part)
    constants = ""
    if is_skops:
        constants += f"TRUSTED = {list(job['trusted_types'])!r}\n"
    if modules:
        constants += f"MODULES = {{{', '.join(f'{name!r}: {name}' for name in modules)}}}\n"
    if is_frame:
        constants += f"COLUMNS = {[row.name for row in original.features]!r}\n"
    opened = f'skops.io.load(folder / "{file}", trusted=TRUSTED)' if is_skops else f'joblib.load(folder / "{file}")'
    load = LOCKED % opened if modules else f"    estimator = {opened}\n"
    code = CODE.format(file=file, imports=imports, constants=constants, load=load, predict=_predict(original, kinds))
    return code.replace("\n\ndef predict", f"\n\n{TABLE_OF_COLUMNS}def predict") if is_frame else code


def _predict(original: Any, kinds: Mapping[str, np.dtype[Any]]) -> str:
    if original.matrix:
        table = f'inputs["{original.matrix}"]'
    elif original.is_text:
        table = f"[text.decode() for text in inputs[{original.features[0].name!r}].reshape(-1).tolist()]"
    else:
        table = "pd.DataFrame({name: pd.Series(column_of(inputs[name])) for name in COLUMNS})"
    lines = [f"table = {table}"]
    label = "object" if kinds.get("label", np.dtype(np.int64)).hasobject else "np.int64"
    values = {
        "label": f"np.asarray(estimator.predict(table)).astype({label})",
        "probabilities": "estimator.predict_proba(table)",
        "scores": "np.asarray(estimator.decision_function(table), np.float64)",
        "distances": "np.asarray(estimator.transform(table), np.float64)",
        "prediction": "np.asarray(estimator.predict(table), np.float64)",
        "transformed": "estimator.transform(table)",
    }
    if "scores" in kinds and _is_binary(original):
        lines.append("scores = np.asarray(estimator.decision_function(table), np.float64)")
        values["scores"] = "np.column_stack([-scores, scores])"
    if "transformed" in kinds:
        lines.append("transformed = estimator.transform(table)")
        dense = 'transformed.toarray() if hasattr(transformed, "toarray") else transformed'
        values["transformed"] = f"np.asarray({dense}, np.float64)"
    if "probabilities" in kinds and isinstance(getattr(original.estimator, "classes_", None), list):
        values["probabilities"] = "np.stack(estimator.predict_proba(table), axis=1)"
    returned = "".join(f'        "{name}": {values[name]},\n' for name in kinds)
    return "".join(f"    {line}\n" for line in lines) + f"    return {{\n{returned}    }}\n"
