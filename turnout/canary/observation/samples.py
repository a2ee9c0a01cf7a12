"""Requests that a stage's canary decided about, to be answered by both versions.

`Samples` is what turnout.canary.agreement sees of a local gateway (here) and of CloudWatch Logs
(turnout.canary.observation.logged_samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Protocol
from urllib.parse import urlencode

import orjson

from turnout.client.captured_lines import Sample, parse_sample
from turnout.client.connection import ApiConnection, UnreachableError
from turnout.system.service_tokens import service_headers

MOST_SAMPLES = 100
"""Taken at one look, so that a look takes no longer than a moment."""


class Samples(Protocol):
    """A store of requests."""

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Those of a stage's canary since a moment, in seconds since 1970, that were not taken before.

        Raises:
            ObservationError, UnreachableError: it cannot be asked.
        """
        ...


class GatewaySamples:
    """Samples of a local gateway, which forgets those that are taken.

    Args:
        url: `http://127.0.0.1:8080`.
        token: the one that its services require, or empty.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._token = token

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Those that it hands out."""
        samples = fetch_samples(self._url, stage, MOST_SAMPLES, self._token)
        return [sample for sample in samples if sample.time >= since_s]


def fetch_samples(url: str, stage: str, limit: int = 100, token: str = "", *, keep: bool = False) -> list[Sample]:
    """Sampled requests of a stage's canary from a local gateway.

    Args:
        url: of the gateway.
        stage: the stage's name.
        limit: the most that are wanted.
        token: that the gateway's services ask for, or empty.
        keep: get the latest, the newest first, without taking them; else the oldest, each of which is handed out once.

    Raises:
        UnreachableError: no gateway of ours answers there.
        ValueError: `url` is no address.
    """
    with closing(ApiConnection(url)) as connection:
        query = {"stage": stage, "limit": limit} | ({"keep": "true"} if keep else {})
        path = f"/turnout/samples?{urlencode(query)}"
        answer = connection.request("GET", path, headers=service_headers(token))
    try:
        return [parse_sample(sample) for sample in orjson.loads(answer.body)["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{url} returned no samples: HTTP {answer.status}.") from error
