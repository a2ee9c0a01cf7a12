"""Fetches a model of an MLflow registry or run, in MLflow's environment; an alias is resolved once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .start import RefusedJob


def main(job: Mapping[str, Any], progress: Any) -> dict[str, Any]:
    """Return the version that the address points to, and the folder, unless only the version is requested."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient()
        uri, revision = _resolve(client, job["address"])
        if job["target"] is None:
            return {"revision": revision}
        progress(f"downloading {uri}")
        return {"path": str(download_artifacts(artifact_uri=uri, dst_path=job["target"])), "revision": revision}
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise RefusedJob(
            f"{job['address']} cannot be read: {reason}",
            "Check the name, its alias or version, and MLFLOW_TRACKING_URI.",
        ) from error


def _resolve(client: Any, address: str) -> tuple[str, str]:
    """The URI of what is to be downloaded, and its version; a run has none but its own name."""
    if address.startswith("runs:/"):
        run = address.removeprefix("runs:/").partition("/")[0]
        return address, str(client.get_run(run).info.run_id)
    name = address.removeprefix("mlflow:").removeprefix("models:/")
    if "@" in name:
        name, _, alias = name.rpartition("@")
        version = str(client.get_model_version_by_alias(name, alias).version)
    else:
        name, _, version = name.rpartition("/")
        if not name or not version.isdigit():
            raise RefusedJob(f"{address} names no version", "Write mlflow:NAME@ALIAS or mlflow:NAME/VERSION.")
        client.get_model_version(name, version)
    return f"models:/{name}/{version}", version
