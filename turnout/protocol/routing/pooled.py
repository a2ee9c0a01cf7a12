"""Which version an event for a pool's function is for.

Routers write it into the event, under the key `turnout`, which API Gateway never makes. An event without it, such as
one that somebody sends with the Invoke API, is for the version of its path, and for the one that the stage serves where
the path names none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from turnout.protocol.naming import split_function_name, variable_name
from turnout.protocol.routing.packed_choices import VARIABLE_CHARACTERS, find_choice

POOLED = "pooled"
"""Key of an event's `turnout`: model and version."""

UNKNOWN_VERSION = "the pool has no version"
"""The beginning of the error of a pool that does not have the version which an event is for."""

WATCHED_VARIABLE = "PoolMetrics"
"""The stage variable that names the models whose pooled versions write metrics: those that a canary moves. Models'
variables begin with a lower-case letter: none is called so."""

WATCH_ALL = "~"
"""Its value where every model is moved, or there are too many to name. No model is called so."""

_RESOURCE = re.compile(r"/models/(?P<model>[^/{}]+)(?:/(?P<version>[^/{}]+))?/inference")


def aim_at(event: Mapping[str, Any], model: str, version: str) -> dict[str, Any]:
    """The event with the version that it is for."""
    return {**event, "turnout": {**(event.get("turnout") or {}), POOLED: [model, version]}}


def find_aim(event: Mapping[str, Any]) -> tuple[str, str]:
    """Model and version that an event is for; both empty where it names none."""
    aim = (event.get("turnout") or {}).get(POOLED)
    if aim:
        return aim[0], aim[1]
    match = _RESOURCE.fullmatch(event.get("resource") or "")
    if match is None:
        return "", ""
    model = match["model"]
    return model, match["version"] or find_choice(event.get("stageVariables") or {}, variable_name(model))


def spell_watched(models: Iterable[str]) -> str:
    """The value of `WATCHED_VARIABLE`."""
    text = ",".join(models)
    return text if len(text) <= VARIABLE_CHARACTERS else WATCH_ALL


def is_watched(event: Mapping[str, Any], model: str) -> bool:
    """Whether the versions of a model write metrics of an event."""
    text = (event.get("stageVariables") or {}).get(WATCHED_VARIABLE, "")
    return bool(text) and (text == WATCH_ALL or model in text.split(","))


def of_version(pool: str, function: str, alias: str) -> dict[str, str]:
    """The dimensions of the metrics that a pool writes of one version (model_lambdas/function/pool_log.py).

    Args:
        pool: the pool's function.
        function: the one that the version would have of its own, which names it.
        alias: by which the pool is called.
    """
    model, version = split_function_name(function)
    return {"FunctionName": pool, "Resource": f"{pool}:{alias}", "Model": model, "Version": version}
