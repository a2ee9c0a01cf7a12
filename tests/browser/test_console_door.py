"""Pages of other origins access an open console in a real browser that has the console's cookie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.builders.graphs import write_identity
from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.running_server import PATIENCE_S, RunningServer, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MANIFEST = """
platform: turnout
models:
  echo: {versions: {v1: {artifact: echo.onnx}, v2: {artifact: echo.onnx}}}
stages:
  dev: {serve: {echo: v1}}
"""

ATTACK = """async (target) => {
  const results = {};
  const body = JSON.stringify({action: 'start', stage: 'dev', serve: {echo: 'v2'}, percent: 100, generation: ''});
  const tries = {
    read: () => fetch(target + '/console/state', {credentials: 'include'}),
    blind: () => fetch(target + '/console/act', {method: 'POST', mode: 'no-cors', credentials: 'include', body}),
    json: () => fetch(target + '/console/act', {
      method: 'POST', credentials: 'include', headers: {'content-type': 'application/json'}, body}),
    docs: () => fetch(target + '/docs/dev/echo'),
    services: () => fetch(target + '/turnout/metrics', {mode: 'no-cors'}),
  };
  for (const [name, attempt] of Object.entries(tries)) {
    try { results[name] = (await attempt()).type; } catch (error) { results[name] = 'failed'; }
  }
  results.events = await new Promise((settle) => {
    const source = new EventSource(target + '/console/events', {withCredentials: true});
    source.onmessage = source.onopen = () => { source.close(); settle('open'); };
    source.onerror = () => { source.close(); settle('failed'); };
  });
  results.socket = await new Promise((settle) => {
    const socket = new WebSocket(target.replace('http', 'ws') + '/console/events');
    socket.onopen = () => settle('open');
    socket.onerror = () => settle('failed');
  });
  results.script = await new Promise((settle) => {
    const script = document.createElement('script');
    script.src = target + '/console/static/app.js';
    script.onload = () => settle('open');
    script.onerror = () => settle('failed');
    document.head.append(script);
  });
  return results;
}"""

FORM = """<form method="post" action="{target}/console/act" enctype="text/plain">
<input name='{{"action":"start","stage":"dev","serve":{{"echo":"v2"}},"percent":100,"x":"' value='"}}'></form>"""


class OtherSite(QuietHandler):
    """A server on another port: another origin of the same site if its host is 127.0.0.1, otherwise another site."""

    def do_GET(self) -> None:
        self.respond(200, b"<!doctype html><title>Other</title>", content_type="text/html")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("door")
    write_identity(project / "echo.onnx")
    (project / "models.yaml").write_text(MANIFEST)
    with running_server(project, "--workers", "1", "--no-access-log") as server:
        yield server


@pytest.fixture
def page(server: RunningServer, chromium: Browser) -> Iterator[Page]:
    """A tab of a browser that has opened the console."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    address = re.search(rb"Console: (\S+)", server.stderr.read_bytes())
    assert address is not None
    page.goto(address[1].decode())
    page.wait_for_selector("table.matrix")
    yield page
    context.close()


def check_nothing_changed(project: Path) -> None:
    assert (project / "models.yaml").read_text() == MANIFEST
    assert not (project / "rollouts.jsonl").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_other_origins_can_neither_read_nor_change_anything(server: RunningServer, page: Page, host: str) -> None:
    target = f"http://127.0.0.1:{server.port}"
    with loopback_server(OtherSite) as url:
        port = url.rpartition(":")[2]
        page.goto(f"http://{host}:{port}/")
        results = page.evaluate(ATTACK, target)
        opaque = {name for name, result in results.items() if result == "opaque"}
        assert {name for name, result in results.items() if result != "failed"} == opaque
        assert opaque <= {"blind", "services"}, "answers that no script can read"
        page.set_content(FORM.format(target=target))
        with page.expect_navigation():
            page.evaluate("document.forms[0].submit()")
        assert "another site" in page.inner_text("body")
        page.goto(f"http://{host}:{port}/")
        page.evaluate("(target) => { document.body.innerHTML = `<iframe src='${target}/console/'></iframe>` }", target)
        page.wait_for_timeout(500)
        assert all(not frame.url.startswith(target) for frame in page.frames)
        page.goto(f"http://{host}:{port}/")
        with page.expect_navigation():
            page.evaluate("(target) => { location = `${target}/console/` }", target)
        assert "another site" in page.inner_text("body"), "a link from elsewhere is no visit"
    check_nothing_changed(server.project)


def test_dns_rebinding_gives_no_access(server: RunningServer, chromium: Browser) -> None:
    """The name of another site resolves to this machine; chromium resolves `*.localhost` itself."""
    context = chromium.new_context()
    page = context.new_page()
    address = re.search(rb"Console: (\S+)", server.stderr.read_bytes())
    assert address is not None
    page.goto(address[1].decode().replace("127.0.0.1", "evil.localhost"))
    assert "not an address of this machine" in page.inner_text("body")
    assert context.cookies() == []
    page.goto(f"http://evil.localhost:{server.port}/docs")
    assert "not an address of this machine" in page.inner_text("body")
    page.goto(f"http://evil.localhost:{server.port}/")
    assert "Missing Authentication Token" in page.inner_text("body")
    context.close()


def test_the_page_is_rejected_without_a_token(server: RunningServer, chromium: Browser) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/console/")
    assert "Open the console by the address" in page.inner_text("body")
    page.goto(f"http://127.0.0.1:{server.port}/console?token=guess")
    assert "an earlier start of the server" in page.inner_text("body")
    assert context.cookies() == []
    context.close()
