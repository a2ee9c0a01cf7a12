"""Models of an MLflow server: `mlflow:name@alias`, `mlflow:name/3`, `runs:/RUN/path`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.conversion.environments import find_environment
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import run_job
from turnout.conversion.sources import Fetched, Order

TRACKING = "MLFLOW_TRACKING_URI"

PASSED = ("MLFLOW_", "AWS_", "GOOGLE_", "AZURE_", "DATABRICKS_")
"""Prefixes of the environment variables that MLflow and its stores need."""

ALSO_PASSED = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NO_PROXY", "no_proxy")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def download_model(order: Order) -> Fetched:
    """Download the folder of a model with MLflow's own client; an alias is resolved once."""
    value = _ask(order, str(order.target))
    return Fetched(Path(value["path"]), order.address, str(value["revision"]))


def resolve_revision(order: Order) -> str:
    """Return the version that an address points to now."""
    return str(_ask(order, None)["revision"])


def _ask(order: Order, target: str | None) -> Mapping[str, Any]:
    if not os.environ.get(TRACKING):
        raise ConversionError(
            f"{order.address} needs the address of the MLflow server", f"Set it: export {TRACKING}=https://host"
        )
    done = run_job(
        find_environment("mlflow", order.remark),
        "mlflow_fetch",
        {"address": order.address, "target": target},
        order.target.parent,
        limits=order.limits,
        progress=lambda text: order.remark(f"MLflow: {text}"),
        variables=variables(),
    )
    return done.value


def variables() -> dict[str, str]:
    """Return the environment variables of MLflow's process."""
    home = Path.home()
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": str(home / ".aws" / "credentials"),
        "AWS_CONFIG_FILE": str(home / ".aws" / "config"),
    }
    names = (*ALSO_PASSED, *PROXIES)
    return files | {name: value for name, value in os.environ.items() if name.startswith(PASSED) or name in names}
