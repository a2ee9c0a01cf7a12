"""ONNX files of the Hugging Face Hub: `hf:org/name`, `hf:org/name/onnx/model.onnx@revision`, over its HTTPS API."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from turnout.conversion.downloads import check_digest, external_names, fetch_file, fetch_json, safe_path
from turnout.conversion.encoders.description import CONFIG, FILES
from turnout.conversion.errors import ConversionError
from turnout.conversion.sources import Fetched, Order

ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<path>[^@]+))?(?:@(?P<revision>[^@]+))?")
USUAL = ("model.onnx", "onnx/model.onnx")
"""Chosen if a repository has several ONNX files: the others are quantized or optimized copies."""


def download_model(order: Order) -> Fetched:
    """Download an ONNX file with its external data; the revision is resolved to a commit once."""
    match = ADDRESS.fullmatch(order.address)
    if match is None:
        raise ConversionError(f"{order.address} must be hf:org/name, hf:org/name/FILE or either with @revision")
    name, revision = match["name"], match["revision"] or "main"
    base = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    order.remark(f"downloading {order.address}")
    answer = fetch_json(f"{base}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true", headers)
    try:
        commit = str(answer["sha"])
        digests = {str(file["rfilename"]): (file.get("lfs") or {}).get("sha256", "") for file in answer["siblings"]}
    except (KeyError, TypeError, AttributeError) as error:
        message = f"{order.address}: {base} does not answer like a hub: its answer lacks {error}"
        raise ConversionError(message, "Check HF_ENDPOINT.", code=1) from error
    chosen = choose_file(order.address, digests, match["path"] or "")

    def fetch(path: str) -> Any:
        target = safe_path(order.target, path, order.address)
        fetch_file(f"{base}/{name}/resolve/{commit}/{quote(path)}", target, headers)
        check_digest(target, digests.get(path, ""), f"{order.address}: {path}")
        return target

    model = fetch(chosen)
    for external in external_names(model):
        fetch(str(PurePosixPath(chosen).parent / external))
    check_digest(model, order.sha256, order.address)
    folders = {"", f"{PurePosixPath(chosen).parent}/"} if CONFIG in digests else set()
    for path in digests:
        if any(path == f"{folder}{name}" for folder in folders for name in FILES):
            fetch(path)
    return Fetched(model, order.address, commit)


def choose_file(address: str, files: Mapping[str, str], wanted: str) -> str:
    """Return the ONNX file of a repository; raise a ConversionError if there is none, or no usual one among several."""
    graphs = [file for file in files if file.endswith(".onnx")]
    if wanted:
        if wanted in graphs:
            return wanted
        raise ConversionError(f"{address}: the repository has no ONNX file {wanted!r}", _listed(graphs))
    if not graphs:
        raise ConversionError(
            f"{address}: the repository has no ONNX file",
            "Export one with Hugging Face Optimum, then add the file: optimum-cli export onnx --model NAME FOLDER",
        )
    usual = [file for file in USUAL if file in graphs]
    if len(graphs) > 1 and not usual:
        raise ConversionError(f"{address}: the repository has several ONNX files", _listed(graphs))
    return usual[0] if usual else graphs[0]


def _listed(graphs: list[str]) -> str:
    return f"Name one as hf:org/name/FILE. It has: {', '.join(graphs[:20])}." if graphs else "It has none."
