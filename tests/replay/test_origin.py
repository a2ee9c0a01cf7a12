"""What a replay was: when, where and with what."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

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


class Catalogue(BaseHTTPRequestHandler):
    """Answers with the status and body that the path names."""

    def do_GET(self) -> None:
        _, status, body, _ = self.path.split("/")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(bytes.fromhex(body))

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Catalogue) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


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
def test_the_stage_is_what_the_catalogue_says(url: str, status: int, body: bytes, stage: str) -> None:
    assert fetch_stage(f"{url}/{status}/{body.hex()}", {}) == stage


def test_without_a_server_the_stage_is_unknown() -> None:
    assert fetch_stage("http://127.0.0.1:1", {}) == ""
