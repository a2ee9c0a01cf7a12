"""Makes transforms of Hugging Face's image classifiers: decode, resize and normalize by `preprocessor_config.json`."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from turnout.conversion.encoders.description import CONFIG, PREPROCESSOR, find_folder, labels_of, read_object
from turnout.conversion.encoders.version import EncoderVersion, check_batches, make_examples, run_version
from turnout.conversion.errors import ConversionError

REQUIREMENTS = ("pillow",)

FILTERS = {0: "NEAREST", 1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC", 4: "BOX", 5: "HAMMING"}
"""Pillow's filters by the number in `resample`."""

CODE = '''\
"""Decodes, resizes and normalizes images. Written by `turnout add`; edit it as you like."""

import base64
import binascii
import io

import numpy as np
from PIL import Image
from turnout.protocol.errors import Refused

LABELS = {labels!r}
MEAN = np.array({mean!r}, np.float32)
DEVIATION = np.array({deviation!r}, np.float32)
STARTS = (b"\\x89PNG", b"\\xff\\xd8", b"GIF8", b"RIFF", b"BM", b"II*\\0", b"MM\\0*")  # anything else is base64
MOST_PIXELS = 50_000_000


def decode(content):
    """Return the image of a file's bytes, or of their base64."""
    try:
        content = content if content.startswith(STARTS) else base64.b64decode(content, validate=True)
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MOST_PIXELS:
            raise Refused(f"`image` has more than {{MOST_PIXELS:,}} pixels")
        return image.convert("RGB")
    except (binascii.Error, OSError, Image.DecompressionBombError) as error:
        raise Refused("`image` must be a PNG, JPEG, WebP, GIF, BMP or TIFF file, or its base64") from error


def prepare(image):
    """Return the numbers of one image, [channel, row, column]."""
{steps}    values = np.asarray(image, np.float32) * {factor!r}
    return ((values - MEAN) / DEVIATION).transpose(2, 0, 1)


def preprocess(inputs):
    """Return the numbers of all images."""
    if not inputs["image"].size:
        raise Refused("`image` is empty: send at least one image")
    images = [prepare(decode(content)) for content in inputs["image"].tolist()]
    return {{"pixel_values": np.array(images, np.float32)}}


def postprocess(outputs):
    """Return the most probable class of each image, and the probabilities of all."""
    logits = outputs["logits"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    label = np.array([LABELS[at] for at in probabilities.argmax(axis=1)], dtype=object)
    return {{"label": label, "probabilities": probabilities}}
'''

SHORTEST = """\
    scale = {edge} / min(image.size)
    size = [max({edge}, int(side * scale)) for side in image.size]
    image = image.resize(size, Image.Resampling.{filter})
"""

EXACT = """\
    image = image.resize(({width}, {height}), Image.Resampling.{filter})
"""

CROP = """\
    left, top = (image.width - {width}) // 2, (image.height - {height}) // 2
    image = image.crop((left, top, left + {width}, top + {height}))
"""


@dataclass(frozen=True, slots=True)
class ImageClassifier:
    """An image classifier and its preprocessing.

    Args:
        preprocessing: the content of preprocessor_config.json.
        labels: names of the classes.
    """

    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]


def describe_images(model: Path) -> ImageClassifier | None:
    """Return the classifier of an ONNX file; None if it is none.

    Raises:
        ConversionError: its files cannot be read, or need something that Turnout does not support.
    """
    folder = find_folder(model)
    if folder is None or not (folder / PREPROCESSOR).is_file():
        return None
    config = read_object(folder / CONFIG)
    architecture = next(iter(config.get("architectures") or ()), "")
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception:  # the runtime reports what is wrong with it
        return None
    weights = {row.name for row in graph.initializer}
    inputs = [row.name for row in graph.input if row.name not in weights]
    if not architecture.endswith("ForImageClassification") or inputs != ["pixel_values"]:
        return None
    if [row.name for row in graph.output] != ["logits"]:
        return None
    classifier = ImageClassifier(read_object(folder / PREPROCESSOR), labels_of(config))
    make_image_transform(classifier)
    return classifier


