"""Estimates the memory of a loaded version."""

from __future__ import annotations

SESSION_BYTES = 256 * 1024
"""Memory of a tiny model's session. Measured with onnxruntime 1.31: 0.11 MB, and 0.1 MB for what belongs to it."""

BYTES_PER_FILE_BYTE = 2.0
"""Memory of a session by its files' size: onnxruntime keeps the weights, and those of matrix products once more in the
order in which it reads them. Measured with matrices of 0.02, 2.1 and 20.8 MB: 1.9 to 2.2 times."""


def estimate_session_bytes(files_bytes: int) -> int:
    """Memory that a session is expected to take."""
    return SESSION_BYTES + int(BYTES_PER_FILE_BYTE * files_bytes)
