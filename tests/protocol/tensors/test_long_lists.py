"""The fast path for long lists of numbers, compared with the slow path: the same bits, or the same error."""

from __future__ import annotations

import concurrent.futures
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnout.protocol.codecs.codecs import decode_request
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface
from turnout.protocol.tensors.long_lists import NotPlainError, load_simdjson, read_document

NEVER = 1 << 40
NUMERIC = [name for name, entry in DATATYPES.items() if entry.kind in {"float", "int"}]
SHORT_CUT = [name for name in NUMERIC if name != "BF16"]


needs_simdjson = pytest.mark.skipif(load_simdjson() is None, reason="simdjson is not installed for this Python")


@contextmanager
def without_simdjson() -> Iterator[None]:
    """Prevent importing simdjson for the block, as on a Python without wheels for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "simdjson", None)
        load_simdjson.cache_clear()
        yield
    load_simdjson.cache_clear()


def body(values: str, datatype: str = "FP32", shape: str = "[-1]") -> bytes:
    """A request with one tensor `x` and this literal `data`."""
    return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{values}}}]}}'.encode()


def outcome(text: bytes, datatype: str, long_bytes: int, **also: str) -> Any:
    """Return the arrays by name as dtype, shape and bytes; or the error."""
    specs = [
        TensorSpec("x", datatype, None),
        *(TensorSpec(name, other, None, required=False) for name, other in also.items()),
    ]
    interface = build_interface(Signature(tuple(specs), ()))
    try:
        result = decode_request({"content-type": "application/json"}, text, interface, long_bytes=long_bytes)
    except RequestError as error:
        return error.code, error.message, error.details
    # The bytes of an array of objects are only their addresses.
    return {
        name: (str(array.dtype), array.shape, array.tolist() if array.dtype.hasobject else array.tobytes())
        for name, array in result.inputs.items()
    }


def is_cut(text: bytes) -> bool:
    try:
        read_document(text, 1)
    except NotPlainError:
        return False
    return True


INTEGER_TEXTS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(
        ["0", "-0", "127", "128", "-129", "9223372036854775807", "9223372036854775808", "18446744073709551616"]
    ),
)
FLOAT_TEXTS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.tuples(st.integers(0, 10**25), st.integers(0, 10**25), st.integers(-400, 400)).map(
        lambda t: f"{t[0]}.{t[1]}e{t[2]}"
    ),
    st.sampled_from(
        ["-0.0", "1E5", "1e+5", "0e0", "5e-324", "2e-324", "1e309", "3.4028235e38", "3.40282357e38", "1e39"]
    ),
    # Halfway between two FP32 values, through FP64: rounding twice could differ from rounding once.
    st.integers(0, 2**23 - 1).map(lambda n: f"1.{int((n + 0.5) * 2**-23 * 10**40):040d}"),
)
OTHER_TEXTS = st.sampled_from(
    [
        "true",
        "false",
        "null",
        '"NaN"',
        '"Infinity"',
        '""',
        '"1"',
        "[]",
        "[1]",
        "{}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "NaN",
        "1 2",
        "",
        "0x1",
        "1e",
        "\x00",
    ]
)


@given(st.sampled_from(NUMERIC), st.lists(INTEGER_TEXTS, min_size=1, max_size=40))
@example("INT64", ["1", "-9223372036854775808"])
@example("UINT64", ["18446744073709551615", "0"])
def test_integers_are_read_as_on_the_slow_path(datatype: str, texts: list[str]) -> None:
    text = body(f"[{','.join(texts)}]", datatype, f"[{len(texts)}]")
    assert outcome(text, datatype, 1) == outcome(text, datatype, NEVER)


@given(st.sampled_from(NUMERIC), st.lists(st.one_of(FLOAT_TEXTS, INTEGER_TEXTS), min_size=1, max_size=40))
def test_floats_are_read_as_on_the_slow_path(datatype: str, texts: list[str]) -> None:
    text = body(f"[{','.join(texts)}]", datatype, f"[{len(texts)}]")
    assert outcome(text, datatype, 1) == outcome(text, datatype, NEVER)


@given(
    st.sampled_from([*NUMERIC, "BOOL", "BYTES"]),
    st.lists(st.one_of(INTEGER_TEXTS, FLOAT_TEXTS), max_size=5),
    OTHER_TEXTS,
    st.lists(INTEGER_TEXTS, max_size=5),
    st.sampled_from([",", " , ", "\n,", ",,", " "]),
)
@example("BYTES", [], '"NaN"', [], ",")
def test_other_values_have_the_same_outcome_as_on_the_slow_path(
    datatype: str, before: list[str], other: str, after: list[str], comma: str
) -> None:
    texts = [*before, other, *after]
    text = body(f"[ {comma.join(texts)}]", datatype, f"[{len(texts)}]")
    assert outcome(text, datatype, 1) == outcome(text, datatype, NEVER)


@given(
    st.sampled_from([*NUMERIC, "BOOL", "BYTES"]),
    st.lists(st.one_of(INTEGER_TEXTS, FLOAT_TEXTS), min_size=1, max_size=20),
    st.one_of(st.just([]), st.lists(OTHER_TEXTS, max_size=1)),
)
@example("FP32", ["1.5", "16777217", "3.40282357e38"], [])
@example("UINT64", ["18446744073709551615"], [])
def test_without_simdjson_every_request_has_the_same_outcome(
    datatype: str, texts: list[str], others: list[str]
) -> None:
    text = body(f"[{','.join([*texts, *others])}]", datatype, f"[{len(texts) + len(others)}]")
    with without_simdjson():
        assert not is_cut(text)
        plain = outcome(text, datatype, 1)
    assert plain == outcome(text, datatype, 1)


@needs_simdjson
@pytest.mark.parametrize("datatype", SHORT_CUT)
def test_plain_numbers_use_the_fast_path(datatype: str) -> None:
    text = body("[ 1, 2 ,\n3,4]", datatype, "[2,2]")
    (tensor,) = read_document(text, 1)["inputs"]
    result = tensor["data"].read(DATATYPES[datatype], 4)
    assert result.dtype == DATATYPES[datatype].dtype
    assert result.tolist() == [1, 2, 3, 4]
    assert outcome(text, datatype, 1)["x"][1] == (2, 2)


@needs_simdjson
@pytest.mark.parametrize(
    ("datatype", "values", "count"),
    [
        ("FP32", "[1,2]", 3),
        ("FP32", "[1,1e39]", 2),
        ("FP16", "[1,65520]", 2),
        ("INT8", "[1,128]", 2),
        ("UINT8", "[1,-1]", 2),
        ("INT32", "[1,1.0]", 2),
        ("INT64", "[1,9223372036854775808]", 2),
        ("UINT64", "[1,-1]", 2),
        ("FP64", "[1,true]", 2),
        ("FP64", "[1,18446744073709551616]", 2),
        ("BF16", "[1,2]", 2),
        ("BOOL", "[1,2]", 2),
        ("FP32", "[]", 0),
    ],
)
def test_the_fast_path_ends_at_everything_that_is_not_plain(datatype: str, values: str, count: int) -> None:
    (tensor,) = read_document(body(values), 1)["inputs"]
    with pytest.raises(NotPlainError):
        tensor["data"].read(DATATYPES[datatype], count)


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2],"data":[3,4]}]}',  # the last one counts
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2],"data":"x"}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[[1,2]]}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}],"data":[3,4]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2],"parameters":{"data":[3,4]}}]}',
        '{"inputs":[{"name":"x\\"data\\":[1,2]","shape":[2],"datatype":"FP32","data":[3,4]}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","\\"data":[1,2]}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","x\\"data":[1,2],"data":[3,4]}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data" : [1,2]}]',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":"data"}]}',
        '{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[1,2]}]}',
        '{"inputs":{"data":[1,2]}}',
        '{"inputs":{"x":{"data":[1,2]}}}',
        '{"instances":[{"data":[1,2]}]}',
        '[{"data":[1,2]}]',
        '{"inputs":[{"data":[1,2]},{"data":[3]}]}',
        '{"inputs":[7,{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]}',
        '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}],"id":"\ud800"}',
    ],
)  # fmt: skip
def test_unusual_documents_have_the_same_outcome_as_on_the_slow_path(text: str) -> None:
    sent = text.encode(errors="surrogatepass")
    assert outcome(sent, "FP32", 1) == outcome(sent, "FP32", NEVER)


@needs_simdjson
def test_several_lists_are_distinguished() -> None:
    rows = [
        {"name": name, "shape": [2], "datatype": "FP32", "data": [index, index + 0.5]}
        for index, name in enumerate("xyz")
    ]
    text = json.dumps({"id": "7", "inputs": rows}).encode()
    result = outcome(text, "FP32", 1, y="FP32", z="FP32")
    assert is_cut(text)
    assert result == outcome(text, "FP32", NEVER, y="FP32", z="FP32")
    assert np.frombuffer(result["z"][2], "<f4").tolist() == [2, 2.5]


@needs_simdjson
def test_short_lists_and_too_many_lists_are_not_cut_out() -> None:
    rows = [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]
    with pytest.raises(NotPlainError):
        read_document(json.dumps({"inputs": rows}).encode(), 100)
    many = read_document(json.dumps({"inputs": rows * 100}).encode(), 1)
    kinds = [type(tensor["data"]) for tensor in many["inputs"]]
    assert kinds.count(list) == 36


class CountedBytes(bytes):
    """Counts how many bytes are scanned."""

    searched = 0

    def find(self, part: Any, start: Any = 0, end: Any = None) -> int:
        result = super().find(part, start, end)
        self.searched += (len(self) if result < 0 else result + len(part)) - start
        return result


@pytest.mark.parametrize("text", [b'"data":[', b'"data":', b'{"data":[1]', b'"data":[]', b'"data":["data":[]'])
@pytest.mark.parametrize("end", [b"", b"]"])
def test_scanning_a_malicious_body_costs_no_more_than_its_length(text: bytes, end: bytes) -> None:
    counted = CountedBytes(text * 50_000 + end)
    with pytest.raises(NotPlainError):
        read_document(counted)
    assert len(counted) / 2 < counted.searched <= 3 * len(counted)


def test_threads_read_their_own_numbers() -> None:
    def read(number: int) -> bool:
        text = body(json.dumps([number] * 5000), "INT32", "[5000]")
        return outcome(text, "INT32", 1)["x"][2] == np.full(5000, number, "<i4").tobytes()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(200)))
