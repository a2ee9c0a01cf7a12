"""Kept requests, disagreements, runs and images in a real browser, with one server and one tab for all tests."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from tests.browser.test_console_page import Visit, send_and_read, visiting
from tests.builders.echo_project import write_echo_project
from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

MANIFEST = """\
platform: turnout
defaults:
  canary: {confidence: 0.8}
models:
  echo: # answers what it is sent
    versions:
      v1: {artifact: models/echo.onnx} # the plain one
      v2: {artifact: models/scaled.onnx}
  same:
    versions: {v1: {artifact: models/echo.onnx}, v2: {artifact: models/echo.onnx}}
  picture: {versions: {v1: {artifact: models/picture.onnx}, v2: {artifact: models/picture.onnx, input: {kind: image}}}}
stages:
  dev:
    serve: {echo: v1, same: v1, picture: v1}
    canary: {percent: 50, serve: {echo: v2}, agreement: {floor: 0.5, percent: 100, rules: {y: {absolute: 3.5}}}}
  steady: {serve: {echo: v1, same: v1, picture: v1}, canary: {percent: 20, serve: {same: v2}}}
"""

HEIGHT, WIDTH = 12, 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_echo_project(tmp_path_factory.mktemp("requests"), MANIFEST)
    write_identity(project / "models" / "picture.onnx", shape=("batch", 3, HEIGHT, WIDTH))
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
    """Check that axe finds no violation, in light and dark mode, and that nothing is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit.page
    for width, scheme in ((390, "dark"), (1920, "light"), (1280, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        if width == 1280:
            rows = Axe().run(page).response["violations"]
            assert [(entry["id"], entry["nodes"][0]["html"][:120]) for entry in rows] == []


def texts_of(cells: Locator) -> list[str]:
    """The text of each cell, drawn or not; waits for the first one."""
    cells.first.wait_for(state="attached")
    return cells.all_text_contents()


def test_requests_are_filtered_replayed_sent_again_and_saved(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.open("requests")
    rows = page.locator("table.requests > tbody > tr")
    page.get_by_text("9 shown of 9 kept").wait_for()
    page.get_by_label("Status").select_option("refused")
    page.get_by_text("1 shown of 9 kept").wait_for()
    page.get_by_label("Status").select_option("answered")
    page.get_by_label(re.compile("^Model")).select_option("echo")
    page.get_by_text("8 shown of 9 kept").wait_for()
    page.get_by_label("Slower than").fill("60000")
    page.get_by_text("0 shown of 9 kept").wait_for()
    page.get_by_label("Slower than").fill("")
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
    assert texts_of(pair.locator("tr.differs > *")) == ["[0, 0]", "4", "8", "4"]
    assert json.loads(page.locator(".kept pre").first.inner_text()) == {"inputs": {"x": [[4, 0, 0, 0]]}}
    page.get_by_label("Send again to").select_option("v2")
    page.get_by_role("button", name="Send again").click()
    page.locator(".kept .answer").get_by_role("cell", name="8", exact=True).wait_for()
    check_accessible(visit)

    page.get_by_label("Example").fill("four")
    page.get_by_role("button", name="Save as example").click()
    page.get_by_text("Added example four of echo").wait_for()
    visit.check_silence()


def test_the_canary_shows_disagreeing_requests_with_both_answers(visit: Visit) -> None:
    page = visit.page
    visit.open("stage/dev")
    page.get_by_text("4 of the latest 8 disagree. 1 could not be compared.").wait_for()
    shown = page.locator(".disagreements details")
    bodies = [json.loads(text or "") for text in shown.locator("pre").all_text_contents()]
    assert [body["inputs"]["x"][0][0] for body in bodies] == [4, 5, 6, 7]
    pair = shown.first.get_by_role("region", name="y: v1 and v2")
    assert texts_of(pair.locator("tr.differs > *")) == ["[0, 0]", "4", "8", "4"]
    assert texts_of(pair.locator("thead th")) == ["Element", "v1", "v2", "Difference"]
    page.get_by_role("button", name="Compare the latest 200").click()
    page.get_by_role("button", name="Compare the latest 200").wait_for()
    check_accessible(visit)
    visit.check_silence()


def begin_run(visit: Visit, bake: str) -> None:
    page = visit.page
    page.get_by_role("button", name="Run", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Steps in percent").fill("30, 60")
    dialog.get_by_label("Minimum time per step").fill(bake)
    dialog.get_by_text(f"turnout canary run steady --steps 30,60 --bake {bake}").wait_for()
    dialog.get_by_role("button", name="Start the run").click()
    page.get_by_text("Run: step 1 of 2, 30%.").wait_for()


def test_a_run_is_started_stopped_and_promoted(visit: Visit, server: RunningServer) -> None:
    page = visit.page
    visit.open("stage/steady")
    begin_run(visit, "600s")
    check_accessible(visit)
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_text("Stopped the run. The canary stays at 30%.").wait_for()
    page.get_by_text("and no console drives it").wait_for()
    assert "percent: 30" in (server.project / "models.yaml").read_text()

    begin_run(visit, "10s")  # a busy machine sends enough requests within three bakes
    ended = page.get_by_text("Promoted: steady serves it to all requests.")
    with server.client() as client:

        def has_ended() -> bool:
            for _ in range(200):
                client.post("/steady/models/same/inference", {"inputs": {"x": [[1, 0, 0, 0]]}})
            return bool(ended.count())

        wait_until(has_ended, "the promotion")
    page.locator("table.history").get_by_text("promote").wait_for()
    assert texts_of(page.locator("table.history tbody tr > :nth-child(5)")) == ["100%", "60%", "30%", "30%"]
    assert "same: v2" in (server.project / "models.yaml").read_text()
    visit.check_silence()


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an RGB image. Source: PNG specification, "5 Datastream structure"."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_an_image_is_sent_as_python_sends_it_and_the_answer_is_shown(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    pixels = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_png(tmp_path / "picture.png", pixels)
    visit.open("try/picture/v1")
    page.get_by_label("Picture, CSV or .npy").set_input_files(tmp_path / "picture.png")
    page.get_by_text("From picture.png").wait_for()
    (sent,) = send_and_read(visit)["inputs"]
    expected = (pixels / 255).astype(np.float32).transpose(2, 0, 1)[np.newaxis]
    assert sent["shape"] == list(expected.shape)
    assert np.array(sent["data"], np.float32).tobytes() == expected.tobytes()

    canvas = page.get_by_role("img", name=f"y as a picture, {WIDTH} by {HEIGHT}")
    canvas.wait_for()
    page.get_by_text("values 0 to 1").wait_for()
    drawn = canvas.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    assert np.array_equal(np.array(drawn, np.uint8).reshape(HEIGHT, WIDTH, 4)[:, :, :3], pixels)
    check_accessible(visit)
    for view in ("Table", "Raw", "Picture"):
        page.get_by_role("tab", name=view).click()
    visit.check_silence()


def test_a_picture_is_sent_as_a_file_to_a_version_that_reads_images(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    pixels = np.random.default_rng(8).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_png(tmp_path / "picture.png", pixels)
    visit.open("try/picture/v2")
    page.get_by_text("image, BYTES").wait_for()
    page.get_by_label("Picture", exact=True).set_input_files(tmp_path / "picture.png")
    page.get_by_text("From picture.png").wait_for()
    (sent,) = send_and_read(visit)["inputs"]
    assert [sent["name"], sent["datatype"], sent["shape"]] == ["image", "BYTES", [1]]
    assert sent["data"] == [base64.b64encode((tmp_path / "picture.png").read_bytes()).decode()]
    page.get_by_role("img", name=f"y as a picture, {WIDTH} by {HEIGHT}").wait_for()
    visit.check_silence()


SHAPES: list[tuple[list[int], str, list[object] | None]] = [
    ([28, 28], "FP32", [28, 28, 1, False]),
    ([1, 28, 32], "FP32", [28, 32, 1, True]),
    ([28, 32, 1], "UINT8", [28, 32, 1, True]),
    ([28, 32, 3], "UINT8", [28, 32, 3, True]),
    ([28, 32, 4], "UINT8", [28, 32, 4, True]),
    ([1, 28, 32, 3], "FP32", [28, 32, 3, True]),
    ([1, 4, 28, 32], "FP32", [28, 32, 4, True]),
    ([2, 3, 28, 32], "FP32", None),
    ([5, 28, 32], "FP32", None),
    ([1, 10], "FP32", None),
    ([3, 4], "FP32", None),
    ([28], "FP32", None),
    ([28, 28], "BYTES", None),
]


def test_image_like_outputs_are_shown_as_images(visit: Visit) -> None:
    visit.open()
    script = """async (cases) => {
        const { pictureLayout } = await import('/console/static/outputs.js');
        return cases.map(([shape, datatype]) => {
            const found = pictureLayout({ shape, datatype });
            return found && [found.height, found.width, found.channels, found.isSure];
        });
    }"""
    assert visit.page.evaluate(script, [[shape, datatype] for shape, datatype, _ in SHAPES]) == [
        row[2] for row in SHAPES
    ]


def test_values_are_converted_to_pixels(visit: Visit) -> None:
    script = """async ([values, datatype]) => {
        const { pixelsOf } = await import('/console/static/outputs.js');
        const layout = { height: 1, width: values.length, channels: 1, first: true, isSure: true };
        const { pixels, note } = pixelsOf(values, layout, datatype);
        return [values.map((_, place) => pixels[4 * place]), note];
    }"""
    for values, datatype, expected, note in (
        ([0, 0.5, 1], "FP32", [0, 128, 255], "values 0 to 1"),
        ([0, 7, 255], "UINT8", [0, 7, 255], "values 0 to 255"),
        ([0, 1, 1], "UINT8", [0, 1, 1], "values 0 to 255"),
        ([-1, 0, 3], "FP32", [0, 64, 255], "values -1 to 3, stretched"),
        ([True, False], "BOOL", [255, 0], "values 0 to 1"),
        ([2, 2], "INT32", [2, 2], "values 0 to 255"),
        ([0, 1000], "INT32", [0, 255], "values 0 to 1000, stretched"),
        (["NaN", 1, "Infinity"], "FP32", [0, 255, 255], "values 0 to 1"),
    ):
        assert visit.page.evaluate(script, [values, datatype]) == [expected, note], values
