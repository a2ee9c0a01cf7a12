"""A replay's origin: when, where and with which captured requests, so that a report stays evidence."""

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
    """When, where and with what a replay was made.

    Args:
        time: when it ended, with its time zone.
        url: the server's address.
        stage: the stage that was asked; empty where the server did not name it.
        capture: the name of the capture's file.
        capture_sha256: digest of the bytes that were read of it.
    """

    time: datetime
    url: str
    stage: str
    capture: str
    capture_sha256: str

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "time": self.time.isoformat(timespec="seconds"),
            "url": self.url,
            "stage": self.stage or None,
            "capture": {"file": self.capture, "sha256": self.capture_sha256},
        }


def public_url(url: str) -> str:
    """The address without a user's name and password: reports are passed on."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def fetch_stage(url: str, headers: Mapping[str, str]) -> str:
    """The stage that answers paths without one, as the server's catalogue says; empty where it does not say."""
    try:
        with closing(ApiConnection(url)) as connection:
            answer = connection.request("GET", "/models", headers=headers)
        stage = orjson.loads(answer.body)["stage"] if answer.status == HTTPStatus.OK else ""
    except (UnreachableError, ValueError, KeyError, TypeError):
        return ""
    return stage if isinstance(stage, str) else ""
