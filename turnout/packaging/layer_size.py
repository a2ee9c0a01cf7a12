"""Pins a version's `requirements` for Lambda and measures its layer per package, before anything is built."""

from __future__ import annotations

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnout.packaging.bytecode import compile_bytecode
from turnout.packaging.layer import (
    LayerError,
    LayerSpec,
    find_python,
    install_layer,
    layer_files,
    resolve_requirements,
)
from turnout.plan.checks.quotas import UNZIPPED_BYTES
from turnout.plan.values import RuntimeSizes
from turnout.problems import TurnoutError
from turnout.wording import size_text

LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?(?P<rest>[^;]*)(?P<marker>;.*)?")
"""A requirement of PEP 508."""

OTHERS = "other files"
SHOWN_PACKAGES = 5

UNSOLVED, OFFLINE = "No solution found", "network was disabled"
"""uv's messages if releases exclude each other or have no wheel for the platform, and its addition when offline."""


class LayerSizeError(TurnoutError):
    """The packages of a version cannot be deployed."""


@dataclass(frozen=True, slots=True)
class MeasuredLayer:
    """A version's layer on Lambda.

    Args:
        requirements: the version's own requirements, pinned.
        pinned: the requirements and all their dependencies, pinned.
        unzipped_bytes: size that counts, with the zip's, against 250 MB.
        packages: distribution -> its share of these bytes, the largest first.
    """

    requirements: tuple[str, ...]
    pinned: tuple[str, ...]
    unzipped_bytes: int
    packages: Mapping[str, int]


def measure_layer(spec: LayerSpec, parent: Path) -> MeasuredLayer:
    """Resolve and install a layer in a temporary folder, and add up the files that `turnout build` puts into its zip.

    Raises:
        LayerError: its packages cannot be resolved or installed for the platform.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="measuring-") as scratch:
        pinned = resolve_requirements(spec, Path(scratch))
        site = Path(scratch, "site")
        install_layer(spec, pinned, site)
        files = layer_files(spec, site)
        owners = _owners(site)
        sizes: Counter[str] = Counter()
        for name, path in files.items():
            sizes[owners.get(name.removeprefix("python/"), OTHERS)] += path.stat().st_size
        if python := find_python(spec.python):
            compiled = Path(scratch, "bytecode")
            compiled.mkdir()
            for name, path in compile_bytecode(python, files, "/opt", compiled).items():
                sizes[owners.get(_source_of(name), OTHERS)] += path.stat().st_size
    requirements = pin_requirements(spec.requirements, pinned)
    return MeasuredLayer(requirements, pinned, sizes.total(), dict(sizes.most_common()))


def check_layer(title: str, spec: LayerSpec, model_bytes: int, parent: Path) -> MeasuredLayer:
    """Measure a version's layer.

    Args:
        title: title of the version, for messages.
        spec: the version's layer.
        model_bytes: size of its model if the zip contains it.
        parent: a folder for temporary files.

    Raises:
        LayerSizeError: Lambda would refuse the layer, or no release matches.
        LayerError: the packages cannot be downloaded.
    """
    try:
        layer = measure_layer(spec, parent)
    except LayerError as error:
        if UNSOLVED not in str(error) or OFFLINE in str(error):
            raise
        platform = f"Python {spec.python} on Linux {spec.architecture}"
        raise LayerSizeError(
            f"the packages of {title} cannot be installed together on Lambda: {_reason(str(error))}",
            f"Ask for releases that have wheels for {platform} and fit what the layer pins ({spec.layer.lock.name}).",
        ) from error
    total = layer.unzipped_bytes + RuntimeSizes().code_bytes
    if total + model_bytes <= UNZIPPED_BYTES:
        return layer
    largest = ", ".join(f"{name} {size_text(size)}" for name, size in list(layer.packages.items())[:SHOWN_PACKAGES])
    model = f" and its model {size_text(model_bytes)}" if total <= UNZIPPED_BYTES else ""
    raise LayerSizeError(
        f"the packages of {title} take {size_text(layer.unzipped_bytes)} unzipped{model}, and Lambda allows "
        f"{size_text(UNZIPPED_BYTES)} for all of a function's files",
        f"The largest are {largest}. Leave out packages that `predict` does not need, take smaller ones "
        "(xgboost-cpu for xgboost, opencv-python-headless for opencv-python), or convert the model to ONNX.",
    )


def _reason(text: str) -> str:
    """Return uv's reason on one line."""
    words = " ".join(text.split())
    return (words.partition("cause: Because ")[2].partition(", we can conclude")[0] or words)[:400]


def pin_requirements(requirements: Sequence[str], pinned: Sequence[str]) -> tuple[str, ...]:
    """Return requirements with resolved releases: `pillow>=11` becomes `pillow==11.3.0`; extras and markers stay."""
    releases = {normalized(line.partition("==")[0]): line.partition("==")[2] for line in pinned if "==" in line}
    return tuple(_pin(requirement, releases) for requirement in requirements)


def _pin(requirement: str, releases: Mapping[str, str]) -> str:
    match = LINE.fullmatch(requirement.strip())
    if match is None or "@" in match["rest"]:  # a URL pins itself
        return requirement
    release = releases.get(normalized(match["name"]))
    if release is None:  # its marker leaves it out on this platform
        return requirement
    marker = f"; {match['marker'][1:].strip()}" if match["marker"] else ""
    return f"{match['name']}{match['extras'] or ''}=={release.partition(';')[0].strip()}{marker}"


def normalized(name: str) -> str:
    """Return a distribution's normalized name, for comparisons. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()


def _owners(site: Path) -> dict[str, str]:
    """Return each file of the layer's site-packages -> the distribution that installed it."""
    owners = {}
    for record in site.glob("*.dist-info/RECORD"):
        distribution = record.parent.name.partition("-")[0].replace("_", "-")
        with record.open(newline="") as file:
            owners.update({line[0]: distribution for line in csv.reader(file) if line})
    return owners


def _source_of(compiled: str) -> str:
    """Return `pkg/a.py` for `python/pkg/__pycache__/a.cpython-313.pyc`."""
    path = Path(compiled.removeprefix("python/"))
    return (path.parent.parent / f"{path.name.partition('.')[0]}.py").as_posix()
