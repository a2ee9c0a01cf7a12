"""Zips: equal contents have equal bytes."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from turnout.packaging.zips import content_digest, unzipped_bytes, write_zip


def test_bytes_do_not_depend_on_order_times_and_modes(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.py", tmp_path / "b" / "x.py"
    for path, mode, time in ((first, 0o600, 10), (second, 0o777, 2_000_000_000)):
        path.parent.mkdir()
        path.write_bytes(b"pass\n")
        path.chmod(mode)
        os.utime(path, (time, time))
    write_zip(tmp_path / "1.zip", {"x.py": first, "b/y": b"2"})
    write_zip(tmp_path / "2.zip", {"b/y": b"2", "x.py": second})
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_modes_let_lambda_read_everything_and_load_libraries(tmp_path: Path) -> None:
    write_zip(tmp_path / "1.zip", {"x.py": b"", "lib/a.so": b"", "lib/b.so.1": b""})
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        modes = {entry.filename: stat.S_IMODE(entry.external_attr >> 16) for entry in archive.infolist()}
    assert modes == {"x.py": 0o644, "lib/a.so": 0o755, "lib/b.so.1": 0o755}
    assert stat.S_IMODE((tmp_path / "1.zip").stat().st_mode) == 0o644


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_zip(tmp_path / "1.zip", {"a": b"", "b": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []


def test_sizes_and_digests(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 5000)
    write_zip(tmp_path / "1.zip", {"f": tmp_path / "f", "g": b"y" * 70})
    assert unzipped_bytes(tmp_path / "1.zip") == 5070
    assert content_digest(tmp_path / "f") == content_digest(b"x" * 5000)
