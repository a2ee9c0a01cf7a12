"""Arrays as the body of a request."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from turnout.client.encoding import ALIGNED_BYTES, BINARY_BYTES, encode_request


@pytest.mark.parametrize("name", ["x", "xy", "xyz", "a longer name"])
def test_binary_tensors_begin_at_an_aligned_place(name: str) -> None:
    values = np.arange(BINARY_BYTES // 8, dtype=np.float64)
    request = encode_request({name: values}, {})
    length = int(request.headers["inference-header-content-length"])
    assert length % ALIGNED_BYTES == 0
    assert orjson.loads(request.body[:length])["inputs"][0]["name"] == name
    assert np.frombuffer(request.body, np.float64, offset=length).tolist() == values.tolist()
