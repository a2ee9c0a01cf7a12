"""How a version reads images: the settings of `input: {kind: image}` in models.yaml, and the tensor that they fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .datatypes import Signature, TensorSpec

IMAGE = "image"
"""`content` of the tensor that clients send: files of images."""

NUMBERS = frozenset({"FP16", "FP32", "FP64", "UINT8"})
"""Datatypes of pixels."""

CHANNELS: Mapping[str, int] = {"RGB": 3, "BGR": 3, "gray": 1}

RESAMPLING = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


class ImageInputError(ValueError):
    """The settings do not fit the model; the message is a sentence without a full stop.

    Args:
        message: what is wrong.
        hint: the remedy.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The settings, as in models.yaml.

    Args:
        name: the name of the tensor that clients send.
        height: rows of the model's image; 0 takes what the model declares.
        width: columns of the model's image; 0 takes what the model declares.
        scale: factor for pixels of 0-255; None means 1/255, or 1 for a model that reads UINT8.
        mean: subtracted from scaled pixels: one number, or one for each channel.
        std: the divisor after that.
        layout: `NCHW` or `NHWC`.
        color: `RGB`, `BGR` or `gray`.
        fit: `stretch` resizes to the size; `crop` resizes the shorter side and cuts the center out.
        resample: Pillow's filter.
    """

    name: str = IMAGE
    height: int = 0
    width: int = 0
    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    color: str = "RGB"
    fit: str = "stretch"
    resample: str = "bilinear"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ImageInput:
        """Return the settings that `to_json` wrote, or that models.yaml has, without `kind`."""
        given = {name: value for name, value in fields.items() if name != "kind"}
        for name in ("mean", "std"):
            if name in given:
                value = given[name]
                given[name] = tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)
        for name in ("height", "width"):
            if name in given:
                given[name] = int(given[name])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Pixels:
    """The tensor that images become.

    Args:
        tensor: the model's input.
        height: rows.
        width: columns.
        scale: factor of the pixels.
    """

    tensor: TensorSpec
    height: int
    width: int
    scale: float


def fit_image(settings: ImageInput, signature: Signature) -> Pixels:
    """Return the tensor that images become in a model with this signature.

    Raises:
        ImageInputError: the model has no such input.
    """
    inputs = [tensor for tensor in signature.inputs if tensor.required]
    if len(inputs) != 1:
        names = ", ".join(f"`{tensor.name}`" for tensor in inputs) or "none"
        raise ImageInputError(
            f"the model must have one input, and it has {len(inputs)}: {names}",
            "Write a `transform` with `preprocess`, and declare `inputs`.",
        )
    (tensor,) = inputs
    shown = f"`{tensor.name}` {tensor.datatype} {'of any shape' if tensor.shape is None else list(tensor.shape)}"
    if tensor.datatype not in NUMBERS:
        raise ImageInputError(
            f"the model reads {shown}, not pixels", f"Pixels must be one of {', '.join(sorted(NUMBERS))}."
        )
    if tensor.shape is not None and len(tensor.shape) != 4:
        raise ImageInputError(
            f"the model reads {shown}, not four dimensions",
            f"Images need a tensor of four dimensions, {settings.layout}.",
        )
    _, *places = tensor.shape or (-1, -1, -1, -1)
    channels, height, width = places if settings.layout == "NCHW" else (places[2], places[0], places[1])
    wanted = CHANNELS[settings.color]
    if channels not in {-1, wanted}:
        other = "NHWC" if settings.layout == "NCHW" else "NCHW"
        last = places[2] if settings.layout == "NCHW" else places[0]
        hint = (
            f"Write `layout: {other}`." if last == wanted else "Set `color`: gray has one channel, RGB and BGR three."
        )
        raise ImageInputError(
            f"the model reads {shown}: {channels} channels with layout {settings.layout}, and {settings.color} has "
            f"{wanted}",
            hint,
        )
    height, width = _check_sizes(settings, shown, height, width)
    scale = settings.scale
    if scale is None:
        scale = 1.0 if tensor.datatype == "UINT8" else 1 / 255
    return Pixels(tensor, height, width, scale)


def _check_sizes(settings: ImageInput, shown: str, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns; -1 is what the model leaves open."""
    channels = CHANNELS[settings.color]
    for key, value in (("mean", settings.mean), ("std", settings.std)):
        if len(value) not in {1, channels}:
            message = f"`{key}` has {len(value)} values for {channels} channels"
            raise ImageInputError(message, "Write one for each channel.")
    sizes = []
    for key, asked, declared in (("height", settings.height, height), ("width", settings.width, width)):
        if asked and declared > 0 and asked != declared:
            message = f"`{key}` is {asked}, and the model reads {shown}"
            raise ImageInputError(message, f"Delete `{key}`, or write {declared}.")
        if not asked and declared < 1:
            message = f"`{key}` is missing: the model reads images of any size"
            raise ImageInputError(message, f"Write the size that it was trained with: `{key}: 224`.")
        sizes.append(asked or declared)
    return sizes[0], sizes[1]
