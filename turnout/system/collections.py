"""Disables Python's garbage collector while many long-lived objects are made.

Reading thousands of versions makes hundreds of thousands of objects, and each full collection scans all of them, which
takes a fifth of the time (measured with 3,000 versions: 1.25 s and 1.61 s of processor time).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Disable collections until the block ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
