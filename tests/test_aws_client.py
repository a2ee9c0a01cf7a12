"""Every client of ours connects directly to this machine, even if the environment names proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from tests.builders.posting import post
from turnout.aws_client import make_aws_client
from turnout.canary.rollout.stage_control import StageTarget, make_client
from turnout.client.connection import ApiConnection
from turnout.project.remote_artifacts import download_object

HOSTS = ["127.0.0.1", "127.0.0.2", "localhost", "::1"]


class _Server(ThreadingHTTPServer):
    """Records its requests."""

    def __init__(self, host: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.asked: list[str] = []
        super().__init__((host, 0), _Handler)

    @property
    def url(self) -> str:
        host = self.server_address[0]
        return f"http://[{host!s}]:{self.server_port}" if ":" in str(host) else f"http://{host!s}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers["content-length"] or 0))
        body = b"{}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_CONNECT = do_GET  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving(host: str) -> Iterator[_Server]:
    with _Server(host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=HOSTS)
def server(request: pytest.FixtureRequest) -> Iterator[_Server]:
    try:
        with serving(request.param) as running:
            yield running
    except OSError as error:  # for example without IPv6
        pytest.skip(f"{request.param}: {error}")


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """A proxy for everything, under every name that a client may read."""
    with serving("127.0.0.1") as running:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, running.url)
            monkeypatch.setenv(name.lower(), running.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "eu-west-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        yield running


def ask_stage(url: str) -> None:
    with closing(make_client("apigateway", StageTarget(endpoint_url=url))) as client:
        client.get_rest_apis()


def ask_functions(url: str) -> None:
    with closing(make_client("lambda", StageTarget(endpoint_url=url))) as client:
        client.list_functions()


def ask_connection(url: str) -> None:
    with closing(ApiConnection(url)) as connection:
        connection.request("GET", "/")


@pytest.mark.parametrize(
    "ask", [ask_stage, ask_functions, ask_connection, lambda url: post(url, "/", b"", {})], ids=lambda ask: ask.__name__
)
def test_a_server_on_this_machine_is_called_without_the_proxy(
    ask: Callable[[str], object], server: _Server, proxy: _Server
) -> None:
    ask(server.url)
    assert len(server.asked) == 1
    assert proxy.asked == []


def test_an_endpoint_in_the_environment_is_called_without_the_proxy(
    server: _Server, proxy: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    with closing(make_client("cloudwatch", StageTarget("prod"))) as client:
        assert client.meta.endpoint_url == server.url
    download_object("bucket", "key", tmp_path / "model.onnx")
    assert server.asked
    assert proxy.asked == []


def test_another_machine_is_called_through_the_proxy(proxy: _Server) -> None:
    options = {"endpoint_url": "http://apigateway.invalid:1", "region_name": "eu-west-1"}
    with closing(make_aws_client("apigateway", **options)) as client:
        client.get_rest_apis()
    assert proxy.asked == ["http://apigateway.invalid:1/restapis"]


def test_the_client_of_a_session_calls_this_machine_without_the_proxy(
    server: _Server, proxy: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    session = boto3.Session(region_name="eu-north-1")
    with closing(make_aws_client("lambda", session=session)) as client:
        assert client.meta.region_name == "eu-north-1"
        client.list_functions()
    assert len(server.asked) == 1
    assert proxy.asked == []
