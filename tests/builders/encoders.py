"""Tiny encoders in the layout of Hugging Face's repositories: a real tokenizer.json and a small graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "very", "not", "berlin", "word", "the", "i", "like", "it")
WIDTH = 4


def tokenizer_json() -> dict[str, Any]:
    """Return a tokenizer of whole words in lower case, between [CLS] and [SEP]."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    around = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": at, "content": word, **special} for at, word in enumerate(WORDS[:4])],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": around,
            "pair": [*around, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                name: {"id": name, "ids": [WORDS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }


def encoder_graph(task: str, *, reads_mask: bool = True) -> onnx.ModelProto:
    """Return embeddings of tokens; for `classification` their mean and three classes, for `tokens` three classes of
    each.

    Args:
        task: `classification`, `tokens` or `embedding`.
        reads_mask: whether the mean leaves out padding, as it must.
    """
    random = np.random.default_rng(0)
    weights = {
        "table": random.normal(size=(len(WORDS), WIDTH)).astype(np.float32),
        "classes": random.normal(size=(WIDTH, 3)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["vectors"])]
    output, shape = "logits", ["batch", "sequence", 3]
    if task == "embedding":
        output, shape = "last_hidden_state", ["batch", "sequence", WIDTH]
        nodes.append(helper.make_node("Identity", ["vectors"], [output]))
    elif task == "tokens":
        nodes.append(helper.make_node("MatMul", ["vectors", "classes"], [output]))
    else:
        shape = ["batch", 3]
        nodes.append(helper.make_node("Cast", ["attention_mask"], ["numbers"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["numbers", "last"], ["mask3"]))
        if reads_mask:
            nodes.append(helper.make_node("Mul", ["vectors", "mask3"], ["masked"]))
            nodes.append(helper.make_node("ReduceSum", ["masked", "axis"], ["sum"], keepdims=0))
            nodes.append(helper.make_node("ReduceSum", ["mask3", "axis"], ["count"], keepdims=0))
            nodes.append(helper.make_node("Div", ["sum", "count"], ["mean"]))
        else:
            nodes.append(helper.make_node("ReduceMean", ["vectors", "axis"], ["mean"], keepdims=0))
        nodes.append(helper.make_node("MatMul", ["mean", "classes"], [output]))
    tensors = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


ARCHITECTURES = {
    "classification": "BertForSequenceClassification",
    "tokens": "BertForTokenClassification",
    "embedding": "BertModel",
}


def encoder_files(task: str, *, reads_mask: bool = True, **config: Any) -> dict[str, bytes]:
    """Return path in the repository -> content."""
    labels = {str(at): name for at, name in enumerate(("negative", "neutral", "positive"))}
    given = {
        "architectures": [ARCHITECTURES[task]],
        "model_type": "bert",
        "max_position_embeddings": 16,
        "pad_token_id": 0,
        "id2label": labels,
        **config,
    }
    return {
        "onnx/model.onnx": encoder_graph(task, reads_mask=reads_mask).SerializeToString(),
        "config.json": json.dumps(given).encode(),
        "tokenizer.json": json.dumps(tokenizer_json()).encode(),
        "tokenizer_config.json": json.dumps({"model_max_length": 512, "pad_token": "[PAD]"}).encode(),
    }


def write_encoder(folder: Path, task: str, *, reads_mask: bool = True, **config: Any) -> Path:
    """Write a repository's files, and return the graph's path."""
    for name, content in encoder_files(task, reads_mask=reads_mask, **config).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "onnx" / "model.onnx"
