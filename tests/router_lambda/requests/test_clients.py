"""The Python client and `turnout invoke --async` with a server that runs the real handlers with moto.

The same calls are tested against `turnout serve` in tests/e2e/test_client.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import requests as http

from tests.builders.aws_requests import IRIS, Deployment, aws_account, deploy
from tests.builders.loopback_server import loopback_server
from tests.builders.model_functions import identity
from turnout.cli.app import run
from turnout.client import ApiError, Client

ONE = np.ones((1, 1), np.float32)


class Front(BaseHTTPRequestHandler):
    """Acts as API Gateway and S3 for a client: requests to S3's addresses arrive here and are forwarded to moto."""

    protocol_version = "HTTP/1.1"
    made: ClassVar[Deployment]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        made = self.made
        if self.path.startswith("/s3/"):
            host, _, rest = self.path.removeprefix("/s3/").partition("/")
            ranged = {"range": self.headers["range"]} if "range" in self.headers else {}
            passed = http.request(self.command, f"https://{host}/{rest}", data=body, headers=ranged, timeout=60)
            kept = {name: value for name, value in passed.headers.items() if name.lower() != "content-length"}
            self.reply(passed.status_code, kept, passed.content)
            return
        made.pump()
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = made.call(self.command, self.path.removeprefix("/prod"), body or None, headers)
        here = f"http://{self.headers['host']}/s3/"
        sent = answer.body.replace(b"https://", here.encode()) if answer.json else answer.body
        location = answer.headers.get("location", "")
        self.reply(answer.status, {**answer.headers, "location": location.replace("https://", here)}, sent)

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a deployment whose `iris v1` returns the request's body."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
            patch.setenv(f"AWS_{name}", value)
        with aws_account() as opened:
            made = deploy(opened)
            made.add(IRIS, identity(tmp_path_factory.mktemp("model"), shape=(-1, -1)))
            Front.made = made
            with loopback_server(Front) as url:
                yield url


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(2, id="JSON"),
        pytest.param(5_000, id="binary"),
        pytest.param(1_100_000, id="uploaded, and answered with an address of S3"),
        pytest.param(17_000_000, id="uploaded in two parts", marks=pytest.mark.slow),
    ],
)
def test_client_gets_answers_of_any_size(served: str, rows: int) -> None:
    sent = np.arange(rows, dtype=np.float32).reshape(-1, 1)
    with Client(served, stage="prod") as client:
        pending = client.submit("iris", {"x": sent})
        result = pending.result(timeout_s=60)
    assert np.array_equal(result.outputs["y"], sent)
    assert (result.version, result.share) == ("v1", "baseline")


def test_client_can_repeat_an_identifier_and_cancel(served: str) -> None:
    with Client(served, stage="prod") as client:
        first = client.submit("iris", {"x": ONE}, identifier="order-1")
        assert client.submit("iris", {"x": ONE}, identifier="order-1").id == first.id
        assert first.result(timeout_s=60).outputs["y"].tolist() == [[1.0]]
        with pytest.raises(ApiError) as refused:
            first.cancel()
        assert (refused.value.status, refused.value.code) == (409, "HAS_BEGUN")


def test_clients_error_has_the_versions_error(served: str) -> None:
    with Client(served, stage="prod") as client, pytest.raises(ApiError) as refused:
        client.submit_body("iris", b'{"inputs": {"z": [[1]]}}', {"content-type": "application/json"}).result(60)
    assert refused.value.status == 400
    assert refused.value.code == "UNKNOWN_INPUT"


def test_invoke_async_writes_the_answer_to_a_file(
    served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, out = tmp_path / "request.json", tmp_path / "response.json"
    request.write_text(json.dumps({"inputs": {"x": [[1.5, 2.5]]}}))
    options = ["--async", "--stage", "prod", "--url", served, "--data", f"@{request}"]
    assert run(["invoke", "iris", *options, "-o", str(out)]) == 0
    assert json.loads(out.read_text()) == {"outputs": {"y": [[1.5, 2.5]]}}
    capsys.readouterr()
