"""The console in a real browser, against a real server: what a user sees and does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import PATIENCE_S, TURNOUT, RunningServer, running_server
from tests.builders.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MANIFEST = """\
# What this project serves.
platform: turnout
models:
  echo: # answers what it is sent
    versions:
      v1: {artifact: models/echo.onnx}
      v2: {artifact: models/echo.onnx}
stages:
  dev: {serve: {echo: v1}} # the first one
  prod: {serve: {echo: v1}}
"""

WAIT_MS = PATIENCE_S * 1000

FILLED = ".tensor td input, .tensor td select, .tensor textarea, textarea.json"
"""The fields of Try it that a sample fills."""


class Visit:
    """One tab with the console, and the browser's error messages."""

    def __init__(self, page: Page, server: RunningServer) -> None:
        self.page = page
        self.server = server
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.open()

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def open(self, place: str = "") -> None:
        address = re.search(rb"Console: (\S+)", self.server.stderr.read_bytes())
        assert address is not None
        self.page.goto(address[1].decode())
        self.page.wait_for_selector("table.matrix, .loading")
        if place:
            self.page.evaluate(f"location.hash = {json.dumps(place)}")
        if place.startswith("try/"):  # wait until a sample fills the fields; text typed before would be mixed with it
            from playwright.sync_api import expect

            expect(self.page.locator(FILLED).first).not_to_have_value("", timeout=WAIT_MS)

    def check_silence(self) -> None:
        assert self.complaints == []
        assert self.hosts == {f"127.0.0.1:{self.server.port}"}


def make_project(folder: Path, manifest: str = MANIFEST) -> Path:
    (folder / "models").mkdir()
    write_identity(folder / "models" / "echo.onnx")
    (folder / "models.yaml").write_text(manifest)
    return folder


@contextmanager
def visiting(chromium: Browser, server: RunningServer, width: int = 1280, scheme: Any = "light") -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        yield Visit(context.new_page(), server)
    finally:
        context.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(make_project(tmp_path), "--workers", "2", "--no-access-log") as server:
        yield server


