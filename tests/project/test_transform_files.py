from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.problems import ProblemsError
from turnout.project import transform_files
from turnout.project.project import load_project
from turnout.project.transform_files import find_imported_files

STEP = "def preprocess(inputs):\n    return inputs\n"


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def beside(root: Path, *transforms: str) -> list[list[str]]:
    """Return the files that belong to each version with these transforms."""
    write_identity(root / "models" / "model.onnx") if (root / "models").exists() else write_identity(
        root / "model.onnx"
    )
    artifact = "models/model.onnx" if (root / "models").exists() else "model.onnx"
    versions = "".join(
        f"      v{number}: {{artifact: {artifact}, transform: {transform}}}\n"
        for number, transform in enumerate(transforms, 1)
    )
    (root / "models.yaml").write_text(
        f"models:\n  m:\n    versions:\n{versions}stages: {{dev: {{serve: {{m: v1}}}}}}\n"
    )
    project = load_project(root / "models.yaml")
    return [list(files) for files in project.transforms.values()]


def test_all_files_in_the_folder_of_a_transform_belong_to_it_except_those_of_others(tmp_path: Path) -> None:
    own = ["data/words.txt", "helper.py", "pkg/__init__.py", "pkg/deep/x.py", "transform.py", "vocab.json"]
    foreign = [".env", ".git/config", "__pycache__/x.pyc", "helper.py~", "venv/pyvenv.cfg", "venv/lib/y.py", "old.pyc"]
    folder = tmp_path / "models" / "v1"
    write(folder, dict.fromkeys((*own, *foreign), STEP))
    assert beside(tmp_path, "models/v1/transform.py") == [own]


def test_artifacts_examples_and_folders_of_other_versions_do_not_belong_to_it(tmp_path: Path) -> None:
    write(tmp_path / "models", {"transform.py": STEP, "shared/a.py": "", "v2/transform.py": STEP, "v2/own.py": ""})
    assert beside(tmp_path, "models/transform.py", "models/v2/transform.py") == [
        ["shared/a.py", "transform.py"],
        ["own.py", "transform.py"],
    ]


def test_the_transform_of_another_version_belongs_to_it_only_if_imported(tmp_path: Path) -> None:
    write(
        tmp_path / "models",
        {"a.py": STEP, "b.py": f"def late():\n    import a\n{STEP}", "c.py": f"from . import b\n{STEP}"},
    )
    assert beside(tmp_path, "models/a.py", "models/b.py", "models/c.py") == [
        ["a.py"],
        ["a.py", "b.py"],
        ["a.py", "b.py", "c.py"],
    ]


def test_next_to_models_yaml_only_imported_or_named_files_belong_to_it(tmp_path: Path) -> None:
    source = (
        "import helper, numpy\nfrom pkg import part\nfrom pathlib import Path\nimport importlib\n"
        "HERE = Path(__file__).parent / 'data' / 'words.txt'\nVOCAB = Path(__file__).with_name('vocab.json')\n"
        f"LATE = importlib.import_module('late.leaf')\n{STEP}"
    )
    used = {
        "helper.py": "from second import x",
        "second.py": "x = 1",
        "pkg/__init__.py": "from . import inner",
        "pkg/part.py": "",
        "pkg/inner.py": "",
        "data/words.txt": "",
        "vocab.json": "",
        "late/leaf.py": "",
    }
    unused = {"train.py": "", "rollouts.jsonl": "", "Pulumi.yaml": "", "tests/test_x.py": "", "README.md": ""}
    write(tmp_path, {"transform.py": source, **used, **unused})
    assert beside(tmp_path, "transform.py") == [sorted([*used, "transform.py"])]


def test_symlinks_are_followed_and_cycles_end(tmp_path: Path) -> None:
    write(tmp_path, {"models/v1/transform.py": STEP, "shared/common.py": "", "shared/pkg/a.py": ""})
    (tmp_path / "models/v1/common.py").symlink_to(tmp_path / "shared/common.py")
    (tmp_path / "models/v1/pkg").symlink_to(tmp_path / "shared/pkg")
    (tmp_path / "shared/pkg/round").symlink_to(tmp_path / "models/v1")
    assert beside(tmp_path, "models/v1/transform.py") == [["common.py", "pkg/a.py", "transform.py"]]


def test_too_many_files_next_to_a_transform_are_a_problem_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "models" / "v1", {"transform.py": STEP, "a.txt": "x" * 3000, "b.txt": "x"})
    monkeypatch.setattr(transform_files, "MOST_FILES", 2)
    with pytest.raises(
        ProblemsError, match=r"models.m.versions.v1.transform: transform.py comes with 3 files, 2 allowed"
    ):
        beside(tmp_path, "models/v1/transform.py")
    monkeypatch.setattr(transform_files, "MOST_FILES", 20)
    monkeypatch.setattr(transform_files, "MOST_BYTES", 2048)
    with pytest.raises(ProblemsError, match=r"Move transform\.py into a folder that holds only"):
        beside(tmp_path, "models/v1/transform.py")


def test_a_transform_outside_a_project_includes_its_modules(tmp_path: Path) -> None:
    write(
        tmp_path, {"t.py": f"import helper\n{STEP}", "helper.py": "open('words.txt')", "words.txt": "", "other.py": ""}
    )
    assert list(find_imported_files(tmp_path / "t.py")) == ["helper.py", "t.py", "words.txt"]
