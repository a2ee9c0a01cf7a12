"""The origin of a replay: when, where and with what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.loopback_server import QuietHandler, loopback_server
from turnout.replay.origin import fetch_stage, public_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://user:secret@api.example.com/prod/", "https://api.example.com/prod"),
        ("https://api.example.com/prod?key=secret#x", "https://api.example.com/prod"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


class Catalogue(QuietHandler):
    """Answers with the status and body that the path names."""

    def do_GET(self) -> None:
        _, status, body, _ = self.path.split("/")
        self.respond(int(status), bytes.fromhex(body))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with loopback_server(Catalogue) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "body", "stage"),
    [
        (200, b'{"stage":"dev"}', "dev"),
        (403, b'{"stage":"dev"}', ""),
        (200, b'{"stage":7}', ""),
        (200, b"[]", ""),
        (200, b"<html>", ""),
        (200, b"{}", ""),
    ],
)
def test_the_stage_is_that_of_the_catalogue(url: str, status: int, body: bytes, stage: str) -> None:
    assert fetch_stage(f"{url}/{status}/{body.hex()}", {}) == stage


def test_without_a_server_the_stage_is_unknown() -> None:
    assert fetch_stage("http://127.0.0.1:1", {}) == ""
