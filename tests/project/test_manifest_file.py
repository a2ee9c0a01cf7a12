from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

from turnout.project.manifest_file import editing, manifest_path, replace_text


def test_a_folder_means_its_manifest(tmp_path: Path) -> None:
    assert manifest_path(tmp_path) == tmp_path / "models.yaml"
    assert manifest_path(tmp_path / "other.yaml") == tmp_path / "other.yaml"


def test_a_replaced_file_keeps_its_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / ".models.yaml.turnout-killed").write_text("half")
    (tmp_path / ".models.yaml.mine").write_text("mine")
    replace_text(path, "new\r\n")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new\r\n", 0o640)
    assert sorted(os.listdir(tmp_path)) == [".models.yaml.mine", "models.yaml"]  # noqa: PTH208


def test_edits_of_one_manifest_wait_for_each_other_by_any_path(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("")
    link = tmp_path / "elsewhere" / "models.yaml"
    link.parent.mkdir()
    link.symlink_to(path)
    waits, inside, order = threading.Event(), threading.Event(), []

    def second() -> None:
        with editing(link.parent, waits.set):
            order.append("second")
        inside.set()

    with editing(path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    assert inside.wait(10)
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_edit_does_not_block_others(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\nfrom turnout.project.manifest_file import editing\n"
        "with editing(pathlib.Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        waited: list[bool] = []
        process.kill()
        process.wait(10)
        with editing(tmp_path, lambda: waited.append(True)):
            assert not waited
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_missing_manifest_needs_no_lock(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "no" / "models.yaml", loop / "models.yaml"):
        with editing(path):
            pass
