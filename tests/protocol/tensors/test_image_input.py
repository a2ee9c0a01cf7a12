"""The settings of `input: {kind: image}`, and the tensor of a model that they fit."""

from __future__ import annotations

from typing import Any

import pytest

from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.image_input import ImageInput, ImageInputError, fit_image


def model(shape: tuple[int, ...] | None = (-1, 3, 224, 224), datatype: str = "FP32", count: int = 1) -> Signature:
    return Signature(tuple(TensorSpec(f"x{at}", datatype, shape) for at in range(count)), ())


def test_settings_survive_json_and_have_defaults() -> None:
    given = {"kind": "image", "height": 224.0, "width": 200, "mean": [0.5], "std": [1, 2, 3], "color": "BGR"}
    settings = ImageInput.from_json(given)
    assert settings == ImageInput(height=224, width=200, mean=(0.5,), std=(1.0, 2.0, 3.0), color="BGR")
    assert ImageInput.from_json(settings.to_json()) == settings
    assert ImageInput.from_json({"kind": "image"}) == ImageInput()


@pytest.mark.parametrize(
    ("settings", "signature", "size", "scale"),
    [
        ({}, model(), (224, 224), 1 / 255),
        ({}, model((1, 3, 8, 6)), (8, 6), 1 / 255),
        ({"layout": "NHWC"}, model((-1, 8, 6, 3), "UINT8"), (8, 6), 1),
        ({"layout": "NHWC", "scale": 2.0}, model((-1, 8, 6, 3), "UINT8"), (8, 6), 2),
        ({"height": 5, "width": 7}, model((-1, -1, -1, -1)), (5, 7), 1 / 255),
        ({"height": 5, "width": 7}, model(None, "FP16"), (5, 7), 1 / 255),
        ({"color": "gray", "width": 7}, model((-1, 1, 9, -1)), (9, 7), 1 / 255),
    ],
)
def test_sizes_come_from_the_model_where_it_declares_them(
    settings: dict[str, Any], signature: Signature, size: tuple[int, int], scale: float
) -> None:
    pixels = fit_image(ImageInput(**settings), signature)
    assert (pixels.height, pixels.width) == size
    assert pixels.scale == scale
    assert pixels.tensor.name == "x0"


@pytest.mark.parametrize(
    ("settings", "signature", "says", "hint"),
    [
        ({}, model(count=2), "must have one input, and it has 2: `x0`, `x1`", "Write a `transform`"),
        ({}, model(datatype="INT64"), "reads `x0` INT64 [-1, 3, 224, 224], not pixels", "FP16, FP32, FP64, UINT8"),
        ({}, model((-1, 10)), "reads `x0` FP32 [-1, 10], not four dimensions", "NCHW"),
        ({}, model((-1, 224, 224, 3)), "224 channels with layout NCHW, and RGB has 3", "Write `layout: NHWC`."),
        ({"layout": "NHWC"}, model(), "224 channels with layout NHWC", "Write `layout: NCHW`."),
        ({"color": "gray"}, model(), "3 channels with layout NCHW, and gray has 1", "Set `color`"),
        ({"height": 225}, model(), "`height` is 225, and the model reads", "Delete `height`, or write 224."),
        ({"height": 2}, model((-1, 3, -1, -1)), "`width` is missing", "`width: 224`"),
        ({"mean": (0.1, 0.2)}, model(), "`mean` has 2 values for 3 channels", "one for each channel"),
        (
            {"color": "gray", "std": (1.0,) * 3},
            model((-1, 1, 8, 8)),
            "`std` has 3 values for 1 channels",
            "each channel",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_rejected(
    settings: dict[str, Any], signature: Signature, says: str, hint: str
) -> None:
    with pytest.raises(ImageInputError) as caught:
        fit_image(ImageInput(**settings), signature)
    assert says in str(caught.value)
    assert hint in caught.value.hint
