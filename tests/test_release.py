"""A release's tag, its version and the changelog agree before a wheel is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.check_release import check_release, main
from turnout import __version__

MODULE = '"""A module."""\n\n__version__ = "1.2.3"\n'
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n"


def test_tag_of_the_version_with_a_section_is_accepted() -> None:
    assert check_release("v1.2.3", MODULE, CHANGELOG) == []


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.4", "v1.2.3-rc1", "v1x2x3", ""])
def test_tag_of_another_version_is_rejected(tag: str) -> None:
    (problem,) = check_release(tag, MODULE, CHANGELOG)
    assert "has version 1.2.3" in problem


@pytest.mark.parametrize(
    "section",
    ["", "## [Unreleased]", "## [1.2.3]", "## [1x2x3] - 2026-01-02", "## [1.2.3] - soon", "## [1.2.30] - 2026-01-02"],
)
def test_version_without_a_dated_section_is_rejected(section: str) -> None:
    (problem,) = check_release("v1.2.3", MODULE, f"# Changelog\n\n{section}\n")
    assert "no section for 1.2.3" in problem


def test_module_without_a_version_is_rejected() -> None:
    assert check_release("v1.2.3", "", CHANGELOG) == ["turnout/__init__.py: no line `__version__ = ...`. Add it"]


@pytest.mark.parametrize("arguments", [[], [""], ["v1.2.3", "v1.2.4"], ["v0.0.0"]])
def test_wrong_arguments_and_wrong_tag_exit_with_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_tag_of_this_version_can_be_released(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"v{__version__}"]) == 0
    assert capsys.readouterr().out == f"Checked v{__version__}: the version and the changelog agree.\n"


def test_changelog_lists_unreleased_first_then_this_version(root: Path) -> None:
    sections = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[:2] == ["Unreleased", __version__]
    assert len(set(sections)) == len(sections)
