"""Requests for which a stage's canary chose the version, to be answered by both versions.

`Samples` is the interface that turnout.canary.agreement uses for a local gateway (here) and for CloudWatch Logs
(turnout.canary.observation.logged_samples).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import urlencode

import orjson

from turnout.client.captured_lines import Sample, parse_sample
from turnout.client.connection import ApiConnection, UnreachableError
from turnout.system.service_tokens import service_headers

MOST_SAMPLES = 100
"""Most samples per read, so that a read is short."""


class Samples(Protocol):
    """A source of sampled requests."""

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Return the samples of a stage's canary since a time, in seconds since 1970, that were not returned before.

        Raises:
            ObservationError, UnreachableError: the source cannot be queried.
        """
        ...


class GatewaySamples:
    """Samples of a local gateway, which deletes returned ones.

    Args:
        url: `http://127.0.0.1:8080`.
        token: the one that its services require, or empty.
        models: models of the canary; empty for all.
    """

    def __init__(self, url: str, token: str = "", models: Collection[str] = ()) -> None:
        self._url = url
        self._token = token
        self._models = models

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Those that it hands out."""
        samples = fetch_samples(self._url, stage, MOST_SAMPLES, self._token, models=self._models)
        return [sample for sample in samples if sample.time >= since_s]


def fetch_samples(
    url: str, stage: str, limit: int = 100, token: str = "", *, keep: bool = False, models: Collection[str] = ()
) -> list[Sample]:
    """Sampled requests of a stage's canary from a local gateway.

    Args:
        url: the gateway's URL.
        stage: the stage's name.
        limit: the most that are wanted.
        token: that the gateway's services ask for, or empty.
        keep: get the latest, the newest first, without taking them; else the oldest, each of which is handed out once.
        models: models whose samples are returned; empty for all.

    Raises:
        UnreachableError: there is no gateway of ours at the address.
        ValueError: `url` is not a valid address.
    """
    with closing(ApiConnection(url)) as connection:
        query: dict[str, Any] = {"stage": stage, "limit": limit} | ({"keep": "true"} if keep else {})
        query |= {"model": list(models)} if models and not keep else {}
        path = f"/turnout/samples?{urlencode(query, doseq=True)}"
        answer = connection.request("GET", path, headers=service_headers(token))
    try:
        return [parse_sample(sample) for sample in orjson.loads(answer.body)["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{url} returned no samples: HTTP {answer.status}.") from error
