"""Consumers in the console: what each may do, what it did, and the requests that were kept of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.test_console_page import make_project, visiting
from tests.browser.test_console_tabs import check_accessible
from tests.builders.running_server import TURNOUT, running_server
from tests.builders.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CALLERS = """\
models:
  echo: {versions: {v1: {artifact: models/echo.onnx}}}
  mute: {versions: {v1: {artifact: models/echo.onnx}}}
stages:
  prod:
    serve: {echo: v1, mute: v1}
    auth: api_key
    consumers:
      shop: {models: [echo], throttle: {rate: 10, burst: 20}, quota: {requests: 10000, period: month}}
      old: {expires: "2020-01-01"}
"""


def test_consumers_and_their_requests_are_shown(chromium: Browser, tmp_path: Path) -> None:
    project = make_project(tmp_path, CALLERS)
    command = [*TURNOUT, "keys", "issue", "prod", "shop", "-m", str(project)]
    shop = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    capture = project / "capture.jsonl"
    with running_server(project, "--no-access-log", "--capture", str(capture)) as server:
        for path, key in (("echo", shop), ("echo", shop), ("mute", shop), ("mute", server.api_key("prod"))):
            body = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
            server.post(f"/prod/models/{path}/inference", body, x_api_key=key)
        wait_until(lambda: len(capture.read_bytes().splitlines()) == 3, "the captured lines")
        with visiting(chromium, server, width=1500) as visit:
            page = visit.page
            visit.open("stage/prod")
            table = page.locator("table.consumers")
            limits = r"echo 10\Ws, burst 20 10,000 a month - k1"
            table.get_by_role("row", name=re.compile(rf"^shop {limits} 3 [\d.]+ .* 1 0 0$")).wait_for()
            table.get_by_role("row", name=re.compile(r"^old all - - 2020-01-01 expired k1 0 - - - 0 0 0$")).wait_for()
            table.get_by_role("row", name=re.compile(r"^owner all - - - the stage's 1 ")).wait_for()
            check_accessible(visit)
            table.get_by_role("link", name="shop").click()
            page.get_by_text("2 shown of 3 kept").wait_for()
            assert page.get_by_label("Caller").input_value() == "shop"
            assert page.locator("table.requests tbody td:nth-child(6)").all_text_contents() == ["shop", "shop"]
            page.get_by_label("Caller").select_option("owner")
            page.get_by_text("1 shown of 3 kept").wait_for()
            page.locator("main").get_by_label("Stage").select_option("")
            page.get_by_text("3 shown of 3 kept").wait_for()
            check_accessible(visit)
            visit.check_silence()
