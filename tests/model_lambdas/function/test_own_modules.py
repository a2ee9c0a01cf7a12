from __future__ import annotations

import gc
import os
import py_compile
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from model_lambdas.function.own_modules import OwnModules
from model_lambdas.function.runtime import ModelError
from model_lambdas.function.transform import Transform

USES_HELPER = """
import helper
def preprocess(inputs):
    return {"x": np.full(1, helper.VALUE)}
"""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(sys.modules)
    yield
    gc.collect()
    ours = {name for name in set(sys.modules) - before if name.startswith("_turnout_")}
    assert not ours
    assert "helper" not in sys.modules


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder / "transform.py"


def load(folder: Path, source: str, files: Mapping[str, str], owner: str = "iris v1") -> Transform:
    return Transform(write(folder, {**files, "transform.py": "import numpy as np\n" + textwrap.dedent(source)}), owner)


def value(transform: Transform) -> int:
    return int(transform.preprocess({})["x"][0])


def test_versions_with_a_helper_of_the_same_name_each_use_their_own(tmp_path: Path) -> None:
    loaded = [
        load(tmp_path / f"v{number}", USES_HELPER, {"helper.py": f"VALUE = {number}"}, f"iris v{number}")
        for number in (1, 2, 3)
    ]
    assert [value(transform) for transform in (*loaded, *reversed(loaded))] == [1, 2, 3, 3, 2, 1]


def test_loading_the_same_owner_again_makes_another_namespace(tmp_path: Path) -> None:
    old = load(tmp_path / "old", USES_HELPER, {"helper.py": "VALUE = 1"})
    new = load(tmp_path / "new", USES_HELPER, {"helper.py": "VALUE = 2"})
    assert (value(old), value(new)) == (1, 2)


WAYS = {
    "import": ("import helper", "helper.VALUE"),
    "import as": ("import helper as h", "h.VALUE"),
    "from": ("from helper import VALUE", "VALUE"),
    "star": ("from helper import *", "VALUE"),
    "relative": ("from . import helper", "helper.VALUE"),
    "relative from": ("from .helper import VALUE as v", "v"),
    "package": ("import pkg.deep.leaf", "pkg.deep.leaf.VALUE"),
    "package as": ("import pkg.deep.leaf as leaf", "leaf.VALUE"),
    "package from": ("from pkg.deep import leaf", "leaf.VALUE"),
    "package relative": ("from .pkg.deep.leaf import VALUE", "VALUE"),
    "package's own relative": ("from pkg import up", "up"),
    "folder without __init__": ("from plain import part", "part.VALUE"),
    "import_module": ("import importlib", "importlib.import_module('helper').VALUE"),
    "import_module from": ("from importlib import import_module", "import_module('pkg.deep.leaf').VALUE"),
    "import_module relative": ("import importlib", "importlib.import_module('.helper', __package__).VALUE"),
    "import_module relative to a package": ("import importlib", "importlib.import_module('.deep.leaf', 'pkg').VALUE"),
    "with importlib.util": ("import importlib.util", "importlib.import_module('helper').VALUE"),
    "__import__": ("leaf = __import__('pkg.deep.leaf', fromlist=['VALUE'])", "leaf.VALUE"),
    "__import__ top": ("helper = __import__('helper')", "helper.VALUE"),
    "exec": ("exec('import helper')", "helper.VALUE"),
}


