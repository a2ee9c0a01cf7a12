"""CORS in a real browser: a page of another origin calls a server, which allows it or not, according to models.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders.graphs import write_identity
from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.running_server import RunningServer, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MANIFEST = """\
platform: turnout
models:
  echo: {{versions: {{v1: {{artifact: echo.onnx}}, v2: {{artifact: echo.onnx}}}}}}
stages:
  closed: {{serve: {{echo: v1}}}}
  web:
    serve: {{echo: v1}}
    canary: {{percent: 100, serve: {{echo: v2}}}}
    auth: api_key
    cors: {{origins: ["{origin}"], credentials: true}}
  every: {{serve: {{echo: v1}}, cors: {{origins: ["*"]}}}}
  later: {{serve: {{echo: v1}}, cors: {{origins: ["{origin}"], credentials: true}}, async: {{}}}}
"""

CALL = """
async ([url, key, credentials]) => {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: {"content-type": "application/json", "x-api-key": key},
      body: JSON.stringify({instances: [[1, 2, 3, 4]]}),
      credentials,
    });
    return [response.status, response.headers.get("x-turnout-version"), await response.text()];
  } catch (error) {
    return [0, null, String(error)];
  }
}
"""


UPLOAD = """
async ([base, content]) => {
  try {
    const type = {"content-type": "application/json"};
    const announced = await fetch(`${base}/uploads`, {
      method: "POST", headers: type, body: JSON.stringify({bytes: content.length}),
    });
    const upload = await announced.json();
    const sha256 = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content));
    const digest = [...new Uint8Array(sha256)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const address = upload.parts[0].address;
    const part = {method: "PUT", headers: {"x-turnout-sha256": digest}, body: content, credentials: "include"};
    const sent = await fetch(address, part);
    const wrong = await fetch(address.replace("signature=", "signature=0"), {method: "PUT", body: content});
    const accepted = await fetch(`${base}/models/echo/inference`, {
      method: "POST", headers: {...type, prefer: "respond-async", "x-turnout-upload": upload.id},
    });
    const {id} = await accepted.json();
    for (let tries = 0; tries < 600; tries++) {
      const state = await (await fetch(`${base}/requests/${id}`)).json();
      if (state.state !== "queued" && state.state !== "running") break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const answer = await fetch(`${base}/requests/${id}/answer`, {credentials: "include"});
    const text = await answer.text();
    const read = [answer.status, answer.redirected, text.length];
    return [sent.status, sent.headers.get("etag"), `"${digest}"`, wrong.status, ...read];
  } catch (error) {
    return [0, String(error)];
  }
}
"""


class _Page(QuietHandler):
    def do_GET(self) -> None:
        self.respond(200, b"<title>another origin</title>", content_type="text/html")


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Two origins that serve an empty page."""
    with loopback_server(_Page) as first, loopback_server(_Page) as second:
        yield first, second


@pytest.fixture(scope="module")
def server(origins: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("cors")
    write_identity(folder / "echo.onnx")
    (folder / "models.yaml").write_text(MANIFEST.format(origin=origins[0]))
    with running_server(folder, "--workers", "1", "--no-access-log") as server:
        yield server


def call(page: Page, server: RunningServer, stage: str, key: str = "x", credentials: str = "omit") -> list[Any]:
    url = f"http://127.0.0.1:{server.port}/{stage}/models/echo/inference"
    result: list[Any] = page.evaluate(CALL, [url, key, credentials])
    return result


def test_page_of_an_allowed_origin_reads_answers_and_errors(
    chromium: Browser, server: RunningServer, origins: tuple[str, str]
) -> None:
    key = server.api_key("web")
    page = chromium.new_page()
    try:
        page.goto(origins[0])
        for credentials in ("omit", "include"):
            status, version, text = call(page, server, "web", key, credentials)
            assert (status, version) == (200, "v2"), text
            status, _, text = call(page, server, "web", "a wrong key", credentials)
            assert (status, text) == (403, '{"message":"Forbidden"}')
        assert call(page, server, "closed")[0] == 0
        assert call(page, server, "every")[:2] == [200, "v1"]
        assert call(page, server, "every", credentials="include")[0] == 0
    finally:
        page.close()


def test_page_sends_a_large_body_and_fetches_a_large_answer(
    chromium: Browser, server: RunningServer, origins: tuple[str, str]
) -> None:
    base = f"http://127.0.0.1:{server.port}/later"
    content = json.dumps({"instances": [[0.125, 0.25, 0.5, 0.75]] * 200_000})
    page = chromium.new_page()
    try:
        page.goto(origins[0])
        sent, etag, digest, wrong, status, redirected, length = page.evaluate(UPLOAD, [base, content])
        assert (sent, etag, wrong) == (200, digest, 403)
        assert (status, redirected) == (200, True)  # to a signed address
        assert length > 4 * 1024 * 1024
        page.goto(origins[1])
        assert page.evaluate(UPLOAD, [base, content])[0] == 0
    finally:
        page.close()


def test_page_of_another_origin_cannot_read_answers(
    chromium: Browser, server: RunningServer, origins: tuple[str, str]
) -> None:
    page = chromium.new_page()
    try:
        page.goto(origins[1])
        assert call(page, server, "web", server.api_key("web"))[0] == 0
        assert call(page, server, "closed")[0] == 0
        assert call(page, server, "every")[:2] == [200, "v1"]
    finally:
        page.close()
