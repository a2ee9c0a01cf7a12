"""The API's documentation in a real browser: navigation from the console to a model and back, without scripts, and
without violations found by axe.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders.running_server import PATIENCE_S, RunningServer, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
WAIT_MS = PATIENCE_S * 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("docs-pages")
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copy(ROOT / "models.yaml", project)
    with running_server(project, "--workers", "1", "--no-access-log") as server:
        yield server


def open_page(browser: Browser, complaints: list[str], **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # A page that is left ends its event stream, and its icon if that has not arrived.
    page.on("requestfailed", lambda request: request.failure == "net::ERR_ABORTED" or complaints.append(request.url))
    return page


def test_navigation_from_the_console_to_a_model_and_back(server: RunningServer, chromium: Browser) -> None:
    complaints: list[str] = []
    page = open_page(chromium, complaints)
    address = re.search(rb"Console: (\S+)", server.stderr.read_bytes())
    assert address is not None
    page.goto(address[1].decode())
    page.get_by_role("link", name="API", exact=True).first.click()
    page.get_by_role("heading", name="Stage dev").wait_for()
    page.get_by_label("Filter models").fill("IRIS")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("1 of 4 models").wait_for()
    page.get_by_role("link", name="iris", exact=True).click()
    page.get_by_role("heading", name="iris v2").wait_for()
    page.get_by_role("link", name="prod", exact=True).click()
    page.get_by_text("POST /prod/models/iris/v1/inference").first.wait_for()
    page.get_by_role("link", name="Try it in the console").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert "iris" in page.url
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark"), (1920, "light")])
def test_pages_fit_and_are_accessible_without_scripts(
    server: RunningServer, chromium: Browser, width: int, scheme: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    complaints: list[str] = []
    size: Any = {"width": width, "height": 900}
    plain = open_page(chromium, complaints, viewport=size, color_scheme=scheme, java_script_enabled=False)
    for path in ("/docs", "/docs/prod/credit", "/docs/dev/iris"):
        plain.goto(f"http://127.0.0.1:{server.port}{path}")
        assert plain.locator("h1").count() == 1
    plain.context.close()
    # needed by axe's script
    checked = open_page(chromium, complaints, viewport=size, color_scheme=scheme, bypass_csp=True)
    for path in ("/docs", "/docs/dev/iris"):
        checked.goto(f"http://127.0.0.1:{server.port}{path}")
        assert checked.evaluate("document.documentElement.scrollWidth <= innerWidth")
        violations = Axe().run(checked).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations] == []
    checked.context.close()
    assert complaints == []


def test_root_redirects_a_browser_but_not_a_frame(server: RunningServer, chromium: Browser) -> None:
    complaints: list[str] = []
    page = open_page(chromium, complaints)
    base = f"http://127.0.0.1:{server.port}"
    page.goto(f"{base}/")
    assert page.url == f"{base}/console/"
    page.goto(f"{base}/docs")
    page.evaluate("document.body.innerHTML = '<iframe src=\"/docs/dev/iris\"></iframe>'")
    page.wait_for_timeout(500)
    assert page.frames[-1].url != f"{base}/docs/dev/iris"
    page.context.close()