def make_image_transform(classifier: ImageClassifier) -> str:
    """Return the source of the transform.

    Raises:
        ConversionError: the settings need something that Turnout does not support.
    """
    given = classifier.preprocessing
    steps = ""
    if given.get("do_resize", True):
        steps += _resize(given)
    if given.get("do_center_crop", False):
        crop = _size(given, "crop_size")
        steps += CROP.format(width=crop["width"], height=crop["height"])
    factor = float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0
    mean, deviation = [0.0] * 3, [1.0] * 3
    if given.get("do_normalize", True):
        mean, deviation = (list(map(float, given.get(name) or ())) for name in ("image_mean", "image_std"))
    if len(mean) != 3 or len(deviation) != 3:
        raise ConversionError(f"{PREPROCESSOR} must have three values for `image_mean` and for `image_std`", HINT)
    return CODE.format(labels=list(classifier.labels), mean=mean, deviation=deviation, steps=steps, factor=factor)


HINT = "Pass --runtime onnx, and write the transform yourself: see docs/transforms.md."


def _resize(given: Mapping[str, Any]) -> str:
    number = given.get("resample", 2)
    if number not in FILTERS:
        raise ConversionError(f"{PREPROCESSOR} has an unknown `resample`: {number!r}", HINT)
    if given.get("crop_pct") is not None:
        raise ConversionError(f"{PREPROCESSOR} asks for `crop_pct`, which Turnout does not support", HINT)
    size = _size(given, "size")
    if "shortest_edge" in size:
        return SHORTEST.format(edge=int(size["shortest_edge"]), filter=FILTERS[number])
    return EXACT.format(width=size["width"], height=size["height"], filter=FILTERS[number])


def _size(given: Mapping[str, Any], key: str) -> dict[str, int]:
    """Return `width` and `height`, or `shortest_edge`."""
    size = given.get(key)
    if isinstance(size, int):
        return {"width": size, "height": size}
    if isinstance(size, Mapping):
        if {"width", "height"} <= size.keys():
            return {"width": int(size["width"]), "height": int(size["height"])}
        if "shortest_edge" in size and "longest_edge" not in size and key == "size":
            return {"shortest_edge": int(size["shortest_edge"])}
    raise ConversionError(f"{PREPROCESSOR} has a `{key}` that Turnout does not support: {size!r}", HINT)


def make_image_version(
    classifier: ImageClassifier, model: Path, out: Path, imports: Path, *, seconds: float
) -> EncoderVersion:
    """Write the transform and the examples of a classifier, and try both with pictures.

    Raises:
        ConversionError: it cannot be run, or its answers in a batch differ from those alone.
    """
    transform = out / "transform.py"
    transform.write_text(make_image_transform(classifier))
    pictures = [base64.b64encode(picture).decode() for picture in draw_pictures()]
    report = run_version(model, transform, "image", pictures, 2, REQUIREMENTS, imports, seconds)
    check_batches(report, "an image", "the graph was exported for one image")
    shape = [-1, len(classifier.labels)]
    outputs = {"label": {"datatype": "BYTES", "shape": [-1]}, "probabilities": {"datatype": "FP32", "shape": shape}}
    tensors = {"inputs": {"image": {"datatype": "BYTES", "shape": [-1]}}, "outputs": outputs}
    examples = out / "examples.json"
    examples.write_bytes(make_examples("image", pictures[:2], report, tensors))
    return EncoderVersion(model, transform, tensors, examples, f"{len(pictures)} images", REQUIREMENTS)


def draw_pictures() -> list[bytes]:
    """Return PNG files: in color and gray, with transparency, wide, tall and tiny."""
    random = np.random.default_rng(0)
    shapes = ((24, 24, 3), (20, 31, 3), (40, 17, 1), (33, 21, 4), (1, 1, 3), (300, 8, 3))
    return [make_png(random.integers(0, 256, shape, np.uint8)) for shape in shapes]


def make_png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return a PNG file of pixels [row, column, channel]. Source: PNG specification, third edition."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    color = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
