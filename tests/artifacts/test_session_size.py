"""The estimated memory of a session."""

from __future__ import annotations

import pytest

from turnout.artifacts.session_size import estimate_session_bytes

MB = 1024 * 1024


def test_estimate_follows_the_files() -> None:
    assert estimate_session_bytes(0) > 0
    assert estimate_session_bytes(2 * MB) == pytest.approx(4.25 * MB)
