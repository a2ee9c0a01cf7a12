"""Graphs are limited to operator sets that the onnxruntime of the layer and the installed one support."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from onnx import ModelProto, helper

from turnout.conversion.converters.graphs import check_versions
from turnout.conversion.opsets import MOST, find_opsets


def test_search_starts_at_what_the_release_of_the_layer_supports(root: Path) -> None:
    lock = (root / "turnout" / "runtimes" / "onnx_layer.lock").read_text()
    (release,) = re.findall(r"^onnxruntime==(\S+)", lock, re.MULTILINE)
    assert all(number <= MOST[domain] for domain, number in find_opsets().items())
    if version("onnxruntime") == release:
        assert find_opsets() == MOST


@pytest.mark.parametrize(
    ("imports", "reason"),
    [
        ({"": 20, "ai.onnx.ml": 3}, ""),
        ({"": 21}, "the graph needs opset 21 of ai.onnx; the layer has 20"),
        ({"": 20, "ai.onnx.ml": 4}, "the graph needs opset 4 of ai.onnx.ml; the layer has 3"),
        ({"ai.onnx": 21}, "the graph needs opset 21 of ai.onnx; the layer has 20"),
        ({"com.microsoft": 1}, ""),
    ],
)
def test_graph_beyond_the_layer_is_named(imports: dict[str, int], reason: str) -> None:
    model = ModelProto(opset_import=[helper.make_opsetid(*row) for row in imports.items()])
    assert check_versions(model, {"": 20, "ai.onnx.ml": 3}) == reason
