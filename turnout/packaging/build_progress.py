"""The interface for build progress, in its own module because the builder is slow to import."""

from __future__ import annotations

from collections.abc import Callable

BuildProgress = Callable[[str, str], None]
"""Called with a package's name and `started`, `built` or `cached`, from any thread."""


def ignore_progress(name: str, event: str) -> None:
    """Show nothing."""
