from __future__ import annotations

from pathlib import Path

import pytest

from turnout.scaffold.folders import folders_for, missing_parents


def test_missing_parents_are_listed_deepest_first(tmp_path: Path) -> None:
    assert missing_parents(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert missing_parents(tmp_path) == []


def test_folders_that_are_not_empty_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with folders_for(tmp_path / "a" / "b", tmp_path / "a" / "c" / "d", tmp_path / "old"):
        (tmp_path / "a" / "b" / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "file", "old"]


def test_folders_are_removed_after_a_failure_halfway(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), folders_for(tmp_path / "a" / "b", tmp_path / "file" / "c"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
