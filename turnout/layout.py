"""Paths of Turnout's own data files and packages: next to the package in a checkout, inside it in a wheel.

Source: the wheel's mapping in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def schema_path(name: str) -> Path:
    """Return the file of one JSON Schema, named without its suffix: `models`, `inference-request`.

    Raises:
        FileNotFoundError: there is no such schema; the message lists the existing ones.
    """
    folder = _home() / "schemas"
    path = folder / f"{name}.schema.json"
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".schema.json") for file in folder.glob("*.schema.json")))
        raise FileNotFoundError(f"no schema {name!r}; there are: {known}")
    return path


def sample_dir() -> Path:
    """Return the folder with the sample model's files, `models/iris/<version>/...`.

    In a checkout that is the repository itself, which contains much more: use only `models/iris`.
    """
    return PACKAGE / "sample" if is_installed() else PACKAGE.parent


def model_lambdas_package() -> str:
    """Return the importable name of the package whose sub-packages are the model runtimes."""
    return "turnout.model_lambdas" if is_installed() else "model_lambdas"


def router_lambda_package() -> str:
    """Return the importable name of the package of the routers."""
    return "turnout.router_lambda" if is_installed() else "router_lambda"


def is_installed() -> bool:
    """Whether this is a wheel's copy: a checkout has its schemas next to the package."""
    return (PACKAGE / "schemas").is_dir()


def _home() -> Path:
    return PACKAGE if is_installed() else PACKAGE.parent
