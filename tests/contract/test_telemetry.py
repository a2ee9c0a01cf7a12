"""onnxruntime never reports to its vendor: every module that loads it turns that off first."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.protocol.telemetry import TELEMETRY_OFF

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("turnout", "model_lambdas", "router_lambda", "infra")


def loads_onnxruntime(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] == "onnxruntime" for name in names)


def switches_off(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "disable_telemetry"


def careless_imports(source: str) -> list[int]:
    """Lines that load onnxruntime without calling `disable_telemetry()` before in the same function."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    careful: set[int] = set()
    for function in functions:
        calls = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Call) and switches_off(node)]
        loads = [node.lineno for node in ast.walk(function) if isinstance(node, ast.stmt) and loads_onnxruntime(node)]
        careful |= {line for line in loads if calls and min(calls) < line}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and loads_onnxruntime(node) and node.lineno not in careful
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_that_loads_onnxruntime_turns_its_telemetry_off_first(package: str) -> None:
    careless = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / package).rglob("*.py")
        for line in careless_imports(path.read_text())
    }
    assert careless == set()


def test_a_careless_import_is_found() -> None:
    assert careless_imports("import onnxruntime") == [1]
    assert careless_imports("def f():\n    import onnxruntime as ort\n    disable_telemetry()") == [2]
    assert careless_imports("def f():\n    disable_telemetry()\n    import onnxruntime") == []


def test_the_command_and_its_child_processes_have_the_variable() -> None:
    script = (
        "import os, subprocess, sys\n"
        "from turnout.cli.__main__ import main\n"
        "main(['--version'])\n"
        "child = 'import os; print(os.environ[\"ORT_DISABLE_TELEMETRY\"])'\n"
        "print(subprocess.check_output([sys.executable, '-c', child]))"
    )
    environ = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "b'1\\n'"


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_an_open_session_writes_nothing_to_the_home_folder(tmp_path: Path, value: str | None) -> None:
    script = (
        "import pathlib\n"
        "from model_lambdas.onnx_model.session import open_session\n"
        "open_session(pathlib.Path('models/iris/v1/model.onnx'), 1024)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}
    if value is not None:
        environ |= dict.fromkeys(TELEMETRY_OFF, value)
    environ["HOME"] = str(tmp_path)
    environ.pop("XDG_CACHE_HOME", None)
    subprocess.run([sys.executable, "-c", script], env=environ, cwd=ROOT, check=True)
    assert [str(path) for path in tmp_path.rglob("*")] == []
