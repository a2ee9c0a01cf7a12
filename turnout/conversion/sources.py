"""`SOURCES`: the places that a model can come from, and how it is fetched from each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import JobLimits
from turnout.manifest.version_source import without_secrets

Remark = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """A model to fetch.

    Args:
        address: the address that the user wrote.
        target: an empty folder.
        sha256: the digest that the file must have, or empty.
        limits: the limits of a job that fetches.
        remark: called with a message before each long step.
    """

    address: str
    target: Path
    sha256: str
    limits: JobLimits
    remark: Remark


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model on this machine.

    Args:
        path: the file or folder.
        address: the address for models.yaml, without secrets.
        revision: pins the model at its source: a commit, a version or a generation; empty for files.
        notes: messages for the user.
        samples: rows that came with the model, or None.
    """

    path: Path
    address: str
    revision: str = ""
    notes: tuple[str, ...] = ()
    samples: Path | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One kind of source.

    Args:
        name: the name in messages.
        prefixes: the prefixes of its addresses.
        form: the format of an address, for messages.
        fetch: fetches the model.
    """

    name: str
    prefixes: tuple[str, ...]
    form: str
    fetch: Callable[[Order], Fetched] = field(repr=False)


def _download(order: Order) -> Fetched:
    from turnout.conversion.downloads import download_url

    return download_url(order)


def _s3(order: Order) -> Fetched:
    from turnout.conversion.downloads import download_s3

    return download_s3(order)


def _gs(order: Order) -> Fetched:
    from turnout.conversion.downloads import download_gs

    return download_gs(order)


def _hub(order: Order) -> Fetched:
    from turnout.conversion.registries.hub import download_model

    return download_model(order)


def _oci(order: Order) -> Fetched:
    from turnout.conversion.registries.oci import download_model

    return download_model(order)


def _mlflow(order: Order) -> Fetched:
    from turnout.conversion.registries.mlflow import download_model

    return download_model(order)


SOURCES: Mapping[str, ModelSource] = {
    row.name: row
    for row in (
        ModelSource("web", ("https://", "http://"), "https://host/path, with --sha256", _download),
        ModelSource("s3", ("s3://",), "s3://bucket/key", _s3),
        ModelSource("gs", ("gs://",), "gs://bucket/object", _gs),
        ModelSource("hub", ("hf:",), "hf:org/name, hf:org/name/FILE, with or without @revision", _hub),
        ModelSource("oci", ("oci://",), "oci://host/repository:tag, or with @sha256:DIGEST", _oci),
        ModelSource(
            "mlflow", ("mlflow:", "models:/", "runs:/"), "mlflow:name@alias, mlflow:name/3, runs:/RUN/path", _mlflow
        ),
    )
}
"""Sources by name. An address that none of them recognizes is a path on this machine."""


def find_source(address: str) -> ModelSource | None:
    """The source of an address; None for a path on this machine.

    Raises:
        ConversionError: no source supports the address's scheme.
    """
    for source in SOURCES.values():
        if address.startswith(source.prefixes):
            return source
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", address):
        scheme = address.partition(":")[0]
        raise ConversionError(f"unknown source {scheme!r} in {without_secrets(address)}", known_sources())
    return None


def known_sources() -> str:
    """The formats of addresses, one per line."""
    rows = ("a file or a folder on this machine", *(row.form for row in SOURCES.values()))
    return "Known sources:\n" + "\n".join(f"        {row}" for row in rows)
