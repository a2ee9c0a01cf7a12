from __future__ import annotations

import pytest

from turnout.wording import size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (3482, "3.4 KB"),
        (262_144_000, "250.0 MB"),
        (2**31, "2.0 GB"),
        (2**42, "4,096.0 GB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
