"""The locks pin the requirements of pyproject.toml, with every extra and hash, and an old pip can still install them
later.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.check_locks import OLDEST_PIP, LockError, make_older, run_uv, try_pip
from turnout.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("turnout/runtimes/onnx_layer.lock", "turnout/runtimes/python_layer.lock")
LOCKS = (
    "requirements-dev.lock",
    "requirements.lock",
    "requirements-uv.lock",
    *LAYERS,
    "turnout/packaging/ric.lock",
)


@dataclass(frozen=True)
class Row:
    """One package of a lock, as it is pinned for this machine."""

    version: str
    extras: frozenset[str]
    hashes: int


def rows_of(lock: str) -> Iterator[tuple[Requirement, int]]:
    """Yield every requirement of a lock, and how many hashes it has."""
    for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip()):
        text, *hashes = (line.strip(" \\") for line in entry.splitlines())
        yield Requirement(text), len([line for line in hashes if line.startswith("--hash=sha256:")])


def read_lock(lock: str) -> Mapping[str, Row]:
    """Return what a lock pins for this machine, by name."""
    return {
        canonicalize_name(entry.name): Row(str(entry.specifier).removeprefix("=="), frozenset(entry.extras), hashes)
        for entry, hashes in rows_of(lock)
        if entry.marker is None or entry.marker.evaluate()
    }


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def check_pinned(requirements: list[str], lock: str) -> None:
    pinned = read_lock(lock)
    for requirement in map(Requirement, requirements):
        if requirement.name == "turnout" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        entry = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(entry.version, prereleases=True), requirement
        assert requirement.extras <= entry.extras, requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_row_pins_one_version_with_hashes(lock: str) -> None:
    rows = list(rows_of(lock))
    assert rows
    for entry, hashes in rows:
        assert re.fullmatch(r"==[^,*]+", str(entry.specifier)), entry
        assert hashes, entry


def test_locks_pin_the_requirements_of_the_project() -> None:
    result = project()
    dependencies, extras = result["project"]["dependencies"], result["project"]["optional-dependencies"]
    assert {"aws", "build", "jwt", "otlp"} <= extras.keys()
    every_extra = [requirement for extra in extras.values() for requirement in extra]
    check_pinned([*dependencies, *every_extra, *result["dependency-groups"]["dev"]], "requirements-dev.lock")
    build = [line for line in (ROOT / "requirements-build.in").read_text().splitlines() if not line.startswith("#")]
    check_pinned([*dependencies, *build, *result["build-system"]["requires"]], "requirements.lock")
    check_pinned([EXTRAS["uv"].requirement], "requirements-uv.lock")


@pytest.mark.parametrize(
    "lock",
    ["requirements.lock", "requirements-uv.lock", *LAYERS],
)
def test_smaller_locks_pin_the_same_versions(lock: str) -> None:
    everything = read_lock("requirements-dev.lock")
    assert {name: entry.version for name, entry in read_lock(lock).items()} == {
        name: everything[name].version for name in read_lock(lock)
    }


@pytest.mark.parametrize("extra", project()["project"]["optional-dependencies"])
def test_every_package_that_an_extra_installs_is_pinned(extra: str) -> None:
    """Includes the dependencies of its packages, which an environment without the extra would not show."""
    pinned = read_lock("requirements-dev.lock")
    waiting = [Requirement(line) for line in project()["project"]["optional-dependencies"][extra]]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "turnout" or str(requirement) in seen:
            continue
        seen.add(str(requirement))
        assert name in pinned, requirement
        assert requirement.specifier.contains(pinned[name].version, prereleases=True), requirement
        for line in map(Requirement, distribution(name).requires or []):
            contexts = [{"extra": asked} for asked in ("", *requirement.extras)]
            if line.marker is None or any(line.marker.evaluate(context) for context in contexts):
                waiting.append(line)
    assert seen


@pytest.mark.parametrize("extra", EXTRAS)
def test_serving_is_pinned_without_extras(extra: str) -> None:
    assert extra not in read_lock("requirements.lock")


def test_packages_without_wheels_for_a_python_are_not_pinned_for_it() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", *LAYERS):
        (entry,) = (entry for entry, _ in rows_of(lock) if entry.name == "pysimdjson")
        assert entry.marker is not None
        for version, wanted in (("3.11.7", True), ("3.13.9", True), ("3.14.0", False), ("3.15.0", False)):
            environment = {**default_environment(), "python_full_version": version, "python_version": version[:4]}
            assert entry.marker.evaluate(dict(environment)) is wanted


def test_locks_keep_the_extras_that_packages_require_of_each_other() -> None:
    """Otherwise pip before 24 rejects the lock as soon as the index has a newer release."""
    pinned = read_lock("requirements-dev.lock")
    asked = 0
    for name, entry in pinned.items():
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, required):
            contexts = [{"extra": extra} for extra in ("", *entry.extras)]
            if not requirement.extras or not any(
                requirement.marker is None or requirement.marker.evaluate(context) for context in contexts
            ):
                continue
            asked += 1
            assert requirement.extras <= pinned[canonicalize_name(requirement.name)].extras, f"{name}: {requirement}"
    assert asked


@pytest.mark.slow
def test_old_pip_installs_an_outdated_lock_only_with_its_extras(tmp_path: Path) -> None:
    """The failure that the locks' extras prevent, with the smallest lock that has it."""
    pip, lock = tmp_path / "pip", tmp_path / "requirements.lock"
    run_uv("pip", "install", "--quiet", "--target", str(pip), f"pip=={OLDEST_PIP}")
    options = ("--quiet", "--universal", "--generate-hashes", "--no-strip-extras", "--no-annotate", "--no-header")
    version = f"--python-version={sys.version_info.major}.{sys.version_info.minor}"
    made = run_uv("pip", "compile", "-", *options, version, stdin="pytest-cov").stdout
    older, package = make_older(made)
    assert package == "coverage"
    assert older != made
    lock.write_text(older)
    assert try_pip(pip, lock) == OLDEST_PIP
    lock.write_text(older.replace("coverage[toml]==", "coverage=="))
    with pytest.raises(LockError, match=r"must have their versions pinned with ==. These do not:\s+coverage\[toml\]"):
        try_pip(pip, lock)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "turnout/conversion/converters").glob("*.in")), ids=lambda path: path.stem
)
def test_the_lock_of_a_converter_pins_its_requirements_with_hashes(path: Path) -> None:
    pinned = read_lock(path.with_suffix(".lock").relative_to(ROOT).as_posix())
    requirements = map(Requirement, path.read_text().splitlines())
    wanted = [entry for entry in requirements if entry.marker is None or entry.marker.evaluate()]
    assert wanted
    assert {canonicalize_name(entry.name) for entry in wanted} <= pinned.keys()
    assert all(package.version and package.hashes for package in pinned.values())


def test_named_make_targets_exist_and_are_listed() -> None:
    listed = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    pages += [path for name in ("docs", "turnout", "infra", "scripts") for path in (ROOT / name).rglob("*.[mp][dy]")]
    named = {name: path for path in pages for name in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert {"lock-converters", "serve"} <= named.keys()
    assert {name: path for name, path in named.items() if name not in listed} == {}
