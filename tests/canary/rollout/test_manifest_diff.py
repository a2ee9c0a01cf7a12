from __future__ import annotations

from turnout.canary.rollout.manifest_diff import MOST_LINE_CHARACTERS, MOST_LINES, make_diff


def test_a_changed_line_is_shown_with_its_context() -> None:
    before = "".join(f"{number}\n" for number in range(9))
    diff = make_diff(before, before.replace("4\n", "four # new\n"), "models.yaml")
    assert diff.splitlines() == [
        "--- models.yaml",
        "+++ models.yaml",
        "@@ -3,5 +3,5 @@",
        " 2",
        " 3",
        "-4",
        "+four # new",
        " 5",
        " 6",
    ]


def test_equal_texts_have_no_diff() -> None:
    assert make_diff("a\n", "a\n", "models.yaml") == ""


def test_a_long_diff_is_truncated() -> None:
    lines = make_diff("", "x" * 2 * MOST_LINE_CHARACTERS + "\n" * MOST_LINES, "models.yaml").splitlines()
    assert len(lines) == MOST_LINES + 1
    assert lines[3] == f"+{'x' * (MOST_LINE_CHARACTERS - 1)}..."
    assert lines[-1] == "... 3 more lines"
