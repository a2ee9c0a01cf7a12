"""Writes the transform of an encoder, and the graph's outputs that this transform reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from turnout.conversion.encoders.description import Encoder

HEAD = '''\
"""Tokenizes texts for the encoder, and makes {what} of its answers. Written by `turnout add`; edit it as you like."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from turnout.protocol.errors import Refused

LONGEST = {longest}  # tokens of a text; the rest is cut off
{constants}
tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
tokenizer.enable_truncation(LONGEST)
tokenizer.enable_padding(pad_token={pad!r}, pad_id={number})


def preprocess(inputs):
    """Return the numbers of each text's tokens; shorter texts are padded."""
    if not inputs["text"].size:
        raise Refused("`text` is empty: send at least one text")
    rows = tokenizer.encode_batch([text.decode() for text in inputs["text"].tolist()])
    return {{
{fields}    }}


def postprocess(outputs):
'''

FIELDS = {
    "input_ids": "[row.ids for row in rows]",
    "attention_mask": "[row.attention_mask for row in rows]",
    "token_type_ids": "[row.type_ids for row in rows]",
}

SOFTMAX = '''\
    """Return the most probable class of each text, and the probabilities of all."""
    logits = outputs["{output}"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    label = np.array([LABELS[at] for at in probabilities.argmax(axis=1)], dtype=object)
    return {{"label": label, "probabilities": probabilities}}
'''

SIGMOID = '''\
    """Return the probability of each class; several may hold at once."""
    return {{"probabilities": (1 / (1 + np.exp(-outputs["{output}"]))).astype(np.float32)}}
'''

TOKENS = '''\
    """Return the label of each token, its probability, and its place in the text; places of padding are empty."""
    logits = outputs["{output}"]
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities = powers / powers.sum(axis=2, keepdims=True)
    starts, ends = outputs["token_offsets"][:, :, 0], outputs["token_offsets"][:, :, 1]
    is_text = ends > starts  # special tokens have no place
    best = probabilities.argmax(axis=2)
    labels = np.array([[LABELS[at] for at in row] for row in best.tolist()], dtype=object).reshape(best.shape)
    labels[~is_text] = ""
    scores = np.where(is_text, probabilities.max(axis=2), 0).astype(np.float32)
    return {{"labels": labels, "scores": scores, "starts": starts, "ends": ends}}
'''

MEAN = '''\
    """Return the mean of the vectors of each text's tokens{length}."""
    mask = outputs["mask"][:, :, None].astype(np.float32)
    vectors = (outputs["{output}"] * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1e-9)
'''

FIRST = '''\
    """Return the vector of each text's first token{length}."""
    vectors = outputs["{output}"][:, 0]
'''

GIVEN = '''\
    """Return the vector of each text{length}."""
    vectors = outputs["{output}"]
'''

NORMALIZE = """\
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
"""

EMBEDDING = """\
    return {"embedding": vectors.astype(np.float32)}
"""

WHAT = {"classification": "labels", "tokens": "labels", "embedding": "vectors"}


def make_transform(encoder: Encoder) -> str:
    """Return the source of the transform."""
    fields = [f'        "{name}": np.array({FIELDS[name]}, {kind}),\n' for name, kind in encoder.inputs.items()]
    if encoder.task == "tokens":
        fields.append(
            '        "offsets": np.array([row.offsets for row in rows], np.int64).reshape(len(rows), -1, 2),\n'
        )
    pad, number = encoder.pad
    head = HEAD.format(
        what=WHAT[encoder.task],
        longest=encoder.longest,
        constants=f"LABELS = {list(encoder.labels)!r}\n" if encoder.labels else "",
        pad=pad,
        number=number,
        fields="".join(fields),
    )
    return head + _postprocess(encoder)


def _postprocess(encoder: Encoder) -> str:
    if encoder.task == "tokens":
        return TOKENS.format(output=encoder.output)
    if encoder.task == "classification":
        return (SIGMOID if encoder.is_multilabel else SOFTMAX).format(output=encoder.output)
    length = ", with the length 1" if encoder.is_normalized else ""
    template = GIVEN if encoder.rank == 2 else FIRST if encoder.pooling == "cls" else MEAN
    body = template.format(output=encoder.output, length=length)
    return body + (NORMALIZE if encoder.is_normalized else "") + EMBEDDING


def declare_tensors(encoder: Encoder, width: int) -> dict[str, Any]:
    """Return `inputs` and `outputs` of the version in models.yaml.

    Args:
        encoder: the encoder.
        width: length of an embedding.
    """
    labels = len(encoder.labels)
    outputs: Mapping[str, Any]
    if encoder.task == "tokens":
        kinds = {"labels": "BYTES", "scores": "FP32", "starts": "INT64", "ends": "INT64"}
        outputs = {name: {"datatype": kind, "shape": [-1, -1]} for name, kind in kinds.items()}
    elif encoder.task == "classification":
        label = {} if encoder.is_multilabel else {"label": {"datatype": "BYTES", "shape": [-1]}}
        outputs = {**label, "probabilities": {"datatype": "FP32", "shape": [-1, labels]}}
    else:
        outputs = {"embedding": {"datatype": "FP32", "shape": [-1, width]}}
    return {"inputs": {"text": {"datatype": "BYTES", "shape": [-1]}}, "outputs": dict(outputs)}


def needs_outputs(encoder: Encoder) -> bool:
    """Whether the transform reads other outputs than the encoder's."""
    return encoder.task == "tokens" or (encoder.rank == 3 and encoder.pooling == "mean" and encoder.task == "embedding")


def write_graph(encoder: Encoder, model: Path, target: Path) -> None:
    """Copy a graph and add the other outputs that the transform reads: the mask and the positions of tokens.

    These inputs become outputs because `postprocess` sees no other part of the request.
    """
    graph = onnx.load(model, load_external_data=False)
    if encoder.task == "tokens":
        shape: list[Any] = ["batch", "sequence", 2]
        graph.graph.input.append(onnx.helper.make_tensor_value_info("offsets", onnx.TensorProto.INT64, shape))
        _pass_through(graph, "offsets", "token_offsets", shape)
    else:
        _pass_through(graph, "attention_mask", "mask", ["batch", "sequence"])
    onnx.save(graph, target)


def _pass_through(graph: onnx.ModelProto, name: str, output: str, shape: list[Any]) -> None:
    """Make an output from an input."""
    kind = next(row for row in graph.graph.input if row.name == name).type.tensor_type.elem_type
    graph.graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(output, kind, shape))
