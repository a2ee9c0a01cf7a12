from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.errors import RequestError
from turnout.protocol.requests.runs import map_file
from turnout.protocol.tensors import binary_tensors
from turnout.protocol.tensors.binary_tensors import BinaryPart, view_binary, write_binary
from turnout.protocol.tensors.datatypes import DATATYPES


@pytest.mark.parametrize("datatype", [name for name, entry in DATATYPES.items() if entry.kind in {"int", "float"}])
@given(raw=st.binary(min_size=32, max_size=32), front=st.binary(max_size=3))
def test_every_bit_of_numbers_survives(datatype: str, raw: bytes, front: bytes) -> None:
    entry = DATATYPES[datatype]
    result = BinaryPart(front + raw, len(front)).take("x", entry, 32 // entry.size, 32)
    assert result.dtype == entry.dtype
    assert result.flags.aligned
    assert write_binary(datatype, result) == raw
    assert bytes(view_binary(datatype, result)) == raw


@pytest.mark.parametrize("start", [0, 1, 4096, 5000, 5003])
def test_tensors_of_a_mapped_file_are_viewed_or_copied_in_pieces(
    start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary_tensors, "PIECE_BYTES", 8192)
    sent = np.arange(10_000, dtype=np.float32)
    path = tmp_path / "body"
    path.write_bytes(b" " * start + sent.tobytes())
    body = map_file(str(path))
    part = BinaryPart(body, start)
    received = part.take("x", DATATYPES["FP32"], sent.size, sent.nbytes)
    part.check_finished()
    assert received.tolist() == sent.tolist()
    assert received.flags.owndata is (start % 4 != 0)
    assert bytes(body) == path.read_bytes()


def test_arrays_in_the_order_of_the_wire_are_viewed() -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    view = view_binary("FP32", values)
    assert isinstance(view, memoryview)
    values[0, 0] = 7
    assert bytes(view) == values.tobytes()
    for other in (
        np.asfortranarray(values),
        values.astype(">f4"),
        values[:, :2],
        np.empty((0, 3), "<f4"),
        values[0, 0],
    ):
        assert bytes(view_binary("FP32", other)) == write_binary("FP32", np.asarray(other))
    assert bytes(view_binary("BOOL", np.array([True, False]))) == b"\x01\x00"
    texts = np.array(["a"], object)
    assert view_binary("BYTES", texts) == write_binary("BYTES", texts)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_survive(elements: list[bytes]) -> None:
    values = np.empty(len(elements), object)
    values[:] = elements
    raw = write_binary("BYTES", values)
    part = BinaryPart(raw, 0)
    assert part.take("x", DATATYPES["BYTES"], len(elements), len(raw)).tolist() == elements
    part.check_finished()


def test_texts_are_written_as_utf8() -> None:
    assert write_binary("BYTES", np.array([["é"], ["b"]], object)) == b"\x02\0\0\0\xc3\xa9\x01\0\0\0b"


def test_arrays_are_written_row_major_and_little_endian() -> None:
    values = np.arange(6, dtype=">i2").reshape(2, 3)
    assert write_binary("INT16", np.asfortranarray(values)) == struct.pack("<6h", *range(6))
    assert write_binary("BOOL", np.array([True, False])) == b"\x01\x00"
    assert write_binary("FP32", np.float32(1).reshape(())) == struct.pack("<f", 1)


LENGTH = struct.Struct("<I").pack
LIES: list[tuple[str, bytes, int, Any, str]] = [
    ("FP32", b"\0" * 8, 2, 4, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, 9, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 1, 8, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, -8, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, "8", "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, 8.0, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, True, "INVALID_BINARY"),
    ("FP32", b"\0" * 8, 2, 2**70, "INVALID_BINARY"),
    ("BOOL", b"\0\1\2", 3, 3, "INVALID_VALUE"),
    ("BYTES", LENGTH(3) + b"ab", 1, 6, "INVALID_BINARY"),
    ("BYTES", LENGTH(1) + b"ab", 1, 6, "INVALID_BINARY"),
    ("BYTES", LENGTH(2) + b"ab", 2, 6, "INVALID_BINARY"),
    ("BYTES", LENGTH(2) + b"ab" + b"\0\0", 2, 8, "INVALID_BINARY"),
    ("BYTES", LENGTH(2**32 - 1) + b"ab", 1, 6, "INVALID_BINARY"),
    ("BYTES", LENGTH(2) + b"ab", 2**24, 6, "INVALID_BINARY"),
    ("BYTES", b"", 1, 0, "INVALID_BINARY"),
    ("BYTES", LENGTH(0), 0, 4, "INVALID_BINARY"),
]


@pytest.mark.parametrize(("datatype", "raw", "count", "size", "code"), LIES)
def test_wrong_lengths_are_rejected(datatype: str, raw: bytes, count: int, size: Any, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        BinaryPart(b"head" + raw, 4).take("x", DATATYPES[datatype], count, size)
    assert caught.value.code == code
    assert caught.value.details["tensor"] == "x"


def test_remaining_bytes_are_rejected() -> None:
    part = BinaryPart(b"abc", 0)
    part.take("x", DATATYPES["UINT8"], 2, 2)
    with pytest.raises(RequestError, match="leave 1 bytes"):
        part.check_finished()
