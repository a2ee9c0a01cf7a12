"""Decides which bodies are binary, by an API's `x-amazon-apigateway-binary-media-types` and a request's headers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


class BinaryMediaTypes:
    """An API's binary media types: `*/*` matches every body, `image/*` every image, others type and subtype.

    Args:
        types: as listed in the document.
    """

    __slots__ = ("_matches", "every")

    def __init__(self, types: Iterable[str]) -> None:
        wanted = frozenset(_essence(value) for value in types)
        self.every = "*/*" in wanted

        @lru_cache(maxsize=256)
        def matches(value: str) -> bool:
            essence = _essence(value.split(",", 1)[0])
            return essence in wanted or f"{essence.partition('/')[0]}/*" in wanted

        self._matches = matches

    def __contains__(self, value: str | None) -> bool:
        """Whether a header's first media type is binary; without the header, whether `*/*` is in the list."""
        return self.every or (value is not None and self._matches(value))


def _essence(media_type: str) -> str:
    """Return `image/png` for `Image/PNG; q=1`."""
    return media_type.split(";", 1)[0].strip().lower()
