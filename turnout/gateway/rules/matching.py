"""Finds the route of a method and a path, by API Gateway's precedence.

At each segment a static one beats `{param}`, which beats `{proxy+}`; if the better one leads to no route, the search
backtracks and tries the next (recorded from AWS: with `/part1/hardcoded` and `/{param+}`, `/part1/random` reaches
`{param+}`). Method and path are matched together: a route without the method does not match. Slashes before the first
and after the last segment are ignored; those in between are kept, so `//` is an empty segment that only `{proxy+}`
matches. Parameters keep their percent-encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ANY = "ANY"
"""The method of a route for every method that has no route of its own on the resource."""

T = TypeVar("T")

_SEGMENT = re.compile(r"\{(?P<name>[A-Za-z0-9._-]+)(?P<greedy>\+)?\}|[A-Za-z0-9._:,-]+")


class PathError(ValueError):
    """A path template that API Gateway would not import."""


@dataclass(slots=True)
class _Leaf(Generic[T]):
    """A resource with methods; `names` are its parameters in the order of the path."""

    target: T
    names: tuple[str, ...]


@dataclass(slots=True)
class _Node(Generic[T]):
    """One node in the tree of resources."""

    static: dict[str, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    greedy: dict[str, _Leaf[T]] = field(default_factory=dict)
    leaves: dict[str, _Leaf[T]] = field(default_factory=dict)


class Routes(Generic[T]):
    """The compiled routes of one API: matching takes as long with one route as with a thousand.

    Args:
        routes: `(method, path template, target)`; the method may be `ANY`.
    """

    __slots__ = ("_root", "_static")

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        self._root: _Node[T] = _Node()
        self._static: dict[str, dict[str, T]] = {}
        for method, template, target in routes:
            self._add(method, template, target)

    @property
    def static(self) -> Mapping[str, Mapping[str, T]]:
        """Path -> method -> target, for routes without parameters: these paths need no search."""
        return self._static

    def match(self, method: str, path: str) -> tuple[T, Mapping[str, str] | None] | None:
        """Return the route's target and its path parameters, None if it has none; None if there is no route."""
        methods = self._static.get(path)
        if methods is not None:
            if method in methods:
                return methods[method], None
            if ANY in methods:
                return methods[ANY], None
        trimmed = path.strip("/")
        if not trimmed:
            result = _search(self._root, [], 0, method)
        else:
            result = _search(self._root, trimmed.split("/"), 0, method)
        if result is None:
            return None
        leaf, values = result
        if not leaf.names:
            return leaf.target, None
        return leaf.target, dict(zip(leaf.names, values, strict=True))

    def _add(self, method: str, template: str, target: T) -> None:
        names, node, leaves = [], self._root, self._root.leaves
        segments = template.strip("/").split("/") if template.strip("/") else []
        for position, segment in enumerate(segments):
            match = _SEGMENT.fullmatch(segment)
            if not template.startswith("/") or match is None:
                raise PathError(
                    f"path {template!r}: segment {segment!r} must be letters, digits and . _ - : , or a whole {{name}}"
                )
            if match["name"]:
                names.append(match["name"])
            if match["greedy"] and position < len(segments) - 1:
                raise PathError(f"path {template!r}: {segment} must be the last segment")
            if match["greedy"]:
                leaves = node.greedy
                continue
            if match["name"]:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
            leaves = node.leaves
        if method in leaves:
            raise PathError(f"path {template!r}: {method} is defined twice")
        leaves[method] = _Leaf(target, tuple(names))
        if not names:
            self._static.setdefault("/" + "/".join(segments), {})[method] = target


def _leaf_of(leaves: dict[str, _Leaf[T]], method: str) -> _Leaf[T] | None:
    return leaves.get(method) or leaves.get(ANY)


def _search(node: _Node[T], segments: list[str], start: int, method: str) -> tuple[_Leaf[T], tuple[str, ...]] | None:
    """Return the best leaf below `node` for `segments[start:]`, with the values of the parameters below `node`.

    The depth is limited by the tree, not by the request: a path of ten thousand segments ends where the tree does.
    """
    if start == len(segments):
        leaf = _leaf_of(node.leaves, method)
        return (leaf, ()) if leaf is not None else None
    segment = segments[start]
    child = node.static.get(segment)
    if child is not None and (result := _search(child, segments, start + 1, method)) is not None:
        return result
    if (
        segment
        and node.parameter is not None
        and (result := _search(node.parameter, segments, start + 1, method)) is not None
    ):
        return result[0], (segment, *result[1])
    leaf = _leaf_of(node.greedy, method)
    return (leaf, ("/".join(segments[start:]),)) if leaf is not None else None
