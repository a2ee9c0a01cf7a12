"""Versions with `input: {kind: image}` answer as if Pillow and numpy had made the model's input."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.runtime import FunctionSpec, ModelError
from model_lambdas.onnx_model.session import Model
from tests.builders.graphs import write_identity
from tests.builders.model_functions import DIGEST, call
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.image_input import IMAGE, ImageInput

Image = pytest.importorskip("PIL.Image")

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8))


def encode(image: Any = PICTURE, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def serve(
    folder: Path, settings: ImageInput, shape: tuple[int, ...], datatype: str = "FP32", transform: Path | None = None
) -> ModelFunction:
    path = write_identity(
        folder / "m.onnx", datatype, [size if size > 0 else f"d{at}" for at, size in enumerate(shape)]
    )
    own = Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),))
    public = Signature((TensorSpec(settings.name, "BYTES", (-1,), content=IMAGE),), own.outputs)
    return ModelFunction(FunctionSpec("m", "v1", DIGEST, own, path, transform, public=public, image=settings), Model)


def pixels_of(function: ModelFunction, *images: str, name: str = "image") -> np.ndarray:
    reply = call(function, {"inputs": {name: list(images)}})
    assert reply.status == 200, reply.json
    return np.array(reply.json["outputs"]["y"])


def test_images_are_scaled_and_normalized_in_the_order_of_the_channels(tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    function = serve(tmp_path, ImageInput(mean=mean, std=std), (-1, 3, 8, 6))
    resized = np.asarray(PICTURE.resize((6, 8), Image.Resampling.BILINEAR))
    want = ((resized / 255 - mean) / std).transpose(2, 0, 1)
    got = pixels_of(function, encode(), encode(PICTURE, "BMP"))
    assert np.allclose(got, [want, want], atol=1e-5)
    flipped = serve(tmp_path, ImageInput(mean=mean, std=std, color="BGR", name="photo"), (-1, 3, 8, 6))
    want = ((resized[:, :, ::-1] / 255 - mean) / std).transpose(2, 0, 1)
    assert np.allclose(pixels_of(flipped, encode(), name="photo"), [want], atol=1e-5)


def test_whole_numbers_stay_whole_and_channels_may_come_last(tmp_path: Path) -> None:
    function = serve(tmp_path, ImageInput(layout="NHWC", resample="nearest"), (-1, 20, 31, 3), "UINT8")
    assert np.array_equal(pixels_of(function, encode()), np.asarray(PICTURE)[np.newaxis])
    negative = serve(tmp_path, ImageInput(layout="NHWC", mean=(300.0,)), (-1, 20, 31, 3), "UINT8")
    assert not pixels_of(negative, encode()).any()


def test_gray_images_have_one_channel_and_other_modes_become_color(tmp_path: Path) -> None:
    function = serve(tmp_path, ImageInput(color="gray"), (-1, 1, 20, 31))
    assert np.allclose(pixels_of(function, encode())[0, 0], np.asarray(PICTURE.convert("L")) / 255, atol=1e-6)
    color = serve(tmp_path, ImageInput(), (-1, 3, 20, 31))
    for mode in ("L", "RGBA", "P", "1"):
        want = np.asarray(PICTURE.convert(mode).convert("RGB")) / 255
        assert np.allclose(pixels_of(color, encode(PICTURE.convert(mode)))[0].transpose(1, 2, 0), want, atol=1e-6), mode


@pytest.mark.parametrize("size", [(20, 31), (1, 1), (7, 300), (300, 7)])
def test_crop_keeps_the_center_of_an_image_of_any_shape(size: tuple[int, int], tmp_path: Path) -> None:
    function = serve(tmp_path, ImageInput(fit="crop", resample="nearest"), (-1, 3, 8, 8))
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8))
    got = pixels_of(function, encode(picture))
    assert got.shape == (1, 3, 8, 8)
    square = serve(tmp_path, ImageInput(fit="crop", resample="nearest"), (-1, 3, 20, 20))
    left = (31 - 20) // 2
    want = np.asarray(PICTURE)[:, left : left + 20] / 255
    assert np.allclose(pixels_of(square, encode())[0].transpose(1, 2, 0), want, atol=1e-6)


@pytest.mark.parametrize("value", ["", "no image", "aGk=", encode()[:60], base64.b64encode(b"\x89PNG\r\n").decode()])
def test_a_value_that_is_no_image_is_refused(value: str, tmp_path: Path) -> None:
    reply = call(serve(tmp_path, ImageInput(), (-1, 3, 8, 6)), {"inputs": {"image": [encode(), value]}})
    assert (reply.status, reply.json["code"]) == (422, "REFUSED_BY_TRANSFORM")
    assert reply.json["error"].startswith("`image` must be a PNG, JPEG")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    huge = encode(Image.new("1", (9000, 6000)))
    reply = call(serve(tmp_path, ImageInput(), (-1, 3, 8, 6)), {"inputs": {"image": [huge]}})
    assert reply.json["error"] == "`image` has more than 50,000,000 pixels"


def test_no_images_are_an_empty_batch(tmp_path: Path) -> None:
    reply = call(serve(tmp_path, ImageInput(), (-1, 3, 8, 6)), {"inputs": [_tensor([])]})
    assert reply.json["outputs"][0]["shape"] == [0, 3, 8, 6]


def _tensor(data: list[str]) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}


def test_postprocess_of_a_transform_runs_after_the_model(tmp_path: Path) -> None:
    path = tmp_path / "transform.py"
    path.write_text("import numpy as np\ndef postprocess(outputs): return {'y': outputs['y'] * 0 + np.float32(7)}\n")
    function = serve(tmp_path, ImageInput(), (-1, 3, 8, 6), transform=path)
    assert pixels_of(function, encode()).ravel().tolist() == [7.0] * 144
    path.write_text("def preprocess(inputs): return inputs\n")
    with pytest.raises(ModelError, match="`input` and `preprocess` of the transform both make"):
        serve(tmp_path, ImageInput(), (-1, 3, 8, 6), transform=path).load()


def test_settings_that_do_not_fit_are_an_error_at_load(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="m v1: input: `height` is missing"):
        serve(tmp_path, ImageInput(), (-1, 3, -1, -1)).load()
