"""Folders that are written once, atomically."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from turnout.packaging.unpack import locked, make_folder, unpack_zip


def test_a_zip_is_unpacked_once_under_its_own_name(tmp_path: Path) -> None:
    package = tmp_path / "iris_v1-0123.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("a/b.txt", "text")
    folder = unpack_zip(package, tmp_path / "unpacked")
    assert folder == tmp_path / "unpacked/iris_v1-0123"
    assert (folder / "a/b.txt").read_text() == "text"
    before = folder.stat().st_ino
    assert unpack_zip(package, tmp_path / "unpacked") == folder
    assert folder.stat().st_ino == before


@pytest.mark.parametrize("damage", [lambda file: file.write_text(""), lambda file: file.unlink()])
def test_a_damaged_folder_is_written_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    package = tmp_path / "a-1234.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("pkg/a.json", "{}")
        archive.writestr("pkg/empty.py", "")
    folder = unpack_zip(package, tmp_path / "unpacked")
    damage(folder / "pkg" / "a.json")
    assert unpack_zip(package, tmp_path / "unpacked") == folder
    assert (folder / "pkg" / "a.json").read_text() == "{}"
    assert list((tmp_path / "unpacked").iterdir()) == [folder]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        make_folder(tmp_path / "whole", write)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    def write_late(folder: Path) -> None:
        (folder / "mine").touch()
        make_folder(tmp_path / "whole", lambda other: (other / "theirs").touch())

    folder = make_folder(tmp_path / "whole", write_late)
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "whole").write_text("a file")
    with pytest.raises(OSError, match="whole"):
        make_folder(tmp_path / "whole", lambda folder: (folder / "x").touch())


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    order = []
    taken = threading.Event()

    def second() -> None:
        taken.wait(20)
        with locked(tmp_path / "below/lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(tmp_path / "below/lock"):
        taken.set()
        thread.join(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
