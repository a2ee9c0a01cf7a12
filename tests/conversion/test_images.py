"""Image classifiers get a transform whose results equal those of Pillow and numpy."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import write_project
from turnout.cli.__main__ import main
from turnout.conversion.encoders.images import ImageClassifier, describe_images, draw_pictures, make_image_transform
from turnout.conversion.errors import ConversionError
from turnout.project.project import load_project
from turnout.protocol.errors import Refused

PREPROCESSING: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 8, "width": 6},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}
LABELS = ("cat", "dog")


def write_classifier(folder: Path, preprocessing: dict[str, Any]) -> Path:
    """Write a repository's folder: the mean of each channel, then two classes."""
    weights = np.array([[1, -1], [2, 0], [0, 1]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(weights, "weights")]
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "classifier", [pixels], [logits], tensors)
    folder.mkdir()
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    config = {"architectures": ["ViTForImageClassification"], "id2label": dict(enumerate(LABELS))}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder / "model.onnx"


def load(preprocessing: dict[str, Any], folder: Path) -> Any:
    pytest.importorskip("PIL")
    path = folder / "transform_of_test.py"
    path.write_text(make_image_transform(ImageClassifier(preprocessing, LABELS)))
    spec = importlib.util.spec_from_file_location("transform_of_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_resized_and_normalized(tmp_path: Path) -> None:
    module = load(PREPROCESSING, tmp_path)
    from PIL import Image

    pictures = draw_pictures()
    got = module.preprocess({"image": np.array(pictures, dtype=object)})["pixel_values"]
    texts = np.array([base64.b64encode(picture) for picture in pictures], dtype=object)
    assert (module.preprocess({"image": texts})["pixel_values"] == got).all()
    assert (got.shape, got.dtype) == ((len(pictures), 3, 8, 6), np.float32)
    for picture, values in zip(pictures, got, strict=True):
        image = Image.open(io.BytesIO(picture)).convert("RGB").resize((6, 8), Image.Resampling.BILINEAR)
        want = (np.asarray(image) / 255 - PREPROCESSING["image_mean"]) / PREPROCESSING["image_std"]
        assert np.allclose(values, want.transpose(2, 0, 1), atol=1e-5)


def test_shortest_edge_is_resized_and_the_center_cropped(tmp_path: Path) -> None:
    changes = {"size": {"shortest_edge": 16}, "do_center_crop": True, "crop_size": 12, "do_normalize": False}
    module = load({**PREPROCESSING, **changes}, tmp_path)
    got = module.preprocess({"image": np.array(draw_pictures(), dtype=object)})["pixel_values"]
    assert got.shape[1:] == (3, 12, 12)
    assert got.min() >= 0
    assert got.max() <= 1


def test_request_without_images_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="send at least one image"):
        load(PREPROCESSING, tmp_path).preprocess({"image": np.empty(0, object)})


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", base64.b64encode(b"text"), b"\xff\xd8"])
def test_invalid_image_is_rejected(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="must be a PNG, JPEG"):
        load(PREPROCESSING, tmp_path).preprocess({"image": np.array([content], dtype=object)})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": {"longest_edge": 9, "shortest_edge": 3}}, "has a `size` that Turnout does not support"),
        ({"resample": 9}, "unknown `resample`"),
        ({"crop_pct": 0.9}, "asks for `crop_pct`"),
        ({"image_mean": [0.5]}, "must have three values"),
        ({"do_center_crop": True}, "has a `crop_size` that Turnout does not support"),
    ],
)
def test_unsupported_settings_are_named(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "repository", {**PREPROCESSING, **changes})
    with pytest.raises(ConversionError, match=says) as caught:
        describe_images(model)
    assert "--runtime onnx" in caught.value.hint


@pytest.mark.slow
def test_folder_becomes_a_version_that_accepts_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classifier(tmp_path / "repository", PREPROCESSING)
    project = write_project(tmp_path / "project")
    code = main(["add", "pets", "v1", str(tmp_path / "repository"), "-m", str(project)])
    err = capsys.readouterr().err
    if "pillow cannot be installed" in err:
        pytest.skip(err)
    assert code == 0, err
    assert "6 images have the same answers alone and in a batch" in err
    version = load_project(project).manifest.model("pets").version("v1")
    assert [(row.name, row.datatype, row.shape) for row in version.inputs] == [("image", "BYTES", (-1,))]
    assert version.requirements[0].startswith("pillow==")
    example = json.loads((project / version.examples).read_bytes())[0]
    assert example["response"]["outputs"][0]["data"][0] in LABELS
