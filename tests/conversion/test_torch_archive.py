"""Files named .pt2 are checked without PyTorch: their kind, pickled objects, and code in the sizes of dimensions."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from turnout.conversion.converters.networks.torch_archive import check_archive, is_plain
from turnout.conversion.converters.start import RefusedJob


def write_archive(path: Path, size: str = "Symbol('s0', positive=True, integer=True)", **others: bytes) -> Path:
    """Write the parts of an exported program that the check reads."""
    graph: dict[str, Any] = {"graph_module": {"sizes": [{"as_expr": {"expr_str": size}}]}}
    graph["range_constraints"] = {"s0": {"min_val": 0, "max_val": None}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", json.dumps(graph))
        for name, content in others.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


@pytest.mark.parametrize(
    ("size", "plain"),
    [
        ("Symbol('s0', positive=True, integer=True)", True),
        ("Mul(Integer(8), Symbol('s27', positive=True, integer=True))", True),
        ("2*s0 + Mod(s1, 4) <= Max(3, floor(s0/2))", True),
        ("__import__('os').system('id')", False),
        ("exit()", False),
        ("eval(chr(49))", False),
        ("().__class__", False),
        ("Symbol('s0').name", False),
        ("S('__import__(1)')", False),
        ("Symbol('_s')", False),
        ("(lambda: 1)()", False),
        ("[s0 for s0 in Tuple(1)]", False),
        ("s0 +", False),
        ("", False),
    ],
)
def test_sizes_that_hold_code_are_rejected(size: str, plain: bool, tmp_path: Path) -> None:
    assert is_plain(size) is plain
    path = write_archive(tmp_path / "net.pt2", size)
    check_archive(path, trusted=True)
    if plain:
        check_archive(path, trusted=False)
    else:
        with pytest.raises(RefusedJob, match="holds code as the size of a dimension"):
            check_archive(path, trusted=False)


def test_pickled_objects_need_trust(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "net.pt2", net__data__constants__opaque_obj_0=b"\x80")
    with pytest.raises(RefusedJob, match="holds a pickled object") as caught:
        check_archive(path, trusted=False)
    assert "--trust-pickle" in caught.value.hint
    check_archive(path, trusted=True)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["net/data/aotinductor/model/model.so"], "machine code of AOTInductor"),
        (["net/code/__torch__.py", "net/data.pkl"], "a TorchScript archive"),
        (["net/data.pkl"], "a file of torch.save"),
        (["a.txt"], "a zip archive"),
    ],
)
def test_other_archives_are_rejected_with_their_kind(names: list[str], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(RefusedJob, match=f"net.pt2 is {kind}, not an exported program of PyTorch") as caught:
        check_archive(path, trusted=False)
    assert "torch.export.save(program, 'model.pt2')" in caught.value.hint
    path.write_bytes(b"no archive")
    with pytest.raises(RefusedJob, match="is not an exported program"):
        check_archive(path, trusted=False)


def test_programs_of_older_releases_are_recognized(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    check_archive(path, trusted=False)
