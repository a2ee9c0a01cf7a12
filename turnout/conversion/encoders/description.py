"""Reads the files beside an ONNX encoder: its task, labels, longest text and pooling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from turnout.conversion.errors import ConversionError

TOKENIZER, CONFIG = "tokenizer.json", "config.json"
OTHERS = ("tokenizer_config.json", "modules.json", "1_Pooling/config.json")
PREPROCESSOR = "preprocessor_config.json"
FILES = (TOKENIZER, CONFIG, PREPROCESSOR, *OTHERS)
"""The files of a repository that describe an encoder."""

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
KINDS = {onnx.TensorProto.INT64: "np.int64", onnx.TensorProto.INT32: "np.int32"}
"""The datatypes of token ids, by their numpy names."""

TASKS = {"ForSequenceClassification": "classification", "ForTokenClassification": "tokens", "Model": "embedding"}
"""End of the architecture's name -> task. Source: the classes of the package transformers."""

DEFAULT_LENGTH = 512
MOST_LENGTH = 100_000
"""Largest plausible length: tokenizers without a limit have a huge number."""

SHIFTED = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet"})
"""Model types that reserve their first positions for padding, so two fewer tokens fit."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder and its tokenizer.

    Args:
        folder: folder of the tokenizer.
        task: `classification`, `tokens` or `embedding`.
        inputs: name of each input of the graph -> numpy's datatype.
        output: the graph's output to use.
        rank: the number of dimensions of that output.
        longest: number of tokens that fit.
        pad: the padding token and its id.
        labels: names of the classes.
        is_multilabel: whether several classes may apply at once.
        pooling: `mean` or `cls`.
        is_normalized: whether embeddings have the length 1.
        notes: assumptions that were made.
    """

    folder: Path
    task: str
    inputs: Mapping[str, str]
    output: str
    rank: int
    longest: int
    pad: tuple[str, int]
    labels: tuple[str, ...] = ()
    is_multilabel: bool = False
    pooling: str = "mean"
    is_normalized: bool = False
    notes: tuple[str, ...] = ()


def find_folder(model: Path) -> Path | None:
    """Return the folder that describes an ONNX file: its own, or the one above `onnx`; None if neither does."""
    folders = [model.parent, *([model.parent.parent] if model.parent.name == "onnx" else [])]
    for folder in folders:
        if (folder / CONFIG).is_file() and ((folder / TOKENIZER).is_file() or (folder / PREPROCESSOR).is_file()):
            return folder
    return None


def describe_encoder(model: Path) -> Encoder | None:
    """Return the encoder of an ONNX file; None if it is not one, or its files do not state its task.

    Raises:
        ConversionError: its files cannot be read.
    """
    folder = find_folder(model)
    if folder is None or not (folder / TOKENIZER).is_file():
        return None
    config = read_object(folder / CONFIG)
    architecture = next(iter(config.get("architectures") or ()), "")
    task = next((task for end, task in TASKS.items() if architecture.endswith(end)), "")
    inputs, outputs = signature_of(model)
    if not task or not inputs or not set(inputs) <= INPUTS or "input_ids" not in inputs:
        return None
    if not all(inputs.values()):
        return None
    name, rank = _output(task, outputs)
    if not name:
        return None
    tokenizer, beside = read_object(folder / TOKENIZER), read_object(folder / OTHERS[0])
    pooling, is_normalized, notes = _pooling(folder) if task == "embedding" and rank == 3 else ("mean", False, ())
    if rank == 3 and "attention_mask" not in inputs:
        return None  # nothing says which tokens are padding
    return Encoder(
        folder,
        task,
        inputs,
        name,
        rank,
        _longest(config, beside),
        _padding(config, beside, tokenizer),
        labels_of(config) if task != "embedding" else (),
        config.get("problem_type") == "multi_label_classification",
        pooling,
        is_normalized,
        notes,
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object of a file, empty if the file is missing."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path.name} must be a JSON object")
    return value


def signature_of(model: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Return the datatype of each input by name, and the number of dimensions of each output."""
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception:  # the runtime says what is wrong with it
        return {}, {}
    weights = {row.name for row in graph.initializer}
    inputs = {row.name: KINDS.get(row.type.tensor_type.elem_type, "") for row in graph.input if row.name not in weights}
    return inputs, {row.name: len(row.type.tensor_type.shape.dim) for row in graph.output}


def _output(task: str, outputs: Mapping[str, int]) -> tuple[str, int]:
    """Return the output for the task; empty if there is none."""
    wanted = {"classification": {"logits": 2}, "tokens": {"logits": 3}}.get(task)
    names = ("sentence_embedding", "last_hidden_state", "token_embeddings") if wanted is None else tuple(wanted)
    for name in names:
        if name in outputs:
            return name, outputs[name]
    if len(outputs) == 1:
        ((name, rank),) = outputs.items()
        if wanted is None or rank in wanted.values():
            return name, rank
    return "", 0


def _longest(config: Mapping[str, Any], beside: Mapping[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings") or 0)
    positions -= 2 if config.get("model_type") in SHIFTED else 0
    stated = beside.get("model_max_length")
    limits = [positions, int(stated) if isinstance(stated, int | float) and stated < MOST_LENGTH else 0]
    return min((limit for limit in limits if limit > 0), default=DEFAULT_LENGTH)


def _padding(config: Mapping[str, Any], beside: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> tuple[str, int]:
    """Return the padding token and its id, from the tokenizer or else from the configuration."""
    given = beside.get("pad_token") or "[PAD]"
    name = str(given["content"] if isinstance(given, Mapping) else given)
    known = {str(row.get("content")): int(row["id"]) for row in tokenizer.get("added_tokens") or ()}
    number = config.get("pad_token_id")
    return name, known.get(name, int(number) if number is not None else 0)


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers."""
    names = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    if sorted(names) != list(range(len(names))) or not names:
        raise ConversionError(
            f"{CONFIG} does not name the classes: `id2label` must have an entry for each",
            "Add it, or pass --runtime onnx to serve the graph with its own inputs and outputs.",
        )
    return tuple(names[number] for number in range(len(names)))


def _pooling(folder: Path) -> tuple[str, bool, tuple[str, ...]]:
    """Return how sentence-transformers combines the vectors of a text's tokens."""
    pooling = read_object(folder / OTHERS[2])
    modules = folder / OTHERS[1]
    is_normalized = modules.is_file() and b"Normalize" in modules.read_bytes()
    if not pooling:
        return (
            "mean",
            is_normalized,
            ("the repository does not say how tokens are pooled: transform.py takes their mean",),
        )
    chosen = [name for name, is_on in pooling.items() if name.startswith("pooling_mode_") and is_on is True]
    if chosen == ["pooling_mode_mean_tokens"]:
        return "mean", is_normalized, ()
    if chosen == ["pooling_mode_cls_token"]:
        return "cls", is_normalized, ()
    raise ConversionError(
        f"{OTHERS[2]} asks for a pooling that Turnout does not support: {', '.join(chosen) or 'none'}",
        "Pass --runtime onnx, and write the transform yourself: see docs/transforms.md.",
    )
