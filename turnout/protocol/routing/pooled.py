"""Determines the version that an event for a pool's function is for.

Routers write it into the event under the key `turnout`, which API Gateway never makes. An event without it, such as one
sent with the Invoke API, is for the version in its path, or for the one that the stage serves if the path has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from turnout.protocol.naming import split_function_name, variable_name
from turnout.protocol.routing.packed_choices import VARIABLE_CHARACTERS, find_choice

POOLED = "pooled"
"""Key in an event's `turnout`: model and version."""

UNKNOWN_VERSION = "the pool has no version"
"""The start of a pool's error for a version that it does not have."""

WATCHED_VARIABLE = "PoolMetrics"
"""The stage variable with the models whose pooled versions write metrics: those that a canary moves. No model's
variable has this name: those begin with a lower-case letter.
"""

WATCH_ALL = "~"
"""Its value if every model is moved, or there are too many to name. No model has this name."""

_RESOURCE = re.compile(r"/models/(?P<model>[^/{}]+)(?:/(?P<version>[^/{}]+))?/inference")


def aim_at(event: Mapping[str, Any], model: str, version: str) -> dict[str, Any]:
    """Return the event with its version."""
    return {**event, "turnout": {**(event.get("turnout") or {}), POOLED: [model, version]}}


def find_aim(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return model and version of an event; both are empty if it has none."""
    aim = (event.get("turnout") or {}).get(POOLED)
    if aim:
        return aim[0], aim[1]
    match = _RESOURCE.fullmatch(event.get("resource") or "")
    if match is None:
        return "", ""
    model = match["model"]
    return model, match["version"] or find_choice(event.get("stageVariables") or {}, variable_name(model))


def spell_watched(models: Iterable[str]) -> str:
    """Return the value of `WATCHED_VARIABLE`."""
    text = ",".join(models)
    return text if len(text) <= VARIABLE_CHARACTERS else WATCH_ALL


def is_watched(event: Mapping[str, Any], model: str) -> bool:
    """Whether the versions of a model write metrics for an event."""
    text = (event.get("stageVariables") or {}).get(WATCHED_VARIABLE, "")
    return bool(text) and (text == WATCH_ALL or model in text.split(","))


def of_version(pool: str, function: str, alias: str) -> dict[str, str]:
    """Return the dimensions of a pool's metrics for one version (model_lambdas/function/pool_log.py).

    Args:
        pool: function of the pool.
        function: the function that the version would have of its own, whose name contains the version.
        alias: alias by which the pool is called.
    """
    model, version = split_function_name(function)
    return {"FunctionName": pool, "Resource": f"{pool}:{alias}", "Model": model, "Version": version}
