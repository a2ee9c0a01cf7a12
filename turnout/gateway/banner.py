"""The banner of `turnout serve`: the address, the stages, and a call to try."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from turnout import __version__
from turnout.manifest.parser import Manifest, Stage

DEFAULT_SOURCE = "models.yaml"

MOST_LISTED = 8
"""Most models that a stage's line names; more are counted."""


@dataclass(frozen=True, slots=True)
class BannerRequest:
    """A working request to copy.

    Args:
        path: without the stage if it is the default stage.
        body: the request's body.
        key_of: the stage whose API key it needs, or empty.
    """

    path: str
    body: Mapping[str, Any]
    key_of: str = ""


def render_banner(
    manifest: Manifest,
    url: str,
    *,
    default_stage: str,
    keys: Collection[str],
    sample: BannerRequest | None,
    notes: Iterable[str] = (),
) -> str:
    """Return the whole text: address, one or more lines for each stage, one curl command, notes."""
    lines = [f"turnout {__version__} serves {manifest.source} at {url}", ""]
    for stage in manifest.stages:
        lines += _describe(stage, is_default=stage.name == default_stage, has_key=stage.name in keys)
    if sample is not None:
        lines += ["", "Try it:", f"  {render_curl(url, sample, manifest.source)}"]
    note_lines = [f"  {note}" for note in notes]
    if note_lines:
        lines += ["", "Note:", *note_lines]
    return "\n".join([*lines, ""])


def render_curl(url: str, sample: BannerRequest, source: str = DEFAULT_SOURCE) -> str:
    """Return one line for any POSIX shell. A command in it prints the API key, so that the key is not logged."""
    words = shlex.join(["curl", url + sample.path, "-H", "content-type: application/json"])
    if sample.key_of:
        where = "" if source == DEFAULT_SOURCE else f" -m {shlex.quote(source)}"
        words += f' -H "x-api-key: $(turnout keys {sample.key_of}{where})"'
    return f"{words} -d {shlex.quote(orjson.dumps(sample.body).decode())}"


def _describe(stage: Stage, *, is_default: bool, has_key: bool) -> list[str]:
    also = " and, as the default stage, /models/..." if is_default else ""
    lines = [f"  {stage.name}: /{stage.name}/models/...{also}", f"    serves {_serving(stage)}"]
    if stage.canary is not None:
        moved = _listed([f"{model} {version}" for model, version in stage.canary.serve.items()])
        lines.append(f"    canary: {stage.canary.percent:g}% of requests get {moved}")
    lines += [
        f"    routed canary: {routed.percent:g}% of requests to {model} get {routed.version}"
        for model, routed in stage.routed.items()
    ]
    if has_key:
        lines.append(f"    x-api-key: printed by `turnout keys {stage.name}`")
    elif stage.auth != "none":
        lines.append(f"    auth: {stage.auth}")
    if stage.throttle is not None:
        lines.append(f"    throttle: {stage.throttle.rate:g} requests/s, {stage.throttle.burst} at once")
    return lines


def _serving(stage: Stage) -> str:
    weighted = [
        f"{model} {' and '.join(f'{version} {percent:g}%' for version, percent in weights.items())}"
        for model, weights in stage.weights.items()
    ]
    return _listed([*(f"{model} {version}" for model, version in stage.serve.items()), *weighted])


def _listed(names: Sequence[str]) -> str:
    if len(names) <= MOST_LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_LISTED])} and {len(names) - MOST_LISTED} more"
