"""Finds the prefix of a caller's paths in an event."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote


def find_base(path: str, resource: str, parameters: Mapping[str, str]) -> str | None:
    """Return the caller's path without the matched resource; None if it does not end with the resource.

    `event["path"]` does not work: behind a custom domain it contains the mapping's base path, and the stage if the
    mapping has none, like `requestContext.path`. Source: recorded events, localstack/localstack#12296.

    Args:
        path: `requestContext.path`, as the caller sent it.
        resource: `/models/{model}`.
        parameters: decoded values of the path's parameters.
    """
    path = path.rstrip("/")
    names = [part[1:-1] if part.startswith("{") else "" for part in resource.strip("/").split("/")]
    for spell in (str, _quote):
        parts = [
            spell(parameters.get(name.rstrip("+"), "")) if name else part
            for name, part in zip(names, resource.strip("/").split("/"), strict=True)
        ]
        rendered = f"/{'/'.join(parts)}".rstrip("/")
        if path.endswith(rendered):
            return path.removesuffix(rendered)
    # In any escaping, each part except a greedy one is one segment of the path.
    segments = path.split("/")
    ours, literals = segments[-len(names) :], resource.strip("/").split("/")
    fits = len(segments) > len(names) and not any(name.endswith("+") for name in names)
    if fits and all(name or part == literal for name, part, literal in zip(names, ours, literals, strict=True)):
        return "/".join(segments[: -len(names)])
    return None


def _quote(text: str) -> str:
    return quote(text, safe="/~")