@pytest.fixture(scope="module")
def canary_server(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose stage dev has a canary with one request, for tests that change no stage."""
    project = make_project(tmp_path_factory.mktemp("canary"))
    with running_server(project, "--workers", "2", "--no-access-log") as server:
        with visiting(chromium, server) as visit:
            start_canary(visit, "50")
            visit.page.get_by_text("Started canary on dev").wait_for()
        server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
        yield server


PLACES = {"stage/dev": "table.shares", "try/echo/v1": ".tensor", "plan": "h3:text-is('Functions')", "": "table.matrix"}
"""Place -> selector of an element that exists once the place's data has arrived."""


def show(visit: Visit, place: str) -> None:
    """Go to a place, and wait until it is complete and drawn."""
    from playwright.sync_api import expect

    visit.page.evaluate(f"location.hash = {json.dumps(place)}")
    visit.page.wait_for_selector(PLACES[place])
    if place.startswith("try/"):
        expect(visit.page.locator(FILLED).first).not_to_have_value("", timeout=WAIT_MS)
    visit.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def start_canary(visit: Visit, percent: str) -> None:
    page = visit.page
    page.get_by_role("button", name="dev", exact=True).click()
    page.get_by_role("button", name="Start a canary").click()
    page.get_by_label("echo now v1").select_option("v2")
    page.get_by_label("Share of the stage's requests").fill(percent)
    page.wait_for_selector(".says")
    page.get_by_role("button", name=re.compile("^Start at")).click()


def test_a_canary_is_started_watched_and_promoted(chromium: Browser, server: RunningServer) -> None:
    with visiting(chromium, server) as visit:
        page = visit.page
        start_canary(visit, "30")
        page.get_by_text("Started canary on dev: echo v2 gets 30% of requests (baseline v1).").wait_for()
        text = (server.project / "models.yaml").read_text()
        assert "# What this project serves." in text
        assert "# answers what it is sent" in text
        assert "percent: 30" in text

        with server.client() as client:
            body = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
            seen = [client.post("/dev/models/echo/inference", body).headers["x-turnout-version"] for _ in range(1000)]
        # Six standard deviations of a draw of 1,000 at 30%.
        assert 300 - 6 * 14.5 < seen.count("v2") < 300 + 6 * 14.5

        page.wait_for_selector(".verdict.successful, .verdict.inconclusive")
        page.get_by_role("row", name=re.compile("^canary ")).get_by_text(f"{seen.count('v2')}", exact=True).wait_for()
        page.get_by_text("No request has failed so far.").wait_for()
        page.locator("dl.facts").get_by_text(re.compile(r"expected 2\d(\.\d)?% to 3\d(\.\d)?% \(99%\)")).wait_for()
        page.locator(".check canvas").first.wait_for()
        page.set_viewport_size({"width": 390, "height": 900})
        fits = "canvas => canvas.getBoundingClientRect().right <= document.documentElement.clientWidth"
        wait_until(lambda: bool(page.locator(".check canvas").first.evaluate(fits)), "a chart that fits the window")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("button", name="Promote", exact=True).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Then dev serves echo v2 to all requests.").wait_for()
        if dialog.get_by_text("Type dev to confirm").count():
            dialog.locator("input[name=typed]").fill("dev")
        dialog.get_by_role("button", name="Promote", exact=True).click()
        page.get_by_text("Promoted: dev serves echo v2 to all requests.").wait_for()
        record = server.project / "rollouts.jsonl"
        rollouts = [json.loads(line) for line in record.read_text().splitlines()]
        page.locator("table.history tbody tr").nth(1).wait_for()
        promotion, start = page.locator("table.history tbody tr").all()
        assert rollouts[0]["who"] in start.inner_text()
        assert f"v2 {rollouts[0]['digests']['echo']['v2']}" in start.inner_text()
        promotion.get_by_text("Diff").click()
        assert "+  dev: {serve: {echo: v2}} # the first one" in promotion.locator("pre .added").all_inner_texts()[0]
        old = {key: value for key, value in rollouts[0].items() if key != "diff"}
        record.write_text("".join(f"{json.dumps(entry)}\n" for entry in (old, rollouts[1])))
        start.get_by_text("diff not recorded").wait_for()
        visit.check_silence()

    assert [(rollout["action"], rollout["done"]) for rollout in rollouts] == [("start", True), ("promote", True)]
    answer = server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
    assert answer.headers["x-turnout-version"] == "v2"


def test_promotion_of_production_requires_typing_its_name(chromium: Browser, server: RunningServer) -> None:
    with visiting(chromium, server) as visit:
        page = visit.page
        page.get_by_role("button", name="prod", exact=True).click()
        page.get_by_role("button", name="Start a canary").click()
        page.get_by_label("echo now v1").select_option("v2")
        page.wait_for_selector(".says")
        page.get_by_role("button", name=re.compile("^Start at")).click()
        page.get_by_text("Started canary on prod").wait_for()
        page.get_by_role("button", name="Promote", exact=True).click()
        dialog = page.get_by_role("dialog")
        button = dialog.get_by_role("button", name="Promote", exact=True)
        field = dialog.locator("input[name=typed]")
        field.wait_for()
        assert button.is_disabled()
        field.fill("pro")
        assert button.is_disabled()
        field.fill("prod")
        button.click()
        page.get_by_text("Promoted: prod serves echo v2").wait_for()


def test_an_outdated_change_from_a_second_tab_is_rejected(chromium: Browser, server: RunningServer) -> None:
    with visiting(chromium, server) as first, visiting(chromium, server) as second:
        page = second.page
        page.get_by_role("button", name="dev", exact=True).click()
        page.get_by_role("button", name="Start a canary").click()
        page.get_by_label("echo now v1").select_option("v2")
        page.wait_for_selector(".says")
        # The second tab does not receive the first tab's events.
        page.route("**/console/events", lambda route: route.abort())
        page.route("**/console/state", lambda route: route.abort())
        start_canary(first, "20")
        first.page.get_by_text("Started canary on dev").wait_for()
        page.get_by_role("button", name=re.compile("^Start at")).click()
        page.get_by_role("dialog").get_by_text("has changed since this page was loaded").wait_for()
    assert "percent: 20" in (server.project / "models.yaml").read_text()


def send_and_read(visit: Visit) -> dict[str, Any]:
    """Return the body that the page sends."""
    with visit.page.expect_request(lambda request: request.url.endswith("/inference")) as sent:
        visit.page.get_by_role("button", name="Send", exact=True).click()
    visit.page.wait_for_selector(".answer .badge.successful")
    body: dict[str, Any] = json.loads(sent.value.post_data or "")
    return body


def test_files_produce_the_same_request_as_the_python_client(
    chromium: Browser, canary_server: RunningServer, tmp_path: Path
) -> None:
    values = np.array([[0.1, -2.5, 3e-7, 4], [5, 6, 7, 8.25]], np.float32)
    np.save(tmp_path / "rows.npy", values)
    (tmp_path / "rows.csv").write_text("a,b,c,d\n" + "\n".join(",".join(map(repr, entry)) for entry in values.tolist()))
    expected = {"name": "x", "datatype": "FP32", "shape": [2, 4]}
    with visiting(chromium, canary_server) as visit:
        visit.open("try/echo/v1")
        field = visit.page.get_by_label("CSV or .npy")
        for name in ("rows.npy", "rows.csv"):
            field.set_input_files(tmp_path / name)
            visit.page.wait_for_timeout(200)
            (sent,) = send_and_read(visit)["inputs"]
            assert {key: sent[key] for key in expected} == expected, name
            assert np.array_equal(np.array(sent["data"], np.float32).reshape(2, 4), values), name
            if name.endswith("npy"):
                visit.page.get_by_role("button", name="Remove").click()
        visit.check_silence()


def test_form_and_json_stay_in_sync(chromium: Browser, canary_server: RunningServer) -> None:
    with visiting(chromium, canary_server) as visit:
        visit.open("try/echo/v1")
        page = visit.page
        page.get_by_role("tab", name="Text").click()
        page.get_by_label(re.compile("^x: one row per line")).fill("1, 2, 3, 4\n5\t6\t7\t8".replace(", ", "\t"))
        page.get_by_role("tab", name="JSON").click()
        body = page.get_by_label("Request body")
        assert json.loads(body.input_value())["inputs"][0]["shape"] == [2, 4]
        body.fill(body.input_value().replace("8", "9"))
        page.get_by_role("tab", name="Form").click()
        page.get_by_role("tab", name="Text").click()
        assert page.get_by_label(re.compile("^x: one row per line")).input_value() == "1, 2, 3, 4\n5, 6, 7, 9"
        page.get_by_label(re.compile("^x: one row per line")).fill("1, 2, 3\n4, 5, 6, 7")
        page.get_by_role("button", name="Send", exact=True).click()
        page.get_by_text("x: row 2 has 4 values, the first has 3").wait_for()
        visit.check_silence()


def test_two_versions_are_shown_side_by_side(chromium: Browser, canary_server: RunningServer) -> None:
    with visiting(chromium, canary_server) as visit:
        visit.open("try/echo/v1")
        visit.page.get_by_label("Compare with").select_option("v2")
        visit.page.get_by_role("button", name="Send", exact=True).click()
        visit.page.locator(".answer").nth(1).get_by_text("equal").wait_for()
        assert visit.page.locator(".answer h3").all_inner_texts()[0].startswith("v1")


def test_a_list_of_a_thousand_models_draws_only_visible_rows(chromium: Browser, tmp_path: Path) -> None:
    version = "{artifact: models/echo.onnx}"
    two = f"{{v1: {version}, v2: {version}}}"
    versions = [two if number < 20 else f"{{v1: {version}}}" for number in range(1000)]
    models = "".join(f"  echo{number}:\n    versions: {each}\n" for number, each in enumerate(versions))
    manifest = f'platform: turnout\nmodels:\n{models}stages:\n  dev: {{serve: {{"*": newest}}}}\n'
    with (
        running_server(make_project(tmp_path, manifest), "--workers", "1") as server,
        visiting(chromium, server) as visit,
    ):
        page = visit.page
        page.get_by_role("button", name="▸ echo0", exact=True).wait_for()
        rows = page.locator("table.matrix tbody tr")
        assert rows.count() < 80
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.get_by_role("button", name="▸ echo999", exact=True).wait_for()
        assert rows.count() < 80
        page.keyboard.press("Control+k")
        page.keyboard.type("echo500")
        page.keyboard.press("Enter")
        opened = page.get_by_role("button", name="▾ echo500", exact=True)
        opened.wait_for()
        assert rows.count() < 90
        opened.click()
        page.get_by_label("Filter").fill("echo77")
        page.get_by_role("button", name="▸ echo770", exact=True).wait_for()
        assert rows.count() == 11
        page.get_by_role("button", name="dev", exact=True).click()
        page.get_by_role("button", name="Start a canary").click()
        choices = page.get_by_role("dialog").locator(".choices select")
        choices.first.wait_for()
        assert choices.count() == 10
        page.get_by_label("Find a model").fill("echo19")
        page.get_by_label("echo19 now v2").select_option("v1")
        page.get_by_label("Find a model").fill("")
        page.locator(".says", has_text="echo19 v1 gets 10% of requests").wait_for()
        assert choices.count() == 11, "what is chosen stays in sight"
        visit.check_silence()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_page_is_wider_than_the_window(chromium: Browser, canary_server: RunningServer, width: int) -> None:
    with visiting(chromium, canary_server, width, "dark") as visit:
        for place in PLACES:
            show(visit, place)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, place


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_no_violations(chromium: Browser, canary_server: RunningServer, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with visiting(chromium, canary_server, scheme=scheme) as visit:
        for place in PLACES:
            show(visit, place)
            if not place:
                visit.page.get_by_role("button", name="▸ echo", exact=True).click()
            result = Axe().run(visit.page)
            results = [
                (violation["id"], violation["nodes"][0]["html"][:120]) for violation in result.response["violations"]
            ]
            assert results == [], place


def test_the_page_without_its_token_is_rejected(chromium: Browser, canary_server: RunningServer) -> None:
    server, before = canary_server, (canary_server.project / "models.yaml").read_bytes()
    context = chromium.new_context()
    try:
        page = context.new_page()
        answer = page.goto(f"http://127.0.0.1:{server.port}/console/")
        assert answer is not None
        assert answer.status == 403
        # Now send the request from a page of another site.
        page.goto("data:text/html,<form method=post></form>")
        script = """async (url) => { try { await fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include',
            body: '{}'}); return 'sent'; } catch (error) { return 'refused'; } }"""
        page.evaluate(script, f"http://127.0.0.1:{server.port}/console/act")
    finally:
        context.close()
    assert (server.project / "models.yaml").read_bytes() == before


KILLER = """
import os, sys
log, *pids = sys.argv[1:]
inode = os.stat(log).st_ino
print("ready", flush=True)
while os.stat(log).st_ino == inode:
    pass
for pid in map(int, pids):
    os.kill(pid, 9)
"""
"""A process that kills others as soon as the record is written: the rollout has started, and its effects are still to
come.
"""

MOST_KILLS = 4


def processes_of(server: RunningServer) -> list[str]:
    """The supervisor and all of its descendants."""
    results = [str(server.process.pid)]
    for pid in results:
        results += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return results


def promote_and_kill(visit: Visit, record: Path) -> None:
    """Promote in the page, and kill the server when the promotion starts."""
    page = visit.page
    page.get_by_role("button", name="Promote", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[name=typed]").fill("dev")
    command = (sys.executable, "-c", KILLER, str(record), *processes_of(visit.server))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdout is not None
        assert killer.stdout.readline() == "ready\n"
        dialog.get_by_role("button", name="Promote", exact=True).click()
        assert killer.wait(PATIENCE_S) == 0
    visit.server.process.wait(PATIENCE_S)


def test_a_promotion_interrupted_by_a_killed_server_is_mended(chromium: Browser, tmp_path: Path) -> None:
    project = make_project(tmp_path)
    record = project / "rollouts.jsonl"
    for _ in range(MOST_KILLS):  # on a busy machine the kill may arrive after everything is done
        with (
            running_server(project, "--workers", "2", "--no-access-log") as server,
            visiting(chromium, server) as visit,
        ):
            start_canary(visit, "30")
            visit.page.get_by_text("Started canary on dev").wait_for()
            promote_and_kill(visit, record)
        last = json.loads(record.read_text().splitlines()[-1])
        if not last["done"]:
            break
        (project / "models.yaml").write_text(MANIFEST)
    assert (last["action"], last["done"]) == ("promote", False)

    with running_server(project, "--workers", "1", "--no-access-log") as server:
        with visiting(chromium, server) as visit:
            page = visit.page
            page.get_by_role("button", name="dev", exact=True).click()
            page.get_by_text(
                "`turnout canary promote dev` was interrupted. Finish it with `turnout canary mend`."
            ).wait_for()
            assert page.get_by_role("button", name="Start a canary").is_disabled()
            url = f"http://127.0.0.1:{server.port}"
            command = (*TURNOUT, "canary", "mend", "--url", url, "--manifest", str(project))
            mended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
            assert mended.returncode == 0, mended.stderr
            page.reload()
            page.wait_for_selector("table.history tbody tr")
            assert page.locator("table.history").get_by_text("interrupted").count() == 0
            page.get_by_role("button", name=re.compile("dev: v2$")).wait_for()
            page.get_by_text("dev has no canary. Every request sees what the stage serves.").wait_for()
            assert page.get_by_role("button", name="Start a canary").is_enabled()
            visit.check_silence()
        body = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
        versions = {server.post("/dev/models/echo/inference", body).headers["x-turnout-version"] for _ in range(20)}
    assert versions == {"v2"}
    assert "dev: {serve: {echo: v2}} # the first one" in (project / "models.yaml").read_text()
    assert not list(project.glob(".*.turnout-*"))


def test_figures_of_versions_and_stages_are_shown(chromium: Browser, canary_server: RunningServer) -> None:
    with visiting(chromium, canary_server) as visit:
        page = visit.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for stage in ("dev", "prod"):
            canary_server.post(f"/{stage}/models/echo/v1/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
        page.get_by_role("button", name="▸ echo", exact=True).click()
        version = page.locator("tr.opened tbody tr").first
        version.get_by_text("prod").first.wait_for()
        assert "x86_64" in version.inner_text() or "arm64" in version.inner_text()
        page.get_by_role("button", name="Copy the digest of echo v1").click()
        page.get_by_role("button", name="Copy the digest of echo v1").get_by_text("Copied").wait_for()
        digest = page.evaluate("navigator.clipboard.readText()")
        assert re.fullmatch("[0-9a-f]{64}", digest)
        page.locator("summary", has_text="Requests/s of the last 15 minutes").click()
        page.locator("table.minutes tbody tr").first.wait_for()
        page.get_by_label("Go to a stage").select_option("prod")
        page.get_by_role("heading", name="Stage prod").wait_for()
        visit.check_silence()


TRAFFIC = """async ([models, pulses]) => {
  const { withTraffic, figureOf } = await import('/console/static/figures.js');
  let moments = [];
  for (let second = 0; second < pulses; second++) {
    const rows = Array.from({length: models}, (_, n) => ({
      model: `m${n}`, version: 'v1', stage: 'dev', requests: second * (n + 1), errors: second,
      durations: [second * n, second],
    }));
    const run = second < 5 ? 'old' : 'new';
    moments = withTraffic(moments, {run, time: 1e9 + second, bounds_s: [0.1, 1], rows, callers: []});
  }
  const figure = figureOf(moments, 'm9');
  return {kept: moments.length, first: moments[0].time - 1e9, figure, stage: figureOf(moments, 'm9 v1 dev').perSecond,
    none: figureOf(moments, 'other')};
}"""


def test_figures_cover_the_last_15_minutes(chromium: Browser, canary_server: RunningServer) -> None:
    with visiting(chromium, canary_server) as visit:
        seen = visit.page.evaluate(TRAFFIC, [20, 1200])
    assert seen["kept"] < 80, "history is thinned out"
    assert 1199 - 900 - 30 <= seen["first"] <= 1199 - 900
    figure = seen["figure"]
    assert figure["perSecond"] == pytest.approx(10)
    assert seen["stage"] == pytest.approx(10)
    assert figure["errors"] == pytest.approx(10)
    assert (figure["p50"], figure["p99"]) == (0.1, 1)
    assert len(figure["line"]) >= 55
    assert figure["line"] == pytest.approx([10] * len(figure["line"]))
    assert 14 <= len(figure["minutes"]) <= 16
    assert seen["none"] is None


SEVERAL = """\
models:
  echo: {versions: {v1: {artifact: models/echo.onnx}, v2: {artifact: models/echo.onnx}}}
  mute: {versions: {v1: {artifact: models/echo.onnx}, v2: {artifact: models/echo.onnx}}}
stages:
  dev:
    serve: {echo: v1, mute: v1}
    canary: {percent: 20, serve: {echo: v2}}
    routed_canaries: {mute: {version: v2, percent: 100}}
"""


def test_each_canary_of_a_stage_is_shown_and_promoted_by_itself(chromium: Browser, tmp_path: Path) -> None:
    project = make_project(tmp_path, SEVERAL)
    with running_server(project, "--no-access-log") as server, visiting(chromium, server) as visit:
        page = visit.page
        for _ in range(3):
            server.post("/dev/models/mute/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
        visit.open("stage/dev")
        table = page.locator("table.canaries")
        table.get_by_role("row", name=re.compile("echo v2 instead of v1 20%")).wait_for()
        table.get_by_role("row", name=re.compile("mute v2 instead of v1 100% routed 3 of 3")).wait_for()
        page.get_by_role("heading", name="mute: requests on which v1 and v2 disagree").wait_for()
        page.get_by_role("button", name="Promote: mute").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Then dev serves mute v2 to all requests.").wait_for()
        assert "turnout canary promote dev --model mute --now" in dialog.inner_text()
        confirmation = dialog.locator("input[name=typed]")
        if confirmation.count():
            confirmation.fill("dev")
        dialog.get_by_role("button", name="Promote", exact=True).click()
        page.get_by_text("Promoted: dev serves mute v2 to all requests.").wait_for()
        page.locator("dl.facts").get_by_text("instead of v1").wait_for()
        table.wait_for(state="detached")
        visit.check_silence()
    assert "routed_canaries" not in (project / "models.yaml").read_text()
