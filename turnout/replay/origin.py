"""A replay's origin: its time, its server and its captured requests, so that a report remains evidence."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from turnout.client.connection import ApiConnection, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ReplayOrigin:
    """The time, the server and the requests of a replay.

    Args:
        time: end of the replay, with its time zone.
        url: the server's address.
        stage: the called stage; empty if the server did not name it.
        capture: name of the capture's file.
        capture_sha256: digest of the bytes that were read from it.
    """

    time: datetime
    url: str
    stage: str
    capture: str
    capture_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the origin for programs."""
        return {
            "time": self.time.isoformat(timespec="seconds"),
            "url": self.url,
            "stage": self.stage or None,
            "capture": {"file": self.capture, "sha256": self.capture_sha256},
        }


def public_url(url: str) -> str:
    """Return the address without a user's name and password: reports are passed on."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def fetch_stage(url: str, headers: Mapping[str, str]) -> str:
    """Return the stage that answers paths without one, from the server's catalogue; empty if it is missing there."""
    try:
        with closing(ApiConnection(url)) as connection:
            answer = connection.request("GET", "/models", headers=headers)
        stage = orjson.loads(answer.body)["stage"] if answer.status == HTTPStatus.OK else ""
    except (UnreachableError, ValueError, KeyError, TypeError):
        return ""
    return stage if isinstance(stage, str) else ""
