"""Try it in a real browser: unusual tensors, cells, pictures, large requests, and the programs to copy."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.test_console_page import Visit, send_and_read, visiting
from tests.browser.test_console_tabs import check_accessible, write_png
from tests.builders.odd_project import write_odd_project
from tests.builders.running_server import PATIENCE_S, RunningServer, running_server
from tests.builders.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_odd_project(tmp_path_factory.mktemp("odd"))
    with running_server(project, "--workers", "1", "--no-access-log") as server:
        yield server


@pytest.fixture(scope="module")
def visit(chromium: Browser, server: RunningServer) -> Iterator[Visit]:
    with visiting(chromium, server) as visit:
        yield visit


def tensor(datatype: str, shape: list[int], data: list[Any], name: str = "x") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


REQUESTS = {
    "text": [tensor("BYTES", [5], ['say "true"', "a, b; c", "", " spaced ", "two\nlines"])],
    "truth": [tensor("BOOL", [2, 2], [True, False, False, True])],
    "half": [tensor("FP16", [1, 4], [0.5, -1.5, "NaN", "-Infinity"])],
    "large": [tensor("INT64", [3], [2**53 + 1, -(2**63), 7])],
    "scalar": [tensor("FP32", [], [2.5])],
    "free": [tensor("FP32", [2, 1, 3], [1, 2, 3, 4, 5, 6])],
    "cube": [tensor("FP32", [2, 2, 3], [*range(12)])],
    "several": [
        tensor("FP32", [2, 2], [1, 2, 3, 4.5], "serving_default_x:0"),
        tensor("BYTES", [1], ["it's true"], "it's"),
        tensor("INT64", [2], [1, 2**62 + 1], "a b"),
    ],
}
"""Model -> inputs; each model returns them."""


def write_json(visit: Visit, inputs: list[dict[str, Any]]) -> None:
    visit.page.get_by_role("tab", name="JSON").click()
    visit.page.get_by_label("Request body").fill(json.dumps({"inputs": inputs}))


@pytest.mark.parametrize("model", REQUESTS)
def test_fields_json_and_answer_keep_every_value(visit: Visit, model: str) -> None:
    visit.open(f"try/{model}")
    write_json(visit, REQUESTS[model])
    visit.page.get_by_role("tab", name="Form").click()
    assert send_and_read(visit)["inputs"] == REQUESTS[model]
    for raw in visit.page.locator(".answer").get_by_role("tab", name="Raw").all():
        raw.click()
    answers = [json.loads(text) for text in visit.page.locator(".answer .output pre").all_inner_texts()]
    assert answers == [each["data"] for each in REQUESTS[model]]
    visit.check_silence()


def test_named_arrays_with_unusual_results_are_shown_and_compared(visit: Visit) -> None:
    page = visit.page
    visit.open("try/ratio")
    page.get_by_label("Compare with").select_option("stage")
    page.get_by_role("tab", name="JSON").click()
    page.get_by_label("Request body").fill('{"inputs": {"a": [0, 1')
    page.locator(".snippets summary").click()
    page.get_by_text("The request is not complete, or not JSON.").wait_for()
    page.get_by_label("Request body").fill('{"inputs": {"a": [0, 1, -1, 3], "b": [0, 0, 0, 2]}}')
    send_and_read(visit)
    second = page.locator(".answer").nth(1)
    second.get_by_text("equal").wait_for()
    assert second.locator("td").all_inner_texts() == ["NaN", "Infinity", "-Infinity", "1.5"]
    page.get_by_role("tab", name="Form").click()
    page.get_by_label("a [1]", exact=True).fill("nan")
    (sent, _) = send_and_read(visit)["inputs"]
    assert sent["data"] == [0, "NaN", -1, 3]
    page.locator(".tries summary").click()
    page.locator(".tries button").nth(1).click()
    assert [page.get_by_label(f"a [{row}]", exact=True).input_value() for row in range(4)] == ["0", "1", "-1", "3"]
    visit.check_silence()


PASTE = """(cell, text) => {
  const data = new DataTransfer();
  data.setData('text/plain', text);
  cell.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
}"""


def test_a_range_of_a_spreadsheet_is_pasted_into_cells(visit: Visit) -> None:
    page = visit.page
    visit.open("try/half")
    cell = page.get_by_label("x [0, 1]", exact=True)
    cell.evaluate(PASTE, "1\t2\t3\t4")
    page.get_by_text("x has 4 columns; what was pasted ends in column 5.").wait_for()
    cell.evaluate(PASTE, "1\t2\t3\r\n4\t5\t6\r\n")
    page.get_by_label("x [1, 0]", exact=True).fill("8")
    (sent,) = send_and_read(visit)["inputs"]
    assert (sent["shape"], sent["data"]) == ([2, 4], [0.5, 1, 2, 3, 8, 4, 5, 6])
    page.get_by_role("button", name="Add a row").click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text('x: row 3: "" is not a number').wait_for()
    page.get_by_role("button", name="Remove row 2 of x").click()
    assert send_and_read(visit)["inputs"] == [sent]
    check_accessible(visit)
    visit.check_silence()


DROP = """async ([field, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, {type}));
  field.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true}));
}"""


def test_settings_of_a_dropped_picture_apply_to_it(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    pixels = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    write_png(tmp_path / "picture.png", pixels)
    data = (tmp_path / "picture.png").read_bytes()
    visit.open("try/picture")
    field = page.locator(".tensor").element_handle()
    page.evaluate(DROP, [field, "picture.png", "image/png", base64.b64encode(data).decode()])
    page.get_by_text("From picture.png: shape [1, 3, 12, 16]").wait_for()
    page.get_by_role("img", name="The picture, 16 by 12, as it is sent").wait_for()
    page.get_by_label("less the mean").fill("0.485, 0.456")
    page.get_by_text("Mean: write one number, or 3 separated by commas").wait_for()
    page.get_by_label("less the mean").fill("0.485, 0.456, 0.406")
    page.get_by_label("divided by the deviation").fill("0.229, 0.224, 0.225")
    (sent,) = send_and_read(visit)["inputs"]
    wanted = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(
        np.reshape(sent["data"], sent["shape"]), wanted.transpose(2, 0, 1)[np.newaxis], rtol=1e-6
    )
    check_accessible(visit)

    visit.open("try/text")  # models that decode pictures themselves take the file
    page.get_by_label("Picture or CSV").set_input_files(tmp_path / "picture.png")
    page.get_by_role("img", name="The picture picture.png").wait_for()
    (sent,) = send_and_read(visit)["inputs"]
    assert (sent["shape"], base64.b64decode(sent["data"][0])) == ([1], data)
    visit.check_silence()


COUNT_SPELLED = """() => {
  const own = window.encodeURIComponent;
  window.spelled = 0;
  window.encodeURIComponent = (text) => {
    window.spelled += String(text).length > 1e6;
    return own(text);
  };
}"""
"""Counts how often the page spells a large request."""

BINARY = """async (inputs) => {
  const { makeBinary } = await import('/console/static/binary.js');
  const { readJson } = await import('/console/static/json.js');
  const read = readJson(inputs);
  const { body, headLength } = makeBinary(read.map((tensor) => ({ tensor, value: tensor })));
  const bytes = new Uint8Array(await body.arrayBuffer());
  return [headLength, [...bytes]];
}"""


def test_large_requests_are_binary(visit: Visit, tmp_path: Path) -> None:
    inputs = [
        tensor("FP32", [3], [1.5, "NaN", "-Infinity"], "a"),
        tensor("INT64", [2], [2**53 + 1, -(2**63)], "b"),
        tensor("UINT8", [2], [0, 255], "c"),
        tensor("BOOL", [2], [True, False], "d"),
    ]
    length, data = visit.page.evaluate(BINARY, json.dumps(inputs))
    head = json.loads(bytes(data[:length]))
    assert [each["parameters"]["binary_data_size"] for each in head["inputs"]] == [12, 16, 2, 2]
    expected = np.array([1.5, "NaN", "-inf"], "<f4").tobytes() + np.array([2**53 + 1, -(2**63)], "<i8").tobytes()
    assert bytes(data[length:]) == expected + b"\x00\xff\x01\x00"

    page = visit.page
    visit.open("try/wide")
    values = np.linspace(0, 1, 150_000, dtype=np.float32)
    np.save(tmp_path / "wide.npy", values[np.newaxis])
    page.get_by_label("CSV or .npy").set_input_files(tmp_path / "wide.npy")
    page.get_by_text("From wide.npy").wait_for()
    with page.expect_response(lambda answer: answer.url.endswith("/inference")) as answered:
        page.get_by_role("button", name="Send", exact=True).click()
    assert answered.value.request.headers["content-type"] == "application/octet-stream"
    (output,) = answered.value.json()["outputs"]
    assert np.array_equal(np.array(output["data"], np.float32), values)
    page.get_by_text("The first 30 of 150000 values of a row.").wait_for()
    page.locator(".snippets summary").click()
    page.get_by_text("--data-binary @request.json").wait_for()
    # The pulse, once a second, draws neither the request nor its code again.
    page.evaluate(COUNT_SPELLED)
    clock = page.locator(".live-data .small").last
    times = [clock.inner_text()]

    def have_come() -> bool:
        time = clock.inner_text()
        if time != times[-1]:
            times.append(time)
        return len(times) > 3

    wait_until(have_come, "three pulses")
    assert page.evaluate("window.spelled") == 0
    page.get_by_role("link", name="Download request.json").wait_for()
    visit.check_silence()


def test_copied_programs_run_and_print_the_answer(visit: Visit, server: RunningServer) -> None:
    page = visit.page
    visit.open("try/several")
    page.evaluate("location.hash = 'try/several/v1'")
    page.get_by_text("POST /dev/models/several/v1/inference").wait_for()
    page.get_by_label(re.compile("^Stage")).select_option("keyed")
    write_json(visit, REQUESTS["several"])
    page.locator("details", has_text="Headers, one per line").locator("summary").click()
    page.get_by_label("Headers, one per line").fill("x-user-id: it's me")
    page.locator(".snippets summary").click()
    page.get_by_role("heading", name="tritonclient").wait_for()
    titles = page.locator(".snippets h3").all_inner_texts()
    programs = dict(zip(titles, page.locator(".snippets pre").all_inner_texts(), strict=True))
    assert [*programs] == ["curl", "Python", "tritonclient", "JavaScript"]
    assert "/keyed/models/several/v1/inference" in programs["curl"]
    assert 'model_version="v1"' in programs["tritonclient"]
    key = send_and_read_key(visit)
    environment = {**os.environ, "TURNOUT_API_KEY": key, "no_proxy": "*", "NO_PROXY": "*"}
    commands = {"curl": ["sh", "-c"], "Python": [sys.executable, "-c"], "tritonclient": [sys.executable, "-c"]}
    if shutil.which("node"):
        commands["JavaScript"] = ["node", "--input-type=module", "-e"]
    for title, command in commands.items():
        run = subprocess.run(
            [*command, programs[title]],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment,
            check=False,
        )
        assert run.returncode == 0, (title, run.stderr)
        assert str(2**62 + 1) in run.stdout, title
        assert "it's true" in run.stdout, title
    visit.check_silence()


def send_and_read_key(visit: Visit) -> str:
    """Send the request; return its API key."""
    with visit.page.expect_request(lambda request: request.url.endswith("/inference")) as sent:
        visit.page.get_by_role("button", name="Send", exact=True).click()
    visit.page.wait_for_selector(".answer .badge.successful")
    assert sent.value.headers["x-user-id"] == "it's me"
    return sent.value.headers["x-api-key"]
