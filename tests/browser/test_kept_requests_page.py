"""Kept requests, a canary's disagreements and its run in a real browser: one server and one tab for all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_console_page import Visit, visiting
from tests.builders.graphs import write_identity, write_scaled
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MANIFEST = """\
platform: turnout
defaults:
  canary: {confidence: 0.51}
models:
  echo: # answers what it is sent
    versions:
      v1: {artifact: models/echo.onnx} # the plain one
      v2: {artifact: models/scaled.onnx}
  same:
    versions: {v1: {artifact: models/echo.onnx}, v2: {artifact: models/echo.onnx}}
stages:
  dev:
    serve: {echo: v1, same: v1}
    canary: {percent: 50, serve: {echo: v2}, agreement: {floor: 0.5, percent: 100, rules: {y: {absolute: 3.5}}}}
  steady: {serve: {echo: v1, same: v1}, canary: {percent: 20, serve: {same: v2}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("requests")
    write_identity(project / "models" / "echo.onnx")
    write_scaled(project / "models" / "scaled.onnx", 2.0)
    (project / "models.yaml").write_text(MANIFEST)
    capture = project / "capture.jsonl"
    with running_server(project, "--workers", "1", "--no-access-log", "--capture", str(capture)) as server:
        with server.client() as client:
            for number in range(8):
                client.post("/dev/models/echo/inference", {"inputs": {"x": [[number, 0, 0, 0]]}})
            client.post("/dev/models/echo/v1/inference", {"inputs": {"x": [[1, 2]]}})
        wait_until(lambda: len(capture.read_bytes().splitlines()) == 9, "the captured lines")
        yield server


@pytest.fixture(scope="module")
def visit(chromium: Browser, server: RunningServer) -> Iterator[Visit]:
    with visiting(chromium, server) as visit:
        yield visit


def check_accessible(visit: Visit) -> None:
    """No violation that axe finds, light and dark, and nothing wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit.page
    for width, scheme in ((390, "dark"), (1920, "light"), (1280, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        if width == 1280:
            rows = Axe().run(page).response["violations"]
            assert [(entry["id"], entry["nodes"][0]["html"][:120]) for entry in rows] == []


def test_requests_are_filtered_replayed_sent_again_and_saved(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.open("requests")
    rows = page.locator("table.requests > tbody > tr")
    page.get_by_text("9 shown of 9 kept").wait_for()
    page.get_by_label("Status").select_option("refused")
    page.get_by_text("1 shown of 9 kept").wait_for()
    page.get_by_label("Status").select_option("answered")
    page.get_by_label("Model").select_option("echo")
    page.get_by_text("8 shown of 9 kept").wait_for()

    page.get_by_label("compared with").select_option("v1")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_text("50.00% agree: 4 of 8 requests.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the report").click()
    download.value.save_as(tmp_path / "replay.html")
    assert "echo/v2 compared with echo/v1" in (tmp_path / "replay.html").read_text()
    page.get_by_label("Disagreeing only").check()
    assert rows.count() == 4

    page.get_by_role("button", name="Open").last.click()
    pair = page.get_by_role("region", name="y: v1 and v2")
    assert pair.locator("tr.differs").all_inner_texts() == ["[0, 0]\t4\t8\t4"]
    assert json.loads(page.locator(".kept pre").first.inner_text()) == {"inputs": {"x": [[4, 0, 0, 0]]}}
    page.get_by_label("Send again to").select_option("v2")
    page.get_by_role("button", name="Send again").click()
    page.locator(".kept .answer").get_by_role("cell", name="8", exact=True).wait_for()
    check_accessible(visit)

    page.get_by_label("Example").fill("four")
    page.get_by_role("button", name="Save as example").click()
    page.get_by_text("Added example four of echo").wait_for()
    visit.check_silence()


def test_the_canary_shows_the_requests_that_disagree_with_both_answers(visit: Visit) -> None:
    page = visit.page
    visit.open("stage/dev")
    page.get_by_text("4 of the latest 8 disagree. 1 could not be compared.").wait_for()
    shown = page.locator(".disagreements details")
    bodies = [json.loads(text or "") for text in shown.locator("pre").all_text_contents()]
    assert [body["inputs"]["x"][0][0] for body in bodies] == [4, 5, 6, 7]
    pair = shown.first.get_by_role("region", name="y: v1 and v2")
    assert pair.locator("tr.differs").all_inner_texts() == ["[0, 0]\t4\t8\t4"]
    assert pair.locator("thead th").all_inner_texts() == ["Element", "v1", "v2", "Difference"]
    page.get_by_role("button", name="Compare the latest 200").click()
    page.get_by_role("button", name="Compare the latest 200").wait_for()
    check_accessible(visit)
    visit.check_silence()


def test_a_run_is_started_seen_to_move_and_stopped(visit: Visit, server: RunningServer) -> None:
    page = visit.page
    visit.open("stage/steady")
    page.get_by_role("button", name="Run", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Steps in percent").fill("30, 60")
    dialog.get_by_label("At least per step").fill("3s")
    dialog.get_by_text("Then steady goes through 30%, 60%; at least 3 seconds per step;").wait_for()
    dialog.get_by_text("turnout canary run steady --steps 30,60 --bake 3s").wait_for()
    dialog.get_by_role("button", name="Start the run").click()
    page.get_by_text("Run: step 1 of 2, 30%.").wait_for()
    second = page.get_by_text("Run: step 2 of 2, 60%.")
    with server.client() as client:

        def moved() -> bool:
            for _ in range(200):
                client.post("/steady/models/same/inference", {"inputs": {"x": [[1, 0, 0, 0]]}})
            return bool(second.count())

        wait_until(moved, "the second step")
    page.locator(".track [aria-current]", has_text="60%").wait_for()
    check_accessible(visit)
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_text("Stopped the run. The canary stays at 60%.").wait_for()
    page.get_by_text("and no console drives it").wait_for()
    assert "serve: {same: v2}" in (server.project / "models.yaml").read_text()
    assert "percent: 60" in (server.project / "models.yaml").read_text()
    visit.check_silence()
