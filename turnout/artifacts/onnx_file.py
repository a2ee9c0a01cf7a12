"""Reads an ONNX file's graph without its weights, and recognizes files that are not ONNX models.

The file is walked field by field and the data of large tensors is skipped, so a 2 GB model needs only as much memory as
its graph. Source: onnx.proto; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from turnout.problems import TurnoutError

if TYPE_CHECKING:
    import onnx

KEEP_BELOW_BYTES = 4096
"""Fields shorter than this are kept whole: shapes and other small constants, and nearly every node."""

_NOT_ONNX: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "Download the file itself: `git lfs pull`."),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", ""),
    (0, b"\xff\xd8\xff", "a JPEG image", ""),
    (0, b"%PDF-", "a PDF document", ""),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", "Convert it with tf2onnx."),
    (
        0,
        b"PK\x03\x04",
        "a zip archive (PyTorch's .pt and .keras files are)",
        "PyTorch: torch.export.save writes a .pt2 file, which `turnout add` converts.",
    ),
    (0, b"\x1f\x8b", "gzip-compressed", "Unpack it first."),
    (0, b"BZh", "bzip2-compressed", "Unpack it first."),
    (0, b"\xfd7zXZ\x00", "xz-compressed", "Unpack it first."),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed", "Unpack it first."),
    (0, b"GGUF", "a GGUF file", ""),
    (0, b"\x93NUMPY", "a numpy array", ""),
    (4, b"TFL3", "a TensorFlow Lite model", "Convert it with tf2onnx."),
    (4, b"ORTM", "a model in onnxruntime's ORT format", "Serve the ONNX file that it was converted from."),
    (8, b'{"', "a safetensors file", "Weights without a graph cannot be served: export the model to ONNX."),
    (0, b"\x7fELF", "an executable", ""),
)
"""Offset, the bytes at this offset, the kind of file, and the remedy."""

_PICKLE_HINT = "`turnout add` converts .skops and .joblib files of scikit-learn (skl2onnx), and .pt2 files of PyTorch."
_TENSOR_DATA = frozenset(
    {"float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data"}
)
_LISTS = frozenset({"floats", "ints", "strings"})
_LENGTH_DELIMITED = 2  # protobuf's wire type of strings, bytes, messages and packed lists
_MAX_DEPTH = 64  # nested messages; onnxruntime's own parser stops at 100


class ArtifactError(TurnoutError):
    """An artifact cannot be served."""


class _MalformedError(Exception):
    """The bytes are not a protobuf message."""


def read_graph(path: Path) -> onnx.ModelProto:
    """Return the model in `path` without the data of large tensors (names, types and shapes are kept).

    Raises:
        ArtifactError: the file does not exist, or is not a complete ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(64)
            refuse_other_kinds(path.name, head)
            file.seek(0)
            model: onnx.ModelProto = onnx.ModelProto.FromString(_slim(file, size, onnx.ModelProto.DESCRIPTOR, 0))
    except FileNotFoundError:
        raise ArtifactError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise ArtifactError(f"{path} is a folder, not an ONNX file", "Name the .onnx file in it.") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except (_MalformedError, DecodeError):
        raise _malformed(path.name, head, size) from None
    if not model.ir_version or not model.HasField("graph"):
        raise ArtifactError(f"{path.name} is not an ONNX model")
    if not model.opset_import:
        raise ArtifactError(f"{path.name} names no operator set", "Check that the download or copy is complete.")
    return model


def refuse_other_kinds(name: str, head: bytes) -> None:
    """Raise an ArtifactError if the file's first 64 bytes show that it is not ONNX."""
    if not head:
        raise ArtifactError(f"{name} is empty", "Check that the download or copy is complete.")
    for offset, magic, kind, hint in _NOT_ONNX:
        if head[offset:].startswith(magic):
            raise ArtifactError(f"{name} is {kind}, not an ONNX model", hint)
    if head[0] == 0x80 and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        raise ArtifactError(f"{name} is a Python pickle, not an ONNX model", _PICKLE_HINT)
    if head.lstrip()[:1] in {b"<", b"{", b"["}:
        kind = {b"<": "an HTML or XML page", b"{": "JSON", b"[": "JSON"}[head.lstrip()[:1]]
        raise ArtifactError(
            f"{name} is {kind}, not an ONNX model", "Check the address: it was downloaded as a web page."
        )


def text_of(value: str | bytes) -> str:
    """Return a text of a graph. Protobuf's parser returns bytes for text that is not UTF-8, as in a damaged file.

    Raises:
        ArtifactError: it is not UTF-8.
    """
    if isinstance(value, str):
        return value
    raise ArtifactError(f"a text in the model is not UTF-8: {value[:40]!r}", "Check that the file is not damaged.")


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor in the model: initializers, sparse ones, attributes; also in subgraphs and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for sparse in (*single, *attribute.sparse_tensors):
        yield sparse.values
        yield sparse.indices
    if attribute.HasField("g"):
        yield from _graph_tensors(attribute.g)
    for graph in attribute.graphs:
        yield from _graph_tensors(graph)


def _slim(file: BinaryIO, end: int, descriptor: Any, depth: int) -> bytes:
    """Return the message that ends at `end` without the data of large tensors; the file's position is then its end."""
    if depth > _MAX_DEPTH:
        raise _MalformedError
    dropped = _TENSOR_DATA if descriptor.name == "TensorProto" else frozenset()
    lists = _LISTS if descriptor.name == "AttributeProto" else frozenset()
    out = bytearray()
    while (start := file.tell()) < end:
        tag = _read_varint(file)
        field = descriptor.fields_by_number.get(tag >> 3)
        name = "" if field is None else field.name
        if name in lists:
            # Lists of numbers are not packed here: a tree ensemble has millions of fields. Tensors come before them.
            file.seek(start)
            return bytes(out + _read(file, end - start))
        if tag & 7 != _LENGTH_DELIMITED:
            content = _read_scalar(file, tag & 7)
        else:
            length = _read_varint(file)
            if file.tell() + length > end:
                raise _MalformedError
            if name in dropped:
                file.seek(length, os.SEEK_CUR)
                continue
            nested = length >= KEEP_BELOW_BYTES and field is not None and field.message_type is not None
            part = _slim(file, file.tell() + length, field.message_type, depth + 1) if nested else _read(file, length)
            content = _varint(len(part)) + part
        if name not in dropped:
            out += _varint(tag) + content
    if start != end:
        raise _MalformedError
    return bytes(out)


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise _MalformedError
    return data


def _read_scalar(file: BinaryIO, wire_type: int) -> bytes:
    match wire_type:
        case 0:
            return _varint(_read_varint(file))
        case 1:
            return _read(file, 8)
        case 5:
            return _read(file, 4)
        case _:
            raise _MalformedError


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _read(file, 1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise _MalformedError


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _malformed(name: str, head: bytes, size: int) -> ArtifactError:
    """Return the error for a malformed file.

    A file that starts like an ONNX model (field 1, the IR version) is truncated; any other file is no model.
    """
    if head[0] == 0x08 and 0 < head[1:2].ljust(1)[0] < 0x20:
        return ArtifactError(
            f"{name} starts like an ONNX model but is truncated or damaged, after {size:,} bytes",
            "Check that the download or copy is complete.",
        )
    return ArtifactError(f"{name} is not an ONNX model")
