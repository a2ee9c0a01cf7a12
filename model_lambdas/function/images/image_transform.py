"""Images as inputs: decodes, resizes and normalizes them before the model, as `input: {kind: image}` declares.

It takes the place of a transform's `preprocess`. Pillow is imported when such a version is loaded, because only its
layer has it.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from turnout.protocol.errors import Refused
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Signature
from turnout.protocol.tensors.image_input import ImageInput, ImageInputError, fit_image

from ..runtime import ModelError
from ..transform import Transform

STARTS = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""The first bytes of image files. Anything else is base64."""

MOST_PIXELS = 50_000_000
"""The largest image: 150 MB of memory in color."""


class ImageTransform:
    """Makes the model's input from images; `postprocess` is that of the version's transform.

    Args:
        settings: the settings of models.yaml.
        signature: the model's own inputs and outputs.
        owner: `pets v1`, for messages.
        transform: the version's transform, or None.

    Raises:
        ModelError: Pillow is missing, the settings do not fit the model, or the transform has a `preprocess`.
    """

    def __init__(self, settings: ImageInput, signature: Signature, owner: str, transform: Transform | None) -> None:
        try:
            from PIL import Image
        except ImportError as error:
            raise ModelError(
                f"{owner} reads images and needs Pillow: pip install pillow, or serve --isolated"
            ) from error
        try:
            self._pixels = fit_image(settings, signature)
        except ImageInputError as error:
            raise ModelError(f"{owner}: input: {error}") from error
        if transform is not None and transform.has_preprocess:
            raise ModelError(f"{owner}: `input` and `preprocess` of the transform both make the model's input")
        self._settings = settings
        self._after = transform
        self._image: Any = Image
        self._filter = Image.Resampling[settings.resample.upper()]
        self._dtype = np.dtype(DATATYPES[self._pixels.tensor.datatype].dtype)
        self._mean, self._std = (np.array(values, np.float32) for values in (settings.mean, settings.std))

    @property
    def has_preprocess(self) -> bool:
        """Whether a step runs before the session: always."""
        return True

    @property
    def has_postprocess(self) -> bool:
        """Whether `postprocess` of the transform runs after the session."""
        return self._after is not None and self._after.has_postprocess

    def preprocess(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the pixels of all images.

        Raises:
            Refused: a value is no image.
        """
        images = inputs[self._settings.name].ravel().tolist()
        size = (self._pixels.height, self._pixels.width)
        channels = () if self._settings.color == "gray" else (3,)
        pixels = np.empty((len(images), *size, *channels), self._dtype)
        for at, content in enumerate(images):
            pixels[at] = self._prepare(content)
        if not channels:
            pixels = pixels[..., np.newaxis]
        if self._settings.layout == "NCHW":
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return {self._pixels.tensor.name: pixels}

    def postprocess(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run `postprocess` of the transform."""
        assert self._after is not None
        return self._after.postprocess(outputs)

    def _prepare(self, content: bytes) -> Array:
        """Return the numbers of one image, [row, column, channel]."""
        image = self._resize(self._decode(content))
        values = np.asarray(image, np.float32)
        if self._settings.color == "BGR":
            values = values[:, :, ::-1]
        values = (values * np.float32(self._pixels.scale) - self._mean) / self._std
        return np.clip(np.rint(values), 0, 255) if self._dtype.kind == "u" else values

    def _decode(self, content: bytes) -> Any:
        """Return the image of a file's bytes, or of their base64."""
        name = self._settings.name
        try:
            file = content if content.startswith(STARTS) else base64.b64decode(content, validate=True)
            image = self._image.open(io.BytesIO(file))
            if image.width * image.height > MOST_PIXELS:
                raise Refused(f"`{name}` has more than {MOST_PIXELS:,} pixels")
            return image.convert("L" if self._settings.color == "gray" else "RGB")
        except (binascii.Error, OSError, SyntaxError, self._image.DecompressionBombError) as error:
            message = f"`{name}` must be a PNG, JPEG, WebP, GIF, BMP or TIFF file, or its base64"
            raise Refused(message) from error

    def _resize(self, image: Any) -> Any:
        height, width = self._pixels.height, self._pixels.width
        if self._settings.fit == "crop":
            scale = max(height / image.height, width / image.width)
            size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
            image = image.resize(size, self._filter)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            return image.crop((left, top, left + width, top + height))
        return image.resize((width, height), self._filter)