def helpers(number: int) -> dict[str, str]:
    return {
        "helper.py": f"VALUE = {number}",
        "pkg/__init__.py": "from .deep.leaf import VALUE as up",
        "pkg/deep/__init__.py": "",
        "pkg/deep/leaf.py": "import helper\nfrom ...helper import VALUE\nassert VALUE == helper.VALUE",
        "plain/part.py": "from helper import VALUE",
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lazily", [False, True])
def test_every_kind_of_import_finds_modules_next_to_the_file(tmp_path: Path, way: str, lazily: bool) -> None:
    statement, expression = WAYS[way]
    if lazily and way in {"star", "exec"}:
        pytest.skip("not within a function")
    inner, outer = (statement, "") if lazily else ("", statement)
    source = f"{outer}\ndef preprocess(inputs):\n    {inner}\n    return {{'x': np.full(1, {expression})}}\n"
    versions = [load(tmp_path / f"v{n}", source, helpers(n), f"iris v{n}") for n in (1, 2)]
    assert [value(version) for version in (versions[1], versions[0])] == [2, 1]


SHADOWING = (
    "json",
    "statistics",
    "handler",
    "session",
    "own_modules",
    "errors",
    "numpy_tools",
    "turnout",
    "yaml",
)


@pytest.mark.parametrize("name", SHADOWING)
def test_a_helper_may_have_the_name_of_another_module(tmp_path: Path, name: str) -> None:
    known = sys.modules.get(name)
    source = f"""
        import {name}
        from turnout.protocol.errors import Refused
        def preprocess(inputs):
            import {name} as again
            assert again is {name}
            return {{"x": np.full(1, again.VALUE)}}
    """
    first, second = (load(tmp_path / f"v{n}", source, {f"{name}.py": f"VALUE = {n}"}, f"m v{n}") for n in (1, 2))
    assert (value(first), value(second)) == (1, 2)
    assert sys.modules.get(name) is known


def test_python_and_packages_never_see_a_module_next_to_the_file(tmp_path: Path) -> None:
    source = """
        import json, sys, random
        def preprocess(inputs):
            import statistics
            return {"x": np.full(1, statistics.median([1, 2, 3]) + len(json.BESIDE))}
    """
    transform = load(tmp_path, source, {"json.py": "BESIDE = [1]", "random.py": "VALUE = 1", "sys.py": "raise OSError"})
    assert value(transform) == 3


@pytest.mark.parametrize("name", ["json", "numpy", "tokenize"])
def test_a_transform_may_have_the_name_of_another_module(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(f"import {name}\nimport numpy as np\ndef preprocess(inputs):\n    return {{'x': np.ones(1)}}\n")
    assert value(Transform(path, "iris v1")) == 1


def test_a_helper_may_import_the_transform(tmp_path: Path) -> None:
    source = "VALUE = 7\nimport helper\ndef preprocess(inputs): return {'x': np.full(1, helper.double())}"
    files = {"helper.py": "def double():\n    from transform import VALUE\n    return VALUE * 2"}
    assert value(load(tmp_path, source, files)) == 14


def test_a_data_folder_hides_no_package(tmp_path: Path) -> None:
    source = "import email.message, encodings\ndef preprocess(inputs): return {'x': np.ones(1)}"
    assert value(load(tmp_path, source, {"email/a.txt": "", "encodings/mine.py": ""})) == 1


def test_files_next_to_a_module_are_found_by_dunder_file_and_as_package_data(tmp_path: Path) -> None:
    source = """
        import pkgutil
        from importlib import resources
        from pathlib import Path
        def preprocess(inputs):
            beside = Path(__file__).with_name("vocab.txt").read_text()
            assert pkgutil.get_data(__package__, "vocab.txt").decode() == beside
            assert resources.files(__package__).joinpath("vocab.txt").read_text() == beside
            return {"x": np.full(1, int(beside))}
    """
    assert value(load(tmp_path, source, {"vocab.txt": "5"})) == 5


def test_classes_of_a_helper_work_with_dataclasses_and_pickle(tmp_path: Path) -> None:
    source = """
        import copy, pickle, typing
        from dataclasses import dataclass
        from helper import Row
        def preprocess(inputs):
            row = pickle.loads(pickle.dumps(copy.deepcopy(Row(3))))
            assert typing.get_type_hints(Row) == {"value": int}
            return {"x": np.full(1, row.value)}
    """
    helper = "from dataclasses import dataclass\n@dataclass\nclass Row:\n    value: 'int'\n"
    assert value(load(tmp_path, source, {"helper.py": helper})) == 3


def test_only_listed_files_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, {"transform.py": USES_HELPER, "helper.py": "VALUE = 1"})
    with pytest.raises(ModelError, match="ModuleNotFoundError: No module named 'helper'"):
        Transform(tmp_path / "transform.py", "iris v1", ("transform.py",))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import nothing", "No module named 'nothing'"),
        ("import pkg.nothing", "No module named 'pkg.nothing'"),
        ("from . import nothing", "cannot import name 'nothing' from '.'"),
        ("from helper import nothing", "cannot import name 'nothing' from 'helper'"),
        ("from .nothing import x", "No module named 'nothing'"),
        ("import importlib; importlib.import_module('pkg.nothing')", "No module named 'pkg.nothing'"),
        ("import broken", "no such weights"),
    ],
)
def test_failed_imports_are_reported_with_the_names_that_the_user_knows(
    tmp_path: Path, statement: str, message: str
) -> None:
    files = {"pkg/__init__.py": "", "helper.py": "", "broken.py": "raise ValueError('no such weights')"}
    with pytest.raises(ModelError) as raised:
        load(tmp_path, f"{statement}\ndef preprocess(inputs): return inputs", files)
    assert message in str(raised.value)
    assert "_turnout_" not in str(raised.value)


