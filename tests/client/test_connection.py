"""One request over a real socket, and the keys that are found for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.posting import post
from tests.conftest import ROOT
from turnout.client.async_client import AsyncClient
from turnout.client.client import Client
from turnout.client.connection import (
    CONNECT_TIMEOUT_S,
    INFERENCE_TIMEOUT_S,
    ApiConnection,
    UnreachableError,
    inference_path,
    read_local_key,
)


class Echo(QuietHandler):
    """Answers with the request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        reported = {"path": self.path, "type": self.headers["content-type"], "key": self.headers["x-api-key"]}
        payload = json.dumps({**reported, "body": body.decode()}).encode()
        self.respond(418, payload, X_Turnout_Version="v1")


@pytest.fixture
def echo_url() -> Iterator[str]:
    with loopback_server(Echo) as url:
        yield url


@pytest.mark.parametrize(("suffix", "start"), [("", ""), ("/", ""), ("/base", "/base"), ("/base/", "/base")])
def test_a_request_is_posted_and_every_answer_is_returned(echo_url: str, suffix: str, start: str) -> None:
    answer = post(echo_url + suffix, "/models/iris/inference", b"{}", {"x-api-key": "k"})
    assert (answer.status, answer.headers["x-turnout-version"]) == (418, "v1")
    assert json.loads(answer.body) == {
        "path": f"{start}/models/iris/inference",
        "type": "application/json",
        "key": "k",
        "body": "{}",
    }
    assert answer.elapsed_ms > 0


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://127.0.0.1:none"])
def test_an_invalid_address_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        post(url, "/", b"", {})


def test_a_missing_server_is_reported() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="no server listens at"):
            post(url, "/", b"", {})


def test_a_server_that_never_answers_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.05 s"):
            post(url, "/", b"", {}, timeout_s=0.05)


def test_a_server_that_accepts_no_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        address = ("127.0.0.1", full.getsockname()[1])
        for _ in range(2):  # Linux keeps one more than the backlog
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(address)
        with pytest.raises(UnreachableError, match=r"did not accept a connection within 0\.05 s"):
            post("http://{}:{}".format(*address), "/", b"", {}, timeout_s=0.05)


def test_an_inference_may_take_longer_than_any_integration_timeout() -> None:
    schema = json.loads((ROOT / "schemas" / "models.schema.json").read_text())
    longest_s = schema["properties"]["quotas"]["properties"]["integration_timeout_s"]["maximum"]
    for client in (Client("http://127.0.0.1:1"), AsyncClient("http://127.0.0.1:1")):
        assert client._timeout_s > longest_s


def test_the_time_of_an_answer_is_not_that_of_a_connection() -> None:
    seen = []

    class Looking(QuietHandler):
        """Notes the timeouts of the connection in the middle of a request."""

        def do_POST(self) -> None:
            seen.append((api._connection.timeout, api._connection.sock.gettimeout()))
            self.respond(200, b"{}")

    with loopback_server(Looking) as url, closing(ApiConnection(url, timeout_s=INFERENCE_TIMEOUT_S)) as api:
        assert api.request("POST", "/", b"{}").status == 200
    assert seen == [(CONNECT_TIMEOUT_S, INFERENCE_TIMEOUT_S)]


def test_a_server_that_closes_the_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            connection, _ = rude.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(UnreachableError, match="did not answer: "):
            post(f"http://127.0.0.1:{rude.getsockname()[1]}", "/", b"", {})
        thread.join()


@pytest.mark.parametrize(
    ("model", "version", "stage", "path"),
    [
        ("iris", "v1", "", "/models/iris/v1/inference"),
        ("iris", "", "prod", "/prod/models/iris/inference"),
        ("a/b?", "", "", "/models/a%2Fb%3F/inference"),
    ],
)
def test_paths_are_those_of_the_cloud(model: str, version: str, stage: str, path: str) -> None:
    assert inference_path(model, version, stage) == path


@pytest.mark.parametrize(
    ("keys", "url", "stage", "key"),
    [
        ({"prod": "p", "beta": "b"}, "http://127.0.0.1:8080", "prod", "p"),
        ({"prod": "p", "beta": "b"}, "http://localhost", "beta", "b"),
        ({"prod": "p"}, "http://[::1]:80", "", "p"),
        ({"prod": "p", "beta": "b"}, "http://127.0.0.1", "", ""),
        ({"prod": "p"}, "http://127.0.0.1", "dev", ""),
        ({"prod": "p"}, "https://api.example.com", "prod", ""),
        ({}, "http://127.0.0.1", "", ""),
        (["p"], "http://127.0.0.1", "prod", ""),
    ],
)
def test_a_local_key_is_sent_only_to_this_machine(keys: object, url: str, stage: str, key: str, tmp_path: Path) -> None:
    (tmp_path / ".turnout").mkdir()
    (tmp_path / ".turnout" / "api_keys.json").write_text(json.dumps(keys))
    assert read_local_key(url, tmp_path, stage) == key


def test_a_missing_or_damaged_key_file_yields_no_key(tmp_path: Path) -> None:
    assert read_local_key("http://127.0.0.1", tmp_path, "prod") == ""
    (tmp_path / ".turnout").mkdir()
    (tmp_path / ".turnout" / "api_keys.json").write_text("{")
    assert read_local_key("http://127.0.0.1", tmp_path, "prod") == ""


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def forgetful_url() -> Iterator[str]:
    """A server that closes each connection after one answer without announcing it; the third answer is missing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            for answer in (ANSWER, ANSWER, b""):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_connection_closed_by_the_server_is_reopened(forgetful_url: str) -> None:
    with closing(ApiConnection(forgetful_url)) as connection:
        for _ in range(2):
            assert connection.request("POST", "/", b"{}").body == b"{}"
        with pytest.raises(UnreachableError, match="did not answer"):
            connection.request("POST", "/", b"{}")
