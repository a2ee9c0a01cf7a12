from __future__ import annotations

import pytest

from turnout.protocol.sentences import shorten_text


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("One line.\n  And another.", 40, "One line. And another."),
        ("First one. Second one. Third one.", 25, "First one. Second one. …"),
        ("Version 1.32 of it cannot. It really cannot.", 30, "Version 1.32 of it cannot. …"),
        ("no end in sight at all", 12, "no end in …"),
        ("x" * 30, 10, f"{'x' * 10} …"),
    ],
)
def test_a_long_text_ends_with_a_sentence_or_at_least_a_word(text: str, most: int, expected: str) -> None:
    assert shorten_text(text, most) == expected
