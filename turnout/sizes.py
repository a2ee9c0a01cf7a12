"""Sizes as people read them, in the units of AWS's quotas: 1 MB is 1,024 KB.

Comes in: bytes. Goes out: a short text. Called by the quotas and the command line.
"""

from __future__ import annotations


def size_text(size_bytes: float) -> str:
    """`812 B`, `3.4 KB`, `250.0 MB`."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} GB"
