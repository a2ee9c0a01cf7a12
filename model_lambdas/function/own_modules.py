"""Imports a version's own modules, which are next to its Python file, in a namespace that no other version shares.

Several versions run in one process, and each may have a `helper.py`. Therefore `import helper` in such a file loads the
module under a name unique to this version (`_turnout_iris_v1_1.helper`). The version's code runs with builtins whose
`__import__` looks next to the file first, as Python does for a script. This also applies to imports within functions,
whenever they run. Python's modules, installed packages and other versions never see these modules.

Sources are read once, when the version is loaded: later edits on disk never mix with them.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_numbers = itertools.count(1)

UNCHECKED_HASH = 0b01
"""The flags of bytecode that `turnout build` compiled (PEP 552): valid regardless of the source's modification time."""


class OwnModules:
    """The modules next to one version's Python file.

    Args:
        file: a transform or the artifact of `runtime: python`.
        owner: `iris v1`, for the modules' names.
        files: the files that may be imported, relative to its folder; None for all files in it.
    """

    def __init__(self, file: Path, owner: str, files: Iterable[str] | None = None) -> None:
        self.name = f"_turnout_{re.sub(r'[^0-9a-zA-Z]', '_', owner)}_{next(_numbers)}"
        self._folder = file.parent
        self._files = frozenset(_walk(self._folder) if files is None else files)
        self._file = file
        self._own = re.sub(r"\W", "_", file.stem)
        self._sources = {
            str(self._folder / name): (self._folder / name).read_bytes()
            for name in self._files | {file.name}
            if name.endswith(".py")
        }
        self._kinds = _kinds_of(self._files)
        self.builtins = {**builtins.__dict__, "__import__": self._import}

    def load(self) -> ModuleType:
        """Run the file. Its exceptions are passed on, and then no module is left behind."""
        _finder.add(self)
        try:
            start = str(self._folder / "__init__.py")
            self._sources.setdefault(start, b"")
            self._run(self._spec(self.name, start, [str(self._folder)]))
            return self._run(self._spec(f"{self.name}.{self._own}", str(self._file)))
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Forget every module. Code that is still running keeps its imports."""
        _finder.remove(self)
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            sys.modules.pop(name, None)

    def find(self, fullname: str) -> ModuleSpec | None:
        """Return the spec of `<namespace>.a.b`, made of `a/b.py`, `a/b/__init__.py`, `a/b.so` or a folder."""
        path = fullname.partition(".")[2].replace(".", "/")
        if f"{path}/__init__.py" in self._files:
            return self._spec(fullname, str(self._folder / path / "__init__.py"), [str(self._folder / path)])
        if f"{path}.py" in self._files:
            return self._spec(fullname, str(self._folder / f"{path}.py"))
        for suffix in EXTENSION_SUFFIXES:
            if f"{path}{suffix}" in self._files:
                file = str(self._folder / f"{path}{suffix}")
                return importlib.util.spec_from_file_location(
                    fullname, file, loader=ExtensionFileLoader(fullname, file)
                )
        if any(name.startswith(f"{path}/") for name in self._files):
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(self._folder / path)]
            return spec
        return None

    def read(self, path: str) -> bytes | None:
        """Return a source as it was when the version was loaded; None for a file that is not one of its modules."""
        return self._sources.get(path)

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """`importlib.import_module` as the version's code sees it."""
        if self._holds(name, None):
            name = f"{self.name}.{name}"
        elif name.startswith(".") and package and self._holds(package, None):
            package = f"{self.name}.{package}"
        try:
            return importlib.import_module(name, package)
        except ImportError as error:
            self._restate(error)
            raise

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the parameter names of `__import__`
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        load = builtins.__import__
        # C code imports with an empty list, and means the installed modules, not those next to the file.
        is_from_c = type(fromlist) is list and not fromlist
        try:
            if level == 0 and not is_from_c and self._holds(name, globals):
                inner = f"{self.name}.{name}"
                if fromlist:
                    return load(inner, globals, locals, fromlist, 0)
                load(inner)
                return sys.modules[f"{self.name}.{name.partition('.')[0]}"]
            module = load(name, globals, locals, fromlist, level)
        except ImportError as error:
            self._restate(error)
            raise
        if level == 0 and module is importlib and not is_from_c:
            return self._importlib()
        return module

    def _importlib(self) -> ModuleType:
        stand_in = ModuleType("importlib", importlib.__doc__)
        stand_in.__dict__.update(importlib.__dict__)
        stand_in.__dict__["import_module"] = self.import_module
        return stand_in

    def _holds(self, name: str, importer: Mapping[str, Any] | None) -> bool:
        """Whether an absolute import refers to a module next to the file."""
        top, _, rest = name.partition(".")
        kind = self._kinds.get(top)
        if kind is None or top in sys.builtin_module_names:
            return False
        if kind == "folder":  # Python uses a folder without __init__.py only if nothing else has that name
            return not _is_elsewhere(top)
        if top == self._own and (importer or {}).get("__name__") == f"{self.name}.{self._own}":
            return False  # `import json` in a file that is itself named json.py
        return kind == "package" or not rest  # a file turnout.py has no `turnout.protocol`

    def restate(self, text: str) -> str:
        """Rewrite a message so that modules have the names that the user knows."""
        return text.replace(f"{self.name}.", "").replace(self.name, ".")

    def _restate(self, error: ImportError) -> None:
        error.msg = self.restate(error.msg)
        if error.name:
            error.name = error.name.removeprefix(f"{self.name}.")

    def _spec(self, fullname: str, path: str, locations: list[str] | None = None) -> ModuleSpec:
        loader = _Loader(fullname, path, self)
        spec = importlib.util.spec_from_file_location(
            fullname, path, loader=loader, submodule_search_locations=locations
        )
        assert spec is not None
        return spec

    def _run(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        assert spec.loader is not None
        spec.loader.exec_module(module)
        return module


class _Loader(SourceFileLoader):
    """Runs a module with its version's builtins. Uses bytecode only from a package, never from `__pycache__` here.

    Python detects stale bytecode by modification second and size: it would miss an edit within a second that keeps the
    size.
    """

    def __init__(self, fullname: str, path: str, modules: OwnModules) -> None:
        super().__init__(fullname, path)
        self._modules = modules

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._modules.builtins
        super().exec_module(module)

    def get_data(self, path: str) -> bytes:
        known = self._modules.read(path)
        return super().get_data(path) if known is None else known

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if _is_packaged(importlib.util.cache_from_source(path)):
            return super().get_code(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Finder(MetaPathFinder):
    """Finds the modules of every namespace; placed first in `sys.meta_path` once there is a namespace."""

    def __init__(self) -> None:
        self._namespaces: dict[str, OwnModules] = {}

    def add(self, modules: OwnModules) -> None:
        self._namespaces[modules.name] = modules
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self, modules: OwnModules) -> None:
        self._namespaces.pop(modules.name, None)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        modules = self._namespaces.get(fullname.partition(".")[0])
        return None if modules is None else modules.find(fullname)


_finder = _Finder()


def _walk(folder: Path) -> Iterable[str]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            yield (Path(where) / name).relative_to(folder).as_posix()


def _kinds_of(files: Iterable[str]) -> dict[str, str]:
    """Return name of an importable item -> `module`, `package` or `folder` (one without `__init__.py`)."""
    kinds: dict[str, str] = {}
    for name in files:
        top, _, rest = name.partition("/")
        if rest == "__init__.py":
            kinds[top] = "package"
        elif rest:
            if name.endswith((".py", *EXTENSION_SUFFIXES)):
                kinds.setdefault(top, "folder")
        else:
            suffix = next((suffix for suffix in (".py", *EXTENSION_SUFFIXES) if top.endswith(suffix)), "")
            stem = top.removesuffix(suffix)
            if suffix and kinds.get(stem) != "package":
                kinds[stem] = "module"
    return kinds


def _is_elsewhere(top: str) -> bool:
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _is_packaged(bytecode: str) -> bool:
    try:
        with open(bytecode, "rb") as stream:  # noqa: PTH123 - runs for each import
            head = stream.read(8)
    except OSError:
        return False
    return int.from_bytes(head[4:], "little") == UNCHECKED_HASH