def test_a_helper_edited_after_loading_is_not_reloaded(tmp_path: Path) -> None:
    transform = load(
        tmp_path, USES_HELPER.replace("import helper\n", "").replace(":\n", ":\n    import helper\n"), helpers(1)
    )
    (tmp_path / "helper.py").write_text("VALUE = 2")
    assert value(transform) == 1
    assert value(Transform(tmp_path / "transform.py", "iris v1")) == 2
    assert not list(tmp_path.glob("**/__pycache__"))


def test_many_threads_import_lazily_at_once(tmp_path: Path) -> None:
    source = "def preprocess(inputs):\n    from pkg.deep.leaf import VALUE\n    return {'x': np.full(1, VALUE)}"
    slow = {"helper.py": "import time\ntime.sleep(0.05)\nVALUE = {n}"}
    versions = {}
    for n in range(6):
        files = {**helpers(n), "helper.py": slow["helper.py"].format(n=n)}
        versions[n] = load(tmp_path / f"v{n}", source, files, f"iris v{n}")
    results: list[tuple[int, int]] = []
    barrier = threading.Barrier(24)

    def run(n: int) -> None:
        barrier.wait()
        results.append((n, value(versions[n])))

    threads = [threading.Thread(target=run, args=(n % 6,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 24
    assert all(asked == answered for asked, answered in results)


def test_a_package_that_is_the_folder_itself_can_be_imported(tmp_path: Path) -> None:
    source = "from . import VALUE\ndef preprocess(inputs): return {'x': np.full(1, VALUE)}"
    assert value(load(tmp_path, source, {"__init__.py": "VALUE = 4"})) == 4


def test_only_bytecode_of_a_package_is_used(tmp_path: Path) -> None:
    write(tmp_path, {"transform.py": "import numpy as np" + USES_HELPER, "helper.py": "VALUE = 1"})
    for mode, expected in (
        (py_compile.PycInvalidationMode.TIMESTAMP, 2),
        (py_compile.PycInvalidationMode.CHECKED_HASH, 2),
        (py_compile.PycInvalidationMode.UNCHECKED_HASH, 1),
    ):
        (tmp_path / "helper.py").write_text("VALUE = 1")
        py_compile.compile(str(tmp_path / "helper.py"), invalidation_mode=mode, doraise=True)
        status = (tmp_path / "helper.py").stat()
        (tmp_path / "helper.py").write_text("VALUE = 2")
        os.utime(tmp_path / "helper.py", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert value(Transform(tmp_path / "transform.py", "iris v1")) == expected


def test_unloading_removes_every_module(tmp_path: Path) -> None:
    write(tmp_path, {"transform.py": "import pkg.deep.leaf", **helpers(1)})
    modules = OwnModules(tmp_path / "transform.py", "iris v1")
    modules.load()
    assert any(name.startswith(f"{modules.name}.pkg") for name in sys.modules)
    modules.unload()
    assert not any(name.startswith(modules.name) for name in sys.modules)


def test_arrays_are_passed_unchanged(tmp_path: Path) -> None:
    transform = load(
        tmp_path, "import helper\npreprocess = helper.same", {"helper.py": "def same(inputs): return inputs"}
    )
    assert np.array_equal(transform.preprocess({"x": np.arange(3)})["x"], np.arange(3))
